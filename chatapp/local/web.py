"""The web process of `make run`: brings the database up to date, makes the demo logins, and serves like any other.

All in one process, because each further one would cost the start another two seconds of imports.
"""

import argparse
import gc
import io
import os
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import django
import psycopg
from django.conf import settings
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection, connections
from django.db.migrations.executor import MigrationExecutor

from chatapp.serve import load_provider, refuse, serve

# Whoever presses Ctrl-C does not want to wait for an answer.
DRAIN_SECONDS = 1.0


def main() -> None:
    """Serve on an inherited socket. When ready, write the demo logins, one a line, and `ready` to `--ready`."""
    parser = argparse.ArgumentParser(prog="python -m chatapp.local.web")
    parser.add_argument("--listener", type=int, required=True, help="file descriptor of a bound socket")
    parser.add_argument("--ready", type=int, required=True, help="file descriptor to write to")
    parser.add_argument("--patience", type=float, required=True, help="seconds to wait for the database")
    asked = parser.parse_args()
    gc.disable()  # what imports make stays; `serve` collects once, when they are done
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "chatapp.settings")
    django.setup()
    wait_for_database(os.environ["DATABASE_URL"], asked.patience)
    migrate()
    # Checking a password takes most of a second outside the interpreter's lock: time to import the views.
    aside = ThreadPoolExecutor(max_workers=1)
    logins = aside.submit(demo_logins)

    def when_ready() -> None:
        with open(asked.ready, "w") as ready:
            ready.write(f"{logins.result()}ready\n")
        # In production this comes first. Here the page is worth more than the first answer's first two seconds.
        aside.submit(load_provider)

    serve(socket.socket(fileno=asked.listener), drain_seconds=DRAIN_SECONDS, when_ready=when_ready)


def wait_for_database(url: str, patience: float) -> None:
    """Return as soon as it lets us in; after `patience` seconds end the process with a line that says why not."""
    deadline = time.monotonic() + patience
    while True:
        try:
            psycopg.connect(url, connect_timeout=3).close()
            return
        except psycopg.OperationalError as error:
            if time.monotonic() > deadline:
                refuse(f"PostgreSQL cannot be reached at DATABASE_URL: {str(error).strip().splitlines()[-1]}")
        time.sleep(0.05)


def migrate() -> None:
    """Apply what is missing. Seeing that nothing is takes a tenth of what Django's own command takes to say so."""
    executor = MigrationExecutor(connection)
    missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
    if missing:
        try:
            call_command("migrate", interactive=False, verbosity=0)
        except CommandError as error:
            refuse(f"the database cannot be brought up to date: {error}")
        print(f"brought the database up to date: {len(missing)} migrations")
    connections.close_all()


def demo_logins() -> str:
    """E-mail and password of each demo login, one a line; none outside DEBUG."""
    output = io.StringIO()
    if settings.DEBUG:
        call_command("demo_login", stdout=output)
        connections.close_all()
    return output.getvalue()


if __name__ == "__main__":
    main()
