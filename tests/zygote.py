"""A process that has imported the libraries, and of which each process that the tests start is a copy.

A web process takes seconds to import the SDKs, and the tests start a hundred of them. What is copied has read none of
Chatapp's own code and no setting, has no thread, and has opened nothing. A copy then does what `python -m` does in a
new process: it has a session, an environment, arguments and files of its own, runs on its own, and dies on its own.
"""

import gc
import importlib
import json
import os
import re
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Mapping, Sequence
from typing import IO, Any

from chatapp.local.process import CLONE, MARK, Mark

# What takes long to import; nothing that wants Django's settings, or that makes an event loop.
LIBRARIES = (
    *("anthropic", "anthropic.lib.streaming", "openai", "stripe", "aiohttp.web", "httpx", "pydantic"),
    *("celery.bin.celery", "celery.app.amqp", "celery.concurrency.thread", "celery.worker.consumer"),
    *(
        "kombu.transport.redis",
        "redis.asyncio",
        "redis.asyncio.cluster",
        "limits.storage",
        "limits.strategies",
    ),
    *("psycopg", "psycopg_pool", "structlog", "rich.traceback", "autobahn.websocket", "fido2.webauthn"),
    *("django.core.handlers.asgi", "django.core.management", "django.db.models", "django.forms"),
    *("django.db.backends.postgresql.base", "django.template.loader", "django.views.generic"),
    *("cryptography.x509", "environ", "httptools", "uvloop", "zope.interface", "twisted.python.log"),
)
BYTES_AT_ONCE = 1 << 16
END = b"\n"


class Copy:
    """One running copy, with what `subprocess.Popen` has of a process."""

    stdout = None

    def __init__(self, zygote: "Zygote", pid: int) -> None:
        self._zygote = zygote
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = self._zygote.ask({"ended": self.pid})
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        deadline = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if deadline is not None and time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
            time.sleep(0.005)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:  # until somebody asked how it ended, no other process has its id
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Zygote:
    """The process that is copied; the end of this one ends it."""

    def __init__(self, mark: Mark, env: Mapping[str, str]) -> None:
        self._asking = threading.Lock()
        self._line, its = socket.socketpair()
        with its:
            self._process = subprocess.Popen(
                [sys.executable, "-u", "-m", __name__, str(its.fileno())],
                env={**env, MARK: str(mark)},
                cwd=CLONE,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                pass_fds=[its.fileno()],
            )

    def start(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        stdout: IO[Any],
        stderr: IO[Any] | int = subprocess.STDOUT,
        **_same: Any,
    ) -> Copy:
        """Run `python [-u] [-W …] -m module …` or `python file …`; all else is as in any process of ours."""
        python, *arguments = command
        if python != sys.executable:
            raise ValueError(f"only Python is copied, not {python}")
        errors = stdout if isinstance(stderr, int) else stderr
        pid = self.ask({"arguments": arguments, "env": dict(env)}, [stdout.fileno(), errors.fileno()])
        return Copy(self, pid)

    def run(self, command: Sequence[str], *, env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        """`subprocess.run`, with what was printed as text."""
        with tempfile.TemporaryFile("w+") as printed, tempfile.TemporaryFile("w+") as errors:
            code = self.start(command, env=env, stdout=printed, stderr=errors).wait()
            for file in (printed, errors):
                file.seek(0)
            return subprocess.CompletedProcess(list(command), code, printed.read(), errors.read())

    def ask(self, request: dict[str, Any], files: Sequence[int] = ()) -> Any:
        with self._asking:
            socket.send_fds(self._line, [json.dumps(request).encode(), END], files)
            answer, _ = heard(self._line)
            return json.loads(answer)

    def stop(self) -> None:
        self._line.close()
        self._process.wait()


def heard(line: socket.socket) -> tuple[bytes, list[int]]:
    """What the other side says, and the files that it gives; nothing if it has gone."""
    said, files, *_ = socket.recv_fds(line, BYTES_AT_ONCE, 2)
    while said and not said.endswith(END):
        said += line.recv(BYTES_AT_ONCE)
    return said, files


# --- The process itself ------------------------------------------------------------------------------------


def copies_wanted(line: socket.socket) -> dict[str, Any] | None:
    """Make copies until nobody can ask for one any more; in a copy, what it is to be."""
    codes: dict[int, int] = {}
    while True:
        asked, files = heard(line)
        if not asked:
            return None
        request = json.loads(asked)
        if "ended" in request:
            pid = request["ended"]
            if pid not in codes:
                ended, status = os.waitpid(pid, os.WNOHANG)
                if ended:
                    codes[pid] = os.waitstatus_to_exitcode(status)
            answer = codes.get(pid)
        else:
            answer = os.fork()
            codes.pop(answer, None)  # an id that is given again
            if answer == 0:
                line.close()
                become(request, files)
                return request
            for file in files:
                os.close(file)
        line.sendall(json.dumps(answer).encode() + END)


def become(request: dict[str, Any], files: Sequence[int]) -> None:
    os.setsid()
    for standard, file in enumerate(files, start=1):
        os.dup2(file, standard)
        os.close(file)
    os.environ.clear()
    os.environ.update(request["env"])


def run(arguments: list[str]) -> None:
    """What `python` does with these arguments."""
    while arguments[0].startswith("-") and arguments[0] != "-m":
        option = arguments.pop(0)
        if option == "-W":
            action, _, message = arguments.pop(0).partition(":")
            warnings.filterwarnings(action, re.escape(message))  # type: ignore[arg-type]
        elif option != "-u":  # this one was started with it
            raise ValueError(f"a copy cannot be given {option}")
    if arguments[0] == "-m":
        sys.argv = arguments[1:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = arguments
        runpy.run_path(arguments[0], run_name="__main__")


def main() -> None:
    gc.disable()  # what imports make stays
    for library in LIBRARIES:
        importlib.import_module(library)
    if threading.active_count() > 1:
        raise RuntimeError(
            f"a library has started threads, which no copy would have: {threading.enumerate()}"
        )
    gc.collect()
    gc.freeze()
    gc.enable()
    request = copies_wanted(socket.socket(fileno=int(sys.argv[1])))
    if request is not None:
        run(request["arguments"])


if __name__ == "__main__":
    main()
