"""Chatapp as it really runs: web, worker and the stand-ins for Claude and Stripe as processes, on the test database.

    def test_an_answer_survives(stack, alice, sign_in):
        client = sign_in(alice)                      # httpx, with alice's session and CSRF token
        stack.claude.script("cut after=20")          # what the demo Claude does next
        second = stack.start_web(env={"TURNS_AT_ONCE": "50"})
        stack.web.kill()                             # kill -9; .start() brings it back on the same port
        assert stack.manage("ledger_audit").returncode == 0

What a test starts is stopped after it, and what it killed is running again for the next.
"""

import email
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from email.message import Message
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil
from django.db import connections

from chatapp.local.demo_claude.client import DemoClaude
from chatapp.local.postgres import PostgresServer
from chatapp.local.process import CLONE, Program, free_port, last_lines
from chatapp.local.programs import Programs
from chatapp.local.valkey import ValkeyServer
from tests.servers import PLAIN, STRIPE_WEBHOOK_SECRET, Servers, answers, wait_until
from tests.zygote import Zygote

Server = PostgresServer | ValkeyServer


class Web:
    """One web process and where it listens."""

    def __init__(self, program: Program, port: int) -> None:
        self.program = program
        self.url = f"http://127.0.0.1:{port}"

    def start(self) -> None:
        """Start it, again if need be, and wait until it answers."""
        self.program.start()
        self.wait()

    def wait(self) -> None:
        _wait_for_answer(self.program, f"{self.url}/healthz")

    def kill(self) -> None:
        """What `kill -9` does."""
        self.program.kill()

    def stop(self) -> None:
        self.program.stop()


class Stack:
    """The processes of one test run. `env` is what they run with; `url` is where the first web process listens."""

    def __init__(self, servers: Servers, zygote: Zygote, database: str) -> None:
        self._servers = servers
        self.postgres, self.valkey = servers.postgres, servers.valkey
        url = urlsplit(servers.postgres.url)._replace(path=f"/{database}").geturl()
        self.env = {**servers.env, "DATABASE_URL": url}
        self._zygote = zygote
        self._programs = Programs(servers.mark, self.env, self.log_of, start=self._zygote.start)
        self.web = self._web("web")
        self.worker = self._programs.worker()
        self.claude = DemoClaude()
        self.claude.url = self.env["ANTHROPIC_BASE_URL"]
        self.claude_process = self._programs.demo_claude(servers.claude_port)
        self.stripe_url = self.env["STRIPE_API_BASE"]
        self.stripe_process = self._programs.demo_stripe(
            servers.stripe_port,
            webhook_url=f"{self.url}/billing/webhook/",
            webhook_secret=STRIPE_WEBHOOK_SECRET,
            state=servers.home / "stripe.json",
        )
        self._of_this_test: list[Program] = []
        self._read: dict[Path, int] = {}
        self._tracebacks_expected = False
        self._restarted = False

    @property
    def url(self) -> str:
        return self.web.url

    def log_of(self, name: str) -> Path:
        return self._servers.logs / f"{name}.log"

    # --- What a test does with it

    def start_web(self, env: Mapping[str, str] | None = None) -> Web:
        """One more web process, with settings of its own, until the end of this test."""
        web = self._web(f"web-{len(self._of_this_test) + 2}", env)
        self._of_this_test.append(web.program)
        web.start()
        return web

    def start_worker(self, env: Mapping[str, str]) -> Program:
        """A worker with settings of its own in the place of the usual one, until the end of this test."""
        self.worker.kill()
        worker = self._programs.worker(env=env)
        self._of_this_test.append(worker)
        worker.start()
        return worker

    @contextmanager
    def lasting_web(self, env: Mapping[str, str]) -> Iterator[Web]:
        """One more web process, with settings of its own, for the tests of a module that leave it running."""
        web = self._web("web-lasting", env)
        web.start()
        try:
            yield web
        finally:
            web.stop()

    def start_beat(self) -> Program:
        """The clock of the periodic tasks, until the end of this test."""
        beat = self._programs.beat(self._servers.home / "beat")
        self._of_this_test.append(beat)
        beat.start()
        return beat

    def restart(self, server: Server) -> None:
        """Start PostgreSQL or Valkey after a `kill()` and wait until it serves."""
        server.start()
        wait_until(server.ready, f"{server.name} serves again")
        self._restarted = True
        if server is self.postgres:
            # The pool of this process has been waiting longer and longer between its attempts.
            connections.close_all()
            connections["default"].close_pool()

    @contextmanager
    def paused(self, server: Server) -> Iterator[None]:
        """It neither answers nor ends: what `kill -STOP` does to all its processes."""
        leader = psutil.Process(server.pid)
        leader.suspend()
        processes = [leader, *leader.children(recursive=True)]
        for process in processes:
            process.suspend()
        try:
            yield
        finally:
            for process in processes:
                process.resume()

    def manage(
        self, *arguments: str, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a management command on the stack's database; its output is text."""
        env = {**self.env, **(env or {})}
        return self._zygote.run([sys.executable, "manage.py", *arguments], env=env)

    def mail_to(self, address: str) -> list[Message]:
        """What the stack's processes sent to `address`, oldest first."""
        files = sorted(self._servers.outbox.glob("*.log"), key=lambda file: file.stat().st_mtime_ns)
        messages = [email.message_from_string(text) for file in files for text in _messages_in(file)]
        return [message for message in messages if address in str(message["To"])]

    def is_ready(self) -> bool:
        """Whether web has PostgreSQL and Valkey, and there is a worker."""
        answer = httpx.get(f"{self.url}/readyz", timeout=30, verify=PLAIN)
        return answer.is_success and all(answer.json().values())

    def wait_until(self, happened: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
        """For what other processes do in their own time; TimeoutError, naming `what`, if it never happens."""
        wait_until(happened, what, seconds)

    def expect_tracebacks(self) -> None:
        """This test provokes errors that the processes are right to log."""
        self._tracebacks_expected = True

    # --- What the fixtures do with it

    def start(self) -> None:
        for program in (self.claude_process, self.stripe_process, self.web.program, self.worker):
            program.start()
        _wait_for_answer(self.claude_process, f"{self.claude.url}/demo/requests")
        _wait_for_answer(self.stripe_process, f"{self.stripe_url}/healthz")
        self.web.wait()

    def mend(self) -> None:
        """After a test: stop what it started, start what it killed, forget what it directed."""
        while self._of_this_test:
            self._of_this_test.pop().stop()
        for server in (self.postgres, self.valkey):
            if not server.running:
                self.restart(server)
        killed = [program for program in self._all() if not program.running]
        for program in killed:
            program.start()
        if killed:
            self.web.wait()
            _wait_for_answer(self.claude_process, f"{self.claude.url}/demo/requests")
            _wait_for_answer(self.stripe_process, f"{self.stripe_url}/healthz")
        if self._restarted:
            wait_until(self.is_ready, "web and worker have found PostgreSQL and Valkey again", 60)
            self._restarted = False
        self.claude.reset()

    def new_tracebacks(self) -> str:
        """What the processes logged of tracebacks since the last call, unless the test expected some."""
        found = []
        for log in sorted(self._servers.logs.glob("*.log")):
            content = log.read_text(errors="replace")
            news = content[self._read.get(log, 0) :]
            if "Traceback (most recent call last)" in news:
                # In a structured line a traceback is one value, its line ends escaped.
                beginning = news.index("Traceback (most recent call last)")
                found.append(f"--- {log.name}\n" + news[beginning : beginning + 8000].replace("\\n", "\n"))
            self._read[log] = len(content)
        expected, self._tracebacks_expected = self._tracebacks_expected, False
        return "" if expected else "\n".join(found)

    def stop(self) -> None:
        for program in self._all():
            program.ask_to_stop()
        for program in self._all():
            program.stop()

    def _all(self) -> list[Program]:
        return [self.web.program, self.worker, self.stripe_process, self.claude_process]

    def _web(self, name: str, env: Mapping[str, str] | None = None) -> Web:
        port = free_port()
        return Web(self._programs.web("127.0.0.1", port, name=name, env=env), port)


def run_node(script: str, *arguments: str) -> str:
    """What a script says; CalledProcessError if it fails."""
    node = Path(sys.executable).with_name("node")
    done = subprocess.run(
        [node, script, *arguments], cwd=CLONE, capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout


def _wait_for_answer(program: Program, url: str) -> None:
    """Wait until `url` is answered; at once an error with the end of its log if the program ends instead."""

    def it_answers() -> bool:
        if not program.running:
            log = program.output if isinstance(program.output, Path) else Path()
            raise RuntimeError(f"{program.name} ended while starting:\n{last_lines(log, 40)}")
        return answers(url)

    wait_until(it_answers, f"{program.name} answers at {url}")


def _messages_in(file: Path) -> list[str]:
    """Django's file backend ends each message with a line of dashes."""
    return [text for text in file.read_text().split("\n" + "-" * 79 + "\n") if text.strip()]
