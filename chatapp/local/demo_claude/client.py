"""The demo Claude for tests and benchmarks: start it, direct it, look at what it was asked."""

import asyncio
import http.client
import json
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlencode, urlsplit

import uvloop

from . import directives
from .server import Demo
from .serving import serve

START_SECONDS = 15.0
STOP_SECONDS = 5.0


@dataclass(frozen=True)
class LoggedRequest:
    """A request that the demo received. `journal.py` explains `state`; times are seconds of the epoch."""

    id: int
    request_id: str
    method: str
    path: str
    headers: dict[str, str]
    body: dict[str, Any] | None
    started_at: float
    ended_at: float | None
    state: str
    status: int | None
    model: str | None
    stream: bool
    tokens_sent: int
    thinking_tokens_sent: int
    text_sent: str


class DemoClaude:
    """A running demo Claude.

    with DemoClaude("pace 0") as demo:
        client = AsyncAnthropic(base_url=demo.url, api_key="any")
        demo.script("cut after=20")                # the next message
        demo.script({"deltas": ["Hel", "lo"]}, times=2)
        demo.always("error after=3")               # every message until `reset()`
        demo.wait_for("client_closed")             # the requests, once there is one in that state
    """

    def __init__(self, *lines: str, api_key: str = "", host: str = "127.0.0.1", port: int = 0) -> None:
        """`lines` are directives for every reply.

        Nothing runs before `start`; to direct one that is running already, set `url` instead.
        """
        self.url = ""
        self._lines = lines
        self._api_key = api_key
        self._host, self._port = host, port
        self._stop: Callable[[], None] = lambda: None

    def start(self) -> Self:
        """Serves from a thread of this process: ready within milliseconds."""
        thread = _Thread(self._lines, self._api_key, self._host, self._port)
        self.url = thread.start_and_wait()
        self._stop = thread.stop
        return self

    def start_process(self) -> Self:
        """Serves from a process of its own, which ends with this one however this one ends."""
        process = _Process(self._lines, self._api_key, self._host, self._port)
        self.url = process.url
        self._stop = process.stop
        return self

    def stop(self) -> None:
        """Ends it, and with it every answer that is being sent."""
        self._stop()
        self._stop = lambda: None

    def __enter__(self) -> Self:
        return self if self.url else self.start()

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def script(self, *script: object, times: int = 1, match: str = "") -> None:
        """Queues a script for the next `times` messages (those with `match` in the last user text).

        A script is a line (`"cut after=20"`), an object (`{"status": {"code": 429}}`), or several of them.
        """
        self._post("/demo/script", {"script": list(script), "times": times, "match": match})

    def always(self, *script: object) -> None:
        """Sets the script for every message until `reset`, or until it is set anew."""
        self._post("/demo/defaults", {"script": list(script)})

    def requests(self, path: str = "/v1/messages", state: str = "") -> list[LoggedRequest]:
        """What was asked at `path` (empty for anywhere), oldest first."""
        return self._find(path, state, count=0, seconds=0.0)

    def wait_for(
        self, state: str, *, count: int = 1, path: str = "/v1/messages", seconds: float = 60.0
    ) -> list[LoggedRequest]:
        """The requests in `state`, as soon as there are `count`; TimeoutError after `seconds`."""
        found = self._find(path, state, count, seconds)
        if len(found) < count:
            states = [request.state for request in self.requests(path)]
            raise TimeoutError(f"{count} requests {state} were awaited at {path}; there are {states}")
        return found

    async def until(
        self, state: str, *, count: int = 1, path: str = "/v1/messages", seconds: float = 60.0
    ) -> list[LoggedRequest]:
        """`wait_for` without blocking the event loop, which may have a connection to close meanwhile."""
        return await asyncio.to_thread(self.wait_for, state, count=count, path=path, seconds=seconds)

    def advance_clock(self, seconds: float) -> None:
        """Lets the prompt cache grow older."""
        self._post("/demo/clock", {"seconds": seconds})

    def reset(self) -> None:
        """Forgets scripts, cache and requests; what was given to the constructor stays."""
        self._post("/demo/reset", {})

    def _find(self, path: str, state: str, count: int, seconds: float) -> list[LoggedRequest]:
        query = urlencode({"path": path, "state": state, "count": count, "seconds": seconds})
        answer = self._call("GET", f"/demo/requests?{query}", patience=seconds)
        return [LoggedRequest(**found) for found in answer["requests"]]

    def _post(self, path: str, body: dict[str, Any]) -> None:
        self._call("POST", path, json.dumps(body).encode())

    def _call(
        self, method: str, path: str, body: bytes | None = None, patience: float = 0.0
    ) -> dict[str, Any]:
        """What a control endpoint answers; ValueError with its reason when it refuses."""
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=patience + 10)
        with closing(connection):
            connection.request(method, path, body)
            response = connection.getresponse()
            answer: dict[str, Any] = json.load(response)
        if response.status != 200:
            raise ValueError(answer["error"])
        return answer


class _Thread:
    def __init__(self, lines: tuple[str, ...], api_key: str, host: str, port: int) -> None:
        self._demo = (lines, api_key)
        self._address = (host, port)
        self._ready = threading.Event()
        self._url = ""
        self._failure: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop
        self._stopped: asyncio.Event
        self._thread = threading.Thread(target=self._run, name="demo-claude", daemon=True)

    def start_and_wait(self) -> str:
        self._thread.start()
        if not self._ready.wait(START_SECONDS):
            raise TimeoutError("the demo Claude did not start")
        if self._failure is not None:
            raise self._failure
        return self._url

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join()

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(self._serve())
        except (OSError, directives.DirectiveError) as failure:
            self._failure = failure
            self._ready.set()

    async def _serve(self) -> None:
        lines, api_key = self._demo
        demo = Demo([directives.from_line(line) for line in lines], api_key=api_key)
        self._loop, self._stopped = asyncio.get_running_loop(), asyncio.Event()
        await serve(demo, *self._address, self._stopped, self._listening)

    def _listening(self, url: str) -> None:
        self._url = url
        self._ready.set()


class _Process:
    def __init__(self, lines: tuple[str, ...], api_key: str, host: str, port: int) -> None:
        command = [sys.executable, "-m", __package__, "--host", host, "--port", str(port)]
        command += ["--quiet", "--until-stdin-closes", "--api-key", api_key]
        for line in lines:
            command += ["--directive", line]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None  # noqa: S101  # for the type checker: it is a pipe
        first_line = self._process.stdout.readline()
        if not first_line:
            self.stop()
            raise OSError(f"the demo Claude did not start: exit code {self._process.returncode}")
        self.url = first_line.split()[-1]

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.communicate(timeout=STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
