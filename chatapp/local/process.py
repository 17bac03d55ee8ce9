"""Child processes that can be found again, and ended, whatever became of the run that started them.

Every child carries a mark in its environment: the folder it works for and the run that started it. No other
process has it, so what carries it is ours to end, and there is no pid file that could be stale or point at a
stranger. Two things use it: a reaper, which ends a run's children as soon as the run itself is gone (`kill -9`
included), and the next run, which ends what even the reaper could not.
"""

import contextlib
import os
import pwd
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

import psutil

MARK = "CHATAPP_LOCAL_RUN"
CLONE = Path(__file__).resolve().parents[2]

# The reaper imports nothing until it has work: it must not slow the start down.
REAPER = "import sys; sys.stdin.buffer.read(); from chatapp.local.process import reap; reap(*sys.argv[1:])"


class LocalError(Exception):
    """Something on this machine stops the run: one line that says what, and what to do about it."""


@dataclass(frozen=True)
class Mark:
    """Whose child a process is: the folder it works for, and the run that started it."""

    home: Path
    run: str

    @classmethod
    def new(cls, home: Path) -> "Mark":
        return cls(home.resolve(), secrets.token_hex(8))

    def __str__(self) -> str:
        return f"{self.home}:{self.run}"


class Child(Protocol):
    """What of `subprocess.Popen` is used here."""

    @property
    def pid(self) -> int: ...
    @property
    def returncode(self) -> int | None: ...
    @property
    def stdout(self) -> IO[bytes] | None: ...

    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def send_signal(self, sig: int, /) -> None: ...
    def kill(self) -> None: ...


Start = Callable[..., Child]


class Program:
    """One child process, in a session of its own, that can be started again with the same command line.

    `output` is a file that receives all it prints, or a function called with each of its lines. `stop_signal` asks
    it to end in good order. `start` starts it, as `subprocess.Popen` does.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        mark: Mark,
        env: Mapping[str, str],
        output: Path | Callable[[bytes], None],
        cwd: Path = CLONE,
        stop_signal: signal.Signals = signal.SIGTERM,
        user: pwd.struct_passwd | None = None,
        keep_fds: Sequence[int] = (),
        start: Start = subprocess.Popen,
    ) -> None:
        self.name = name
        self.command = list(command)
        self.mark = mark
        self.env = {**env, MARK: str(mark)}
        self.output = output
        self.cwd = cwd
        self.stop_signal = stop_signal
        self.user = user
        self.keep_fds = tuple(keep_fds)
        self._start = start
        self.process: Child | None = None
        self._reader: threading.Thread | None = None

    @property
    def pid(self) -> int:
        if self.process is None:
            raise RuntimeError(f"{self.name} was never started")
        return self.process.pid

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Start it, after ending whatever a killed predecessor left of itself (a worker's pool, say)."""
        if self.running:
            raise RuntimeError(f"{self.name} is running")
        if self.process is not None:
            end(self._members())
        log = open(self.output, "ab") if isinstance(self.output, Path) else None  # noqa: SIM115
        self.process = self._start(
            self.command,
            env=self.env,
            cwd=self.cwd,
            stdin=subprocess.DEVNULL,
            stdout=log or subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=self.keep_fds,
            user=self.user.pw_uid if self.user else None,
            group=self.user.pw_gid if self.user else None,
            extra_groups=[] if self.user else None,
        )
        if log:
            log.close()
        else:
            self._reader = threading.Thread(target=self._read_lines, args=(self.process,), daemon=True)
            self._reader.start()

    def ask_to_stop(self) -> None:
        if self.process is not None and self.running:
            self.process.send_signal(self.stop_signal)

    def stop(self, grace_seconds: float = 5.0) -> None:
        """End it in good order, or after `grace_seconds` in any order, with all it started."""
        self.ask_to_stop()
        if self.process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(grace_seconds)
        self.end()

    def end(self) -> None:
        """End it at once, and whatever it started."""
        self.kill()
        if self.process is not None:
            end(self._members())
        if self._reader is not None:
            # Its last words are often the ones that matter.
            self._reader.join(timeout=1)

    def kill(self) -> None:
        """What `kill -9` does: nothing is asked, nothing is cleaned up."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    @property
    def how_it_ended(self) -> str:
        code = self.process.returncode if self.process is not None else None
        if code is not None and code < 0:
            return f"was killed by {signal.Signals(-code).name}"
        return f"ended with status {code}"

    def _members(self) -> list[psutil.Process]:
        """What is left of its session: the pid of a session's leader is not given away while a member lives."""
        return [process for process in find(self.mark.home, self.mark.run) if _session(process) == self.pid]

    def _read_lines(self, process: Child) -> None:
        if process.stdout is not None and callable(self.output):
            with process.stdout:
                for line in process.stdout:
                    self.output(line)


def find(home: Path, run: str = "") -> list[psutil.Process]:
    """Our processes that work for `home`, of one run or of any."""
    beginning = f"{home.resolve()}:{run}"
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(MARK, "").startswith(beginning):
                found.append(process)
        except psutil.Error:
            continue  # it ended meanwhile, or is somebody else's: then it is none of ours
    return found


def end(processes: Iterable[psutil.Process], grace_seconds: float = 3.0) -> None:
    """Ask them to end in good order, and kill those that have not after `grace_seconds`.

    A process whose parent is among them is left to its parent: that one knows the order.
    """
    remaining = list(processes)
    pids = {process.pid for process in remaining}
    for process in remaining:
        try:
            if process.ppid() not in pids:
                # On SIGTERM PostgreSQL would wait for its clients to go.
                process.send_signal(signal.SIGINT if process.name() == "postgres" else signal.SIGTERM)
        except psutil.NoSuchProcess:
            continue
    _, remaining = psutil.wait_procs(remaining, timeout=grace_seconds)
    for process in remaining:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(remaining, timeout=grace_seconds)


def start_reaper(mark: Mark, *, remove: Path | None = None) -> "subprocess.Popen[bytes]":
    """A process that waits for this one to end, in whatever way, and then ends all that carries `mark`.

    With `remove` it then deletes that folder. It takes the end of its standard input as the sign.
    """
    return subprocess.Popen(
        [sys.executable, "-c", REAPER, str(mark), str(remove or "")],
        env={**os.environ, MARK: str(mark)},
        cwd=CLONE,
        stdin=subprocess.PIPE,
        start_new_session=True,
    )


def reap(mark: str, remove: str) -> None:
    home, _, run = mark.rpartition(":")
    end(find(Path(home), run))
    if remove:
        shutil.rmtree(remove, ignore_errors=True)


def free_ports(count: int, wanted_by: str = "") -> list[int]:
    """Loopback ports nobody listens on; for the same `wanted_by` the same ones, as long as they can be had.

    They lie below those that the kernel hands to outgoing connections: a server that is started again must not find
    its port taken by the near end of somebody's connection.
    """
    choice = random.Random(wanted_by) if wanted_by else random.Random()  # noqa: S311
    found: list[int] = []
    for _ in range(200 * count):
        port = choice.randint(20000, 32000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            if port not in found:
                found.append(port)
            if len(found) == count:
                return found
    raise LocalError("There are not enough free TCP ports between 20000 and 32000 on 127.0.0.1.")


def free_port() -> int:
    return free_ports(1)[0]


def write_private(file: Path, text: str) -> None:
    """Write it whole or not at all, readable by its owner only."""
    unfinished = file.with_name(file.name + ".unfinished")
    unfinished.unlink(missing_ok=True)
    with open(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as target:
        target.write(text)
    unfinished.rename(file)


def last_lines(log: Path, count: int = 15) -> str:
    """The end of a log, for an error message; empty if there is none."""
    try:
        return "\n".join(log.read_text(errors="replace").splitlines()[-count:])
    except FileNotFoundError:
        return ""


def _session(process: psutil.Process) -> int | None:
    try:
        return os.getsid(process.pid)
    except ProcessLookupError:
        return None
