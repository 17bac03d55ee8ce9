"""A private PostgreSQL for one run, and databases in it.

It runs with PostgreSQL's own defaults, as durable as in production: every commit waits for the disk, for both sides
of a comparison. Everything lives in a temporary folder and is gone afterwards, also of a run that is killed.
"""

import os
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, LiteralString, Self

import psycopg

from chatapp.local.environment import without_settings
from chatapp.local.postgres import ROLE, PostgresServer, temporary_folder
from chatapp.local.process import CLONE, MARK, Mark, free_port, start_reaper

START_SECONDS = 60.0


class Database:
    """One database with Chatapp's tables: where to reach it, and `env`, in which Chatapp's own programs do."""

    def __init__(self, server: PostgresServer, name: str, env: dict[str, str]) -> None:
        self.server = server
        self.name = name
        self.url = server.url.rpartition("/")[0] + "/" + name
        self.env = {**env, "DATABASE_URL": self.url}

    def execute(self, *statements: LiteralString, **params: Any) -> list[tuple[Any, ...]]:
        """Run each in one session, each committed by itself; the rows of the last one."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.cursor()
            for statement in statements:
                cursor.execute(statement, params or None)
            return cursor.fetchall() if cursor.description else []

    def manage(self, *arguments: str) -> str:
        """What `manage.py` prints; its own words and CalledProcessError if it fails."""
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=CLONE,
            env=self.env,
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
        return done.stdout

    def pgbench(self, script: Path, *, clients: int, seconds: float, variables: dict[str, int]) -> str:
        """What pgbench prints after it has run `script` over and over, in `clients` sessions at once."""
        done = subprocess.run(
            [
                str(self.server.binary("pgbench")),
                *("--host", "127.0.0.1", "--port", str(self.server.port), "--username", ROLE),
                # What psycopg's client-side binding sends: plain queries, nothing prepared.
                *("--no-vacuum", "--protocol", "simple", "--file", str(script)),
                *("--client", str(clients), "--jobs", str(min(clients, os.cpu_count() or 1))),
                *("--time", f"{max(1, round(seconds))}"),
                *(f"--define={name}={value}" for name, value in variables.items()),
                self.name,
            ],
            env={**self.server.env, "PGPASSWORD": self.server.password},
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout


class Servers:
    """The servers of a run, as a context."""

    def __init__(self) -> None:
        self.home = temporary_folder("chatapp-bench-")
        self.mark = Mark.new(self.home)
        self._reaper = start_reaper(self.mark, remove=self.home)
        self.postgres = PostgresServer(self.home, mark=self.mark, port=free_port())
        # As in production. Nothing of a developer's settings, so that two runs compare.
        self.env = {
            **without_settings(os.environ),
            MARK: str(self.mark),
            "CHATAPP_ENV_FILES": "",
            "DJANGO_SETTINGS_MODULE": "chatapp.settings",
            "DEBUG": "false",
            "SECRET_KEY": "the secret of the benchmarks, which is none, but is long enough",
            "ALLOWED_HOSTS": "localhost",
            "REDIS_URL": "redis://127.0.0.1:1",  # nobody is there, and nobody asks
            "ANTHROPIC_API_KEY": "sk-ant-of-the-benchmarks",
            "EMAIL_URL": "consolemail://",
            "DEFAULT_FROM_EMAIL": "bench@example.org",
        }

    def __enter__(self) -> Self:
        self.postgres.start()
        deadline = time.monotonic() + START_SECONDS
        while not self.postgres.ready():
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"PostgreSQL has not started in {START_SECONDS:g} s: see {self.postgres.log}"
                )
            time.sleep(0.02)
        self._first = Database(self.postgres, "chatapp", self.env)
        self._first.manage("migrate", "--verbosity", "0")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.postgres.stop()
        self._reaper.communicate()

    def database(self, name: LiteralString) -> Database:
        """A new one, empty but for what the migrations make: the ledger forgets nothing, so nobody shares one."""
        self._first.execute(f"CREATE DATABASE {name} TEMPLATE chatapp")
        return Database(self.postgres, name, self.env)

    @property
    def postgres_version(self) -> str:
        return str(self._first.execute("SHOW server_version")[0][0])
