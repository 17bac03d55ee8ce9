"""`make run` as a developer meets it: it comes up, survives what is done to it, and leaves nothing behind."""

import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from chatapp.local.environment import without_settings
from chatapp.local.process import CLONE, Program, find, free_port
from tests import servers
from tests.servers import wait_until

# What tells a child from the others, in its command line.
CHILDREN = {
    "web": "chatapp.local.web",
    "worker": "worker",
    "beat": "--schedule",
    "claude": "chatapp.local.demo_claude",
    "stripe": "chatapp.local.demo_stripe",
    "valkey": "valkey-server",
    "postgres": "postgres",
}


class LocalRun:
    """A `make run` in a folder of its own."""

    def __init__(self, home: Path, **settings: str) -> None:
        self.home = home
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.starts = 0
        self.log = home.with_name(f"{home.name}-{self.port}.log")
        home.mkdir(exist_ok=True)
        home.chmod(0o711)
        machine = without_settings(os.environ)
        del machine["DJANGO_SETTINGS_MODULE"]  # the tests' own: a developer has none
        self._env = {
            **machine,
            "CHATAPP_LOCAL": str(home),
            "CHATAPP_ENV_FILES": "",
            "PORT": str(self.port),
            **settings,
        }
        self.supervisor = self._program([sys.executable, "-m", "chatapp.local.run"])

    def start(self) -> None:
        self._start(self.supervisor)

    def start_under_make(self) -> Program:
        """As `make run` starts it; what is returned is the process in make's place."""
        command = [sys.executable, "-m", "chatapp.local.run", "--until-parent-ends"]
        make = self._program(["sh", "-c", '"$@"; exit', "sh", *command])
        self._start(make)
        return make

    def _program(self, command: list[str]) -> Program:
        return Program("run", command, mark=servers.running.mark, env=self._env, output=self.log)

    def _start(self, program: Program) -> None:
        self.starts += 1
        program.start()

        def says_where_it_is() -> bool:
            assert program.running, self.output()
            return self.output().count(f"Chatapp is at {self.url}") == self.starts

        wait_until(says_where_it_is, "it says where it is")

    def stop(self) -> int:
        """What Ctrl-C does; the exit status."""
        os.kill(self.supervisor.pid, signal.SIGINT)
        assert self.supervisor.process is not None
        return self.supervisor.process.wait(timeout=60)

    def output(self) -> str:
        return self.log.read_text()

    def ready(self) -> dict[str, bool]:
        try:
            answer = httpx.get(f"{self.url}/readyz", timeout=20, verify=servers.PLAIN)
        except httpx.TransportError:
            return {}
        return answer.json()

    def all_ready(self) -> bool:
        return self.ready() == {"database": True, "redis": True, "worker": True}

    def child(self, name: str) -> psutil.Process | None:
        """The process of that name that is running now: of PostgreSQL's many, the one that was started here."""
        for process in find(self.home):
            try:
                if process.ppid() == self.supervisor.pid and CHILDREN[name] in " ".join(process.cmdline()):
                    return process
            except psutil.NoSuchProcess:
                continue
        return None


@pytest.fixture(scope="module")
def _run() -> Iterator[LocalRun]:
    run = LocalRun(servers.running.home / "run")
    yield run
    if run.supervisor.running:
        run.stop()


@pytest.fixture
def running(_run: LocalRun) -> LocalRun:
    """The run that the test before left, or one that is started now."""
    if not _run.supervisor.running:
        _run.start()
    return _run


@pytest.fixture
def stopped(_run: LocalRun) -> LocalRun:
    """What ran before, its data in place."""
    if _run.supervisor.running:
        _run.stop()
    return _run


def test_everything_runs(running: LocalRun) -> None:
    wait_until(running.all_ready, "web, PostgreSQL, Valkey and a worker are ready")
    assert all(running.child(name) for name in CHILDREN)


def test_another_terminal_finds_the_settings_of_the_run(running: LocalRun) -> None:
    settings = running.home / "run.env"
    assert settings.stat().st_mode & 0o777 == 0o600
    command = subprocess.run(
        [sys.executable, "manage.py", "migrate", "--check"],
        cwd=CLONE,
        env={**without_settings(os.environ), "CHATAPP_ENV_FILES": str(settings)},
        capture_output=True,
        text=True,
    )
    assert command.returncode == 0, command.stderr


def test_a_second_run_of_the_clone_is_refused(running: LocalRun) -> None:
    second = LocalRun(running.home)
    assert refusal_of(second) == (
        f"chatapp: this clone is running already, as process {running.supervisor.pid}: stop that first."
    )


@pytest.mark.parametrize("name", CHILDREN)
def test_what_is_killed_comes_back_where_it_was(running: LocalRun, name: str) -> None:
    killed = running.child(name)
    assert killed is not None
    killed.kill()
    wait_until(lambda: running.child(name) not in (None, killed), f"there is another {name}")
    wait_until(running.all_ready, "all is ready again")
    wait_until(
        lambda: f"{name} was killed by SIGKILL; it is started again in" in running.output(), "it is told"
    )


def test_requests_wait_while_web_is_started_again(running: LocalRun) -> None:
    web = running.child("web")
    assert web is not None
    web.kill()
    assert httpx.get(f"{running.url}/healthz", timeout=60).json() == {"status": "ok"}


def test_what_a_killed_run_leaves_is_ended_by_its_reaper(running: LocalRun) -> None:
    running.supervisor.kill()
    wait_until(lambda: find(running.home) == [], "nothing is left")


def test_a_run_whose_make_is_killed_makes_room_for_the_next(stopped: LocalRun) -> None:
    make = stopped.start_under_make()
    make.kill()
    stopped.start()
    wait_until(stopped.all_ready, "all is ready")


def test_what_even_the_reaper_leaves_is_ended_by_the_next_run(running: LocalRun) -> None:
    left = [process for process in find(running.home) if "reap" not in "".join(process.cmdline())]
    for reaper in set(find(running.home)) - set(left):
        reaper.kill()
    running.supervisor.kill()
    assert all(process.is_running() for process in left)
    running.start()
    assert not any(process.is_running() for process in left)
    wait_until(running.all_ready, "all is ready")
    assert "brought the database up to date" not in running.output().partition("Ended")[2], (
        "the data was lost"
    )


def test_one_signal_ends_all_of_it(running: LocalRun) -> None:
    said_before = len(running.output())  # what was killed above may have been missed by others
    assert running.stop() == 0
    assert find(running.home) == []
    assert not (running.home / "run.env").exists()
    assert "Traceback" not in running.output()[said_before:]


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"PORT": "http"}, "PORT must be a number from 1 to 65535, not 'http'."),
        ({"HOST": "192.0.2.1"}, "cannot listen on 192.0.2.1 port "),
        (
            {"DATABASE_URL": "sqlite:///db.sqlite3"},
            "DATABASE_URL must begin with postgres:// or postgresql://",
        ),
        ({"DATABASE_URL": "postgres://me@127.0.0.1:1/x"}, "PostgreSQL cannot be reached at DATABASE_URL: "),
        ({"REDIS_URL": "redis://127.0.0.1:1/0"}, "nothing answers at REDIS_URL: "),
        ({"TURNS_AT_ONCE": "many"}, "TURNS_AT_ONCE must be a whole number"),
    ],
)
def test_a_wrong_setting_is_one_line(settings: dict[str, str], line: str) -> None:
    run = LocalRun(servers.running.home / secrets.token_hex(4), **settings)
    assert refusal_of(run).startswith(f"chatapp: {line}")
    assert find(run.home) == []


def test_a_port_in_use_is_one_line() -> None:
    run = LocalRun(servers.running.home / secrets.token_hex(4))
    with socket.create_server(("127.0.0.1", run.port)):
        assert refusal_of(run) == (
            f"chatapp: cannot listen on 127.0.0.1 port {run.port}: Address already in use. "
            "Choose another with `make run PORT=8001`."
        )


def refusal_of(run: LocalRun) -> str:
    """The line with which it refuses to start."""
    run.supervisor.start()
    assert run.supervisor.process is not None
    assert run.supervisor.process.wait(timeout=60) == 1
    spoken = [line for line in run.output().splitlines() if line.startswith("chatapp: ")]
    assert len(spoken) == 1, run.output()
    assert "Traceback" not in run.output()
    return spoken[0]
