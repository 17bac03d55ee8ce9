import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db.utils import OperationalError
from psycopg_pool import PoolTimeout

from billing import audit
from billing.audit import Report
from billing.credits import as_string
from chatapp.streaming.audit import RULES


class Command(BaseCommand):
    help = "Proves the books: a summary and exit code 0, or every row that breaks a rule and exit code 1."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="one JSON object, for machines")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            report = audit.prove(RULES)
        except (OperationalError, PoolTimeout) as error:
            raise CommandError(
                "PostgreSQL does not answer, so nothing was proved. That of `make run` is there while it runs: "
                f"start it first. ({type(error).__name__})"
            ) from error
        self.stdout.write(_as_json(report) if options["json"] else _as_text(report))
        if not report.ok:
            rows = sum(map(len, report.broken.values()))
            raise CommandError(f"The books are wrong: {rows} broken row{'s' if rows > 1 else ''}.")


def _as_text(report: Report) -> str:
    lines = []
    for rule in RULES:
        if rows := report.broken[rule.name]:
            lines += [f"# {rule.says}", *map(str, rows), ""]
    if lines:
        lines += ["Amounts above are microcredits.", ""]
    lines += [
        f"accounts             {report.accounts:,}",
        f"transfers            {report.transfers:,}",
        f"holds                {report.holds:,}, of which {report.pending_holds:,} pending",
        f"credits outstanding  {as_string(report.outstanding)}, of which {as_string(report.held)} held",
        f"credits owed to us   {as_string(report.debts)}",
        f"of deleted accounts  {as_string(report.of_deleted)}, which nobody can use, and "
        f"{as_string(report.debts_of_deleted)} owed, which nobody repays",
        f"rules                {sum(not rows for rows in report.broken.values())} of {len(report.broken)} hold",
        f"time taken           {report.seconds:.1f} s",
    ]
    if report.ok:
        lines.append("The books are right.")
    return "\n".join(lines)


def _as_json(report: Report) -> str:
    return json.dumps(
        {
            "ok": report.ok,
            "accounts": report.accounts,
            "transfers": report.transfers,
            "holds": report.holds,
            "pending_holds": report.pending_holds,
            "outstanding": as_string(report.outstanding),
            "debts": as_string(report.debts),
            "of_deleted_accounts": as_string(report.of_deleted),
            "debts_of_deleted_accounts": as_string(report.debts_of_deleted),
            "held": as_string(report.held),
            "seconds": round(report.seconds, 3),
            "rules": {rule: len(rows) for rule, rows in report.broken.items()},
            "broken": [
                {"rule": row.rule, "row": row.row, "expected": row.expected, "found": row.found}
                for rows in report.broken.values()
                for row in rows
            ],
        },
        indent=2,
    )
