"""`make run`: all that Chatapp needs, started, watched, and ended by one Ctrl-C.

The order of things: one run per clone; end what a killed run left; take the port; start PostgreSQL, Valkey, the
stand-ins and web side by side (web waits for the database and brings it up to date); once web answers, the worker
and beat. From then on whatever dies is started again on the same port, so that every address stays true.
"""

import argparse
import fcntl
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Self, TextIO
from urllib.parse import urlsplit

from chatapp.local.environment import arrange, chosen_settings, without_settings, write_settings
from chatapp.local.postgres import PostgresServer, directory_for
from chatapp.local.process import CLONE, LocalError, Mark, Program, end, find, free_ports, start_reaper
from chatapp.local.programs import Programs
from chatapp.local.valkey import ValkeyServer

# The tests run it elsewhere, beside a developer's own.
LOCAL = Path(os.environ.get("CHATAPP_LOCAL") or CLONE / ".local")
SETTINGS_OF_RUN = LOCAL / "run.env"

PRIVATE_DATABASE_PATIENCE_SECONDS = 60
OTHER_DATABASE_PATIENCE_SECONDS = 5
STOP_SECONDS = 5.0
# What a new run allows the one before it: to notice that its `make` was killed, and then to end.
NOTICING_SECONDS = 1.0
ENDING_SECONDS = 20.0
ENDING = ", which is ending"
LONGEST_BACK_OFF_SECONDS = 15.0
# What ran so long is not failing: its next death counts as its first.
SOUND_AFTER_SECONDS = 30.0


class Stopped(Exception):
    """The developer wants it to end before it is up."""


class WebFailed(Exception):
    """Web cannot serve, and has said why."""


@dataclass
class Watched:
    """A program that is to run, and how it fares."""

    program: Program
    deaths: int = 0
    started_at: float = field(default_factory=time.monotonic)
    again_at: float | None = None


class Terminal:
    """Prints whole lines, each behind the name of the program it comes from."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._hung_up = select.poll()
        self._hung_up.register(sys.stdout.fileno(), 0)

    def is_gone(self) -> bool:
        """Whether its window was closed, or whoever read it through a pipe has left."""
        return any(event & (select.POLLHUP | select.POLLERR) for _, event in self._hung_up.poll(0))

    def say(self, text: str) -> None:
        self._write(text.encode() + b"\n")

    def behind(self, name: str) -> Callable[[bytes], None]:
        prefix = f"{name:8} | ".encode()

        def write(line: bytes) -> None:
            # What begins with "chatapp: " speaks to whoever typed `make run`: a wrong setting, mostly.
            if line.strip():
                self._write(line if line.startswith(b"chatapp: ") else prefix + line)

        return write

    def _write(self, line: bytes) -> None:
        # The last words of a run whose terminal is gone are nobody's loss.
        with self._lock, suppress(OSError):
            sys.stdout.buffer.write(line if line.endswith(b"\n") else line + b"\n")
            sys.stdout.buffer.flush()


class Lock:
    """Held by the one run of a clone; the kernel takes it back from a run that dies, whatever it dies of."""

    def __init__(self) -> None:
        self._file: TextIO

    def __enter__(self) -> Self:
        """LocalError if another run has it and is not about to end."""
        try:
            LOCAL.mkdir(mode=0o700, exist_ok=True)
            self._file = open(LOCAL / "lock", "a+")
        except PermissionError as error:
            raise LocalError(
                f"{error.filename} is not yours to write: run as its owner, or remove {LOCAL}."
            ) from None
        begun = time.monotonic()
        while not self._taken():
            self._file.seek(0)
            holder = self._file.read()
            patience = ENDING_SECONDS if holder.endswith(ENDING) else NOTICING_SECONDS
            if time.monotonic() - begun > patience:
                self._file.close()
                raise LocalError(f"this clone is running already, as process {holder}: stop that first.")
            time.sleep(0.05)
        self._write(str(os.getpid()))
        return self

    def __exit__(self, *_exception: object) -> None:
        self._file.close()

    def ending(self) -> None:
        """Tell a run that is waiting that it need not wait long."""
        self._write(f"{os.getpid()}{ENDING}")

    def _taken(self) -> bool:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _write(self, text: str) -> None:
        self._file.truncate(0)
        self._file.write(text)
        self._file.flush()


class Run:
    """One `make run`, from start to end."""

    def __init__(self, lock: Lock, *, parent: int | None) -> None:
        """`parent` is the process whose end is to end this run too; None: this run stands alone."""
        self._lock = lock
        self._parent = parent
        self._terminal = Terminal()
        self._mark = Mark.new(LOCAL)
        self._signals = 0
        self._stages: list[list[Watched]] = []

    def run(self) -> None:
        """Start everything, watch it until a signal, stop it. LocalError if it cannot start."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._note_signal)
        left = find(LOCAL)
        if left:
            end(left)
            self._terminal.say(f"Ended {len(left)} processes that a killed run had left.")
        reaper = start_reaper(self._mark)
        try:
            self._start()
            while not self._is_to_end():
                self._start_again_what_died()
                time.sleep(0.1)
        except Stopped:
            pass
        finally:
            self._lock.ending()
            self._stop()
            SETTINGS_OF_RUN.unlink(missing_ok=True)
            reaper.kill()
            reaper.wait()

    # --- Starting

    def _start(self) -> None:
        chosen = chosen_settings()
        # Held as long as the run: web is started again on the same socket, and requests wait for it meanwhile.
        self._listener = _listen(chosen.get("HOST", "127.0.0.1"), chosen.get("PORT", "8000"))
        url = _url_of(self._listener)
        postgres_port, valkey_port, claude_port, stripe_port = free_ports(4, wanted_by=str(LOCAL))
        arranged = arrange(
            chosen,
            claude_url=f"http://127.0.0.1:{claude_port}",
            stripe_url=f"http://127.0.0.1:{stripe_port}",
            secrets_in=LOCAL,
        )
        settings = arranged.settings
        settings.setdefault("SITE_URL", url)
        servers = self._private_servers(chosen, postgres_port, valkey_port)
        for server, name in servers:
            settings[name] = server.url
        write_settings(SETTINGS_OF_RUN, settings)

        programs = Programs(
            self._mark,
            {**without_settings(os.environ), **settings, "CHATAPP_ENV_FILES": ""},
            self._terminal.behind,
        )
        ready, to_web = os.pipe()
        web = programs.python(
            "web",
            "chatapp.local.web",
            *("--listener", str(self._listener.fileno()), "--ready", str(to_web), "--patience"),
            str(
                OTHER_DATABASE_PATIENCE_SECONDS
                if "DATABASE_URL" in chosen
                else PRIVATE_DATABASE_PATIENCE_SECONDS
            ),
            keep_fds=(self._listener.fileno(), to_web),
        )
        stand_ins = []
        if arranged.demo_claude:
            stand_ins.append(programs.demo_claude(claude_port))
        if arranged.demo_stripe:
            stand_ins.append(
                programs.demo_stripe(
                    stripe_port,
                    webhook_url=f"{url}/billing/webhook/",
                    webhook_secret=settings["STRIPE_WEBHOOK_SECRET"],
                    state=LOCAL / "demo-stripe.json",
                )
            )

        # Stopped in this order. Started in another: web has the most to do before it can serve.
        self._stages = [[], [], []]
        self._begin(0, web)
        for server, _ in servers:
            self._begin(2, server)
        for program in stand_ins:
            self._begin(1, program)
        logins = self._wait_until_web_is_ready(web, ready, [server for server, _ in servers])
        self._begin(1, programs.worker())
        self._begin(1, programs.beat(LOCAL / "beat"))
        self._terminal.say(_welcome(url, logins, stand_ins))

    def _private_servers(
        self, chosen: dict[str, str], postgres_port: int, valkey_port: int
    ) -> list[tuple[PostgresServer | ValkeyServer, str]]:
        """The servers nobody configured, each with the setting that will name it."""
        servers: list[tuple[PostgresServer | ValkeyServer, str]] = []
        if "DATABASE_URL" not in chosen:
            postgres = PostgresServer(directory_for(LOCAL), mark=self._mark, port=postgres_port)
            servers.append((postgres, "DATABASE_URL"))
        if "REDIS_URL" not in chosen:
            servers.append((ValkeyServer(LOCAL, mark=self._mark, port=valkey_port), "REDIS_URL"))
        else:
            _check_reachable("REDIS_URL", chosen["REDIS_URL"], default_port=6379)
        return servers

    def _begin(self, stage: int, program: Program) -> None:
        if self._is_to_end():
            raise Stopped
        program.start()
        self._stages[stage].append(Watched(program))

    def _wait_until_web_is_ready(
        self, web: Program, ready: int, servers: list[PostgresServer | ValkeyServer]
    ) -> list[str]:
        """The demo logins, told by web when it can answer. WebFailed or LocalError if it or a server has ended."""
        told = b""
        while not told.endswith(b"ready\n"):
            if self._is_to_end():
                raise Stopped
            for server in servers:
                server.ready()
            if not web.running:
                if web.how_it_ended == "ended with status 1":
                    raise WebFailed
                raise LocalError(f"web {web.how_it_ended} before it could serve.")
            if select.select([ready], [], [], 0.02)[0]:
                told += os.read(ready, 4096)
        return told.decode().splitlines()[:-1]

    # --- Watching

    def _start_again_what_died(self) -> None:
        now = time.monotonic()
        for watched in (watched for stage in reversed(self._stages) for watched in stage):
            program = watched.program
            if program.running:
                if now - watched.started_at > SOUND_AFTER_SECONDS:
                    watched.deaths = 0
            elif watched.again_at is None:
                wait = min(LONGEST_BACK_OFF_SECONDS, 0.25 * 2**watched.deaths)
                watched.deaths += 1
                watched.again_at = now + wait
                self._terminal.say(
                    f"{program.name} {program.how_it_ended}; it is started again in {wait:g} s."
                )
            elif now >= watched.again_at:
                watched.again_at = None
                watched.started_at = now
                try:
                    program.start()
                except (LocalError, OSError) as error:
                    self._terminal.say(f"{program.name}: {error}")

    # --- Stopping

    def _stop(self) -> None:
        """Web first, what works for it next, and last what they keep their data in. A second signal hurries it."""
        for stage in self._stages:
            programs = [watched.program for watched in stage]
            for program in programs:
                program.ask_to_stop()
            deadline = time.monotonic() + STOP_SECONDS
            while (
                any(program.running for program in programs)
                and time.monotonic() < deadline
                and self._signals < 2
            ):
                time.sleep(0.02)
            for program in programs:
                program.end()

    def _is_to_end(self) -> bool:
        """Whether a signal asked for it, or who started it is gone: the `make` that was killed, the terminal."""
        abandoned = self._parent is not None and os.getppid() != self._parent
        return self._signals > 0 or abandoned or self._terminal.is_gone()

    def _note_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._signals += 1


def _listen(host: str, port: str) -> socket.socket:
    """A socket that queues requests from now on. LocalError if it cannot be had."""
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise LocalError(f"PORT must be a number from 1 to 65535, not {port!r}.")
    try:
        return socket.create_server(
            (host, int(port)), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=1024
        )
    except OSError as error:
        reason = str(error.strerror).partition(" (while")[0]
        raise LocalError(
            f"cannot listen on {host} port {port}: {reason}. Choose another with `make run PORT=8001`."
        ) from None


def _url_of(listener: socket.socket) -> str:
    """Where the listener can be reached from this machine."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _check_reachable(setting: str, url: str, *, default_port: int) -> None:
    address = urlsplit(url)
    try:
        socket.create_connection(
            (address.hostname or "localhost", address.port or default_port), timeout=3
        ).close()
    except (OSError, ValueError) as error:
        raise LocalError(
            f"nothing answers at {setting}: {error}. Without it, a private server is started."
        ) from None


def _welcome(url: str, logins: list[str], stand_ins: list[Program]) -> str:
    lines = [f"Chatapp is at {url}"]
    for login in logins:
        email, _, password = login.partition(" ")
        lines.append(f"    sign in as {email} with {password}")
    if stand_ins:
        lines.append(
            f"    demo {' and '.join(program.name.title() for program in stand_ins)}: no keys are set"
        )
    return "\n" + "\n".join([*lines, "    stop with Ctrl-C"]) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m chatapp.local.run", description="Run all of Chatapp.")
    parser.add_argument("--until-parent-ends", action="store_true", help="end when the calling process does")
    asked = parser.parse_args()
    try:
        with Lock() as lock:
            Run(lock, parent=os.getppid() if asked.until_parent_ends else None).run()
    except LocalError as error:
        print(f"chatapp: {error}", file=sys.stderr)
        return 1
    except WebFailed:
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
