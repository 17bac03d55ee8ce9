"""The servers of one test run, and the settings that point at them.

A pytest plugin (`-p tests.servers`), because they must run before Django reads its settings. Everything lives in a
temporary folder of its own; nothing of a developer's is read or touched, and nothing is left, even of a run that is
killed: a reaper waits for that.

With `-n` (pytest-xdist) each worker has servers of its own, to kill as it likes. The process that only hands out the
tests has the settings too, and starts nothing.
"""

import gc
import os
import ssl
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from chatapp.local.environment import without_settings
from chatapp.local.postgres import PostgresServer, temporary_folder
from chatapp.local.process import LocalError, Mark, free_ports, start_reaper
from chatapp.local.valkey import ValkeyServer

START_SECONDS = 60.0

running: "Servers"

STRIPE_WEBHOOK_SECRET = "whsec_of_the_tests"

# All is plain HTTP, and loading the certificate authorities takes longer than a request.
PLAIN = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


class Servers:
    """PostgreSQL and Valkey, and `env`: the environment in which Chatapp finds them and nothing else."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.logs = home / "logs"
        self.outbox = home / "outbox"
        self.logs.mkdir()
        self.mark = Mark.new(home)
        postgres_port, valkey_port, self.claude_port, self.stripe_port = free_ports(4)
        self._reaper = start_reaper(self.mark, remove=home)
        self.postgres = PostgresServer(home, mark=self.mark, port=postgres_port, durable=False)
        self.valkey = ValkeyServer(home, mark=self.mark, port=valkey_port)
        machine = without_settings(os.environ)
        # The tests start a hundred processes, each of which would compile all of Chatapp again.
        machine.pop("PYTHONDONTWRITEBYTECODE", None)
        self.env = {
            **machine,
            "CHATAPP_ENV_FILES": "",
            "DJANGO_SETTINGS_MODULE": "chatapp.settings",
            "SECRET_KEY": "the secret of the tests, which is none, but is long enough",
            "DEBUG": "true",
            "DATABASE_URL": self.postgres.url,
            "REDIS_URL": self.valkey.url,
            "ANTHROPIC_API_KEY": "sk-ant-of-the-tests",
            "ANTHROPIC_BASE_URL": f"http://127.0.0.1:{self.claude_port}",
            "STRIPE_SECRET_KEY": "sk_test_of_the_tests",
            "STRIPE_WEBHOOK_SECRET": STRIPE_WEBHOOK_SECRET,
            "STRIPE_API_BASE": f"http://127.0.0.1:{self.stripe_port}",
            "CHATAPP_DEMO_CLAUDE": "true",
            "CHATAPP_DEMO_STRIPE": "true",
            "EMAIL_URL": f"filemail:///{self.outbox}",  # the path comes after the third slash
            # Answers come at once unless a test wants to watch one.
            "DEMO_CLAUDE_DIRECTIVES": "pace 0",
            # Many turns of few people, and short waits; what a limit does is tested with a limit of its own.
            "TURNS_PER_MINUTE": "10000",
            "TURNS_AT_ONCE": "1000",
            "TURN_CONNECT_SECONDS": "2",
            "TURN_STALL_SECONDS": "3",
            "TURN_RECONNECT_SECONDS": "2",
        }

    def start(self) -> None:
        self.valkey.start()
        self.postgres.start()
        wait_until(self.postgres.ready, "PostgreSQL takes connections")
        wait_until(self.valkey.ready, "Valkey answers")

    def stop(self) -> None:
        self.valkey.stop()
        self.postgres.stop()
        self._reaper.communicate()


def wait_until(happened: Callable[[], bool], what: str, seconds: float = START_SECONDS) -> None:
    """Look every few milliseconds whether it `happened`; TimeoutError, naming `what`, if it never does."""
    deadline = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:g} s in vain until {what}")
        time.sleep(0.02)


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5, verify=PLAIN).is_success
    except httpx.TransportError:
        return False


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    global running
    gc.disable()  # what imports and the collection of the tests make stays for good
    try:
        running = Servers(temporary_folder("chatapp-tests-"))
        if not only_hands_out_tests(early_config):
            running.start()
    except LocalError as error:
        raise pytest.UsageError(str(error)) from None
    os.environ.clear()
    os.environ.update(running.env)
    # A worker loads what `-p` names only after Django has read its settings.
    os.environ["PYTEST_PLUGINS"] = __name__


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


def pytest_unconfigure() -> None:
    running.stop()


def only_hands_out_tests(config: pytest.Config) -> bool:
    """Whether the tests run in workers of this process, not in itself."""
    is_worker = "PYTEST_XDIST_WORKER" in os.environ
    return not is_worker and bool(getattr(config.known_args_namespace, "numprocesses", None))
