"""manage.py runserver: says how Chatapp is served. Django's own server knows no WebSockets, and would not stream."""

from typing import Any

from django.core.management import BaseCommand, CommandError
from django.core.management.base import CommandParser


class Command(BaseCommand):
    help = "Says how Chatapp is served: not by Django's development server."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("addrport", nargs="?")

    def handle(self, **_options: Any) -> None:
        raise CommandError(
            "Chatapp is not served by Django's development server. Type `make run`; or, with servers of your own, "
            "`python -m chatapp.serve --host 127.0.0.1 --port 8000`."
        )
