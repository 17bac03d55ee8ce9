"""The servers of one run, databases in them, and programs that use them.

PostgreSQL runs with its own defaults, as durable as in production: every commit waits for the disk, for both sides
of a comparison. Everything lives in a temporary folder and is gone afterwards, also of a run that is killed.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, LiteralString

import psycopg
from psycopg import sql

from chatapp.local.environment import without_settings
from chatapp.local.postgres import DATABASE, ROLE, PostgresServer, temporary_folder
from chatapp.local.process import (
    CLONE,
    MARK,
    LocalError,
    Mark,
    Program,
    Start,
    free_ports,
    last_lines,
    start_reaper,
)
from chatapp.local.programs import Programs
from chatapp.local.valkey import ValkeyServer

START_SECONDS = 60.0
# Whom the site believes to be: production answers to no other name.
HOST = "localhost"


class Database:
    """One database with Chatapp's tables: where to reach it, and `env`, in which Chatapp's own programs do."""

    def __init__(self, server: PostgresServer, name: str, env: dict[str, str]) -> None:
        self.server = server
        self.name = name
        self.url = server.url.rpartition("/")[0] + "/" + name
        self.env = {**env, "DATABASE_URL": self.url}

    def execute(self, *statements: LiteralString | sql.Composed, **params: Any) -> list[tuple[Any, ...]]:
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
    """PostgreSQL and Valkey of a run, and what else it starts. `home` is a folder for its files."""

    def __init__(
        self,
        *,
        home: Path,
        mark: Mark,
        postgres: PostgresServer,
        valkey: ValkeyServer,
        template: str,
        valkey_database: int = 0,
        start: Start = subprocess.Popen,
    ) -> None:
        """The servers are running. `template` is a database that has the migrations' rows and no others.

        `start` starts a program, as `subprocess.Popen` does.
        """
        self.home = home
        self.mark = mark
        self.postgres, self.valkey = postgres, valkey
        self._template = template
        self._start = start
        # As in production. Nothing of a developer's settings, so that two runs compare.
        self.env = {
            **without_settings(os.environ),
            MARK: str(mark),
            "CHATAPP_ENV_FILES": "",
            "DJANGO_SETTINGS_MODULE": "chatapp.settings",
            "DEBUG": "false",
            "SECRET_KEY": "the secret of the benchmarks, which is none, but is long enough",
            "ALLOWED_HOSTS": HOST,
            "DATABASE_URL": postgres.url,
            "REDIS_URL": f"{valkey.url.rpartition('/')[0]}/{valkey_database}",
            "ANTHROPIC_API_KEY": "sk-ant-of-the-benchmarks",
            "EMAIL_URL": "consolemail://",
            "DEFAULT_FROM_EMAIL": "bench@example.org",
            "LOG_LEVEL": "WARNING",
        }

    def database(self, name: LiteralString) -> Database:
        """A new one, empty but for what the migrations make: the ledger forgets nothing, so nobody shares one."""
        server = Database(self.postgres, "postgres", self.env)
        server.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(*map(sql.Identifier, (name, self._template)))
        )
        return Database(self.postgres, name, self.env)

    def programs(self, env: Mapping[str, str]) -> Programs:
        """Makes programs with `env`; what they print goes to a file of their name in `home`."""
        return Programs(self.mark, env, self.log_of, self._start)

    def log_of(self, name: str) -> Path:
        return self.home / f"{name}.log"

    @property
    def postgres_version(self) -> str:
        return str(Database(self.postgres, "postgres", self.env).execute("SHOW server_version")[0][0])


@contextmanager
def private_servers() -> Iterator[Servers]:
    """Servers of their own in a temporary folder, which goes with them, also of a run that is killed."""
    home = temporary_folder("chatapp-bench-")
    mark = Mark.new(home)
    reaper = start_reaper(mark, remove=home)
    postgres_port, valkey_port = free_ports(2)
    postgres = PostgresServer(home, mark=mark, port=postgres_port)
    valkey = ValkeyServer(home, mark=mark, port=valkey_port)
    try:
        postgres.start()
        valkey.start()
        wait_until(postgres.ready, "PostgreSQL takes connections")
        wait_until(valkey.ready, "Valkey answers")
        servers = Servers(home=home, mark=mark, postgres=postgres, valkey=valkey, template=DATABASE)
        Database(postgres, DATABASE, servers.env).manage("migrate", "--verbosity", "0")
        yield servers
    finally:
        valkey.stop()
        postgres.stop()
        reaper.communicate()


@contextmanager
def running(program: Program, port: int, path: str = "/") -> Iterator[Program]:
    """The program from when it answers at `path` on; LocalError, with the end of its log, if it never does."""
    program.start()
    try:
        wait_until(lambda: _answers(program, port, path), f"{program.name} answers")
        yield program
    finally:
        program.stop()


def _answers(program: Program, port: int, path: str) -> bool:
    if not program.running:
        assert isinstance(program.output, Path)
        raise LocalError(f"{program.name} {program.how_it_ended}:\n{last_lines(program.output)}")
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path, headers={"Host": HOST})
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def wait_until(happened: Callable[[], bool], what: str, seconds: float = START_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > deadline:
            raise LocalError(f"waited {seconds:g} s in vain until {what}.")
        time.sleep(0.02)
