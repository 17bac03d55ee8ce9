from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from accounts.demo import DEMO_PASSWORD, NotADemo, demo_logins


class Command(BaseCommand):
    help = "Makes a demo person and a demo operator (DEBUG only) and prints both logins: e-mail, password."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--password", default=DEMO_PASSWORD, help="for both (default: %(default)s)")

    def handle(self, *args: Any, password: str, **options: Any) -> None:
        try:
            logins = demo_logins(password)
        except NotADemo as error:
            raise CommandError(str(error)) from error
        for login in logins:
            self.stdout.write(f"{login.email} {login.password}")
