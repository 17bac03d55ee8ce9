from argparse import ArgumentParser, ArgumentTypeError
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from billing import reconciliation
from billing.errors import AlreadyReconciling
from billing.models import Discrepancy

MOST_DAYS = 365


class Command(BaseCommand):
    help = "Holds the books against Stripe's and mends what events did not bring; exit code 1 if anything stands open."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--days",
            type=_days,
            default=reconciliation.DAYS,
            help="how far to look back (default: %(default)s)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            run = reconciliation.reconcile(options["days"])
        except AlreadyReconciling as error:
            raise CommandError(str(error)) from error
        if run.error:
            raise CommandError(f"The comparison failed: {run.error}")
        counts = ", ".join(f"{count:,} {name}" for name, count in run.checked.items())
        self.stdout.write(f"Compared since {run.since:%Y-%m-%d %H:%M} UTC: {counts}.")
        for found in run.discrepancies.filter(mended=True).order_by("pk"):
            self.stdout.write(f"mended: {_line(found)}")
        open_ones = list(Discrepancy.objects.open().order_by("pk"))
        for found in open_ones:
            self.stdout.write(f"open: {_line(found)}")
        if open_ones:
            raise CommandError(f"{len(open_ones)} stand open: look into them in the admin.")
        self.stdout.write("Nothing stands open.")


def _days(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MOST_DAYS:
        raise ArgumentTypeError(f"give a number of days from 1 to {MOST_DAYS}")
    return int(text)


def _line(found: Discrepancy) -> str:
    order = f" (order {found.order_id})" if found.order_id else ""
    return f"{found.says}{order} Expected {found.expected}, found {found.found}."
