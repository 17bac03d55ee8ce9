"""Chatapp itself as the benchmarks measure it: one web process and one worker, as in production."""

import itertools
import json
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from benchmarks.people import bearer
from benchmarks.servers import HOST, Database, Servers, running
from chatapp.local.process import Program, free_port

MODEL = "claude-sonnet-5-5"


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a comparison: where it is asked, and what it says last in a stream that was complete."""

    name: str
    program: Program
    port: int
    path: str
    end: str

    def request(self, body: object, headers: Mapping[str, str] | None = None) -> str:
        """A whole HTTP request, as it goes over the wire."""
        content = json.dumps(body)
        lines = [
            f"POST {self.path} HTTP/1.1",
            f"Host: {HOST}",
            "Content-Type: application/json",
            f"Content-Length: {len(content.encode())}",
            *(f"{name}: {value}" for name, value in (headers or {}).items()),
        ]
        return "\r\n".join([*lines, "", content])


@dataclass(frozen=True, slots=True)
class Site:
    """The running site. `upstream` stands for Claude; `beside` is what works for web and is told apart from it."""

    servers: Servers
    database: Database
    web: Side
    upstream: Side
    beside: tuple[Program, ...]

    @property
    def port(self) -> int:
        return self.web.port

    def turns(self, keys: Iterator[str], count: int, question: str) -> list[str]:
        """So many requests for a turn, each by the next of `keys`: what one may ask at once is limited."""
        return [
            self.web.request({"id": str(uuid.uuid4()), "text": question, "model": MODEL}, bearer(key))
            for key in itertools.islice(keys, count)
        ]


@contextmanager
def site(servers: Servers, *, quick: bool) -> Iterator[Site]:
    """Web and worker on a database of their own, and the stand-in for Claude; `quick` does without the worker."""
    database = servers.database("site")
    web_port, upstream_port = free_port(), free_port()
    programs = servers.programs(
        {
            **database.env,
            "DJANGO_SETTINGS_MODULE": "benchmarks.settings",
            "ANTHROPIC_BASE_URL": f"http://127.0.0.1:{upstream_port}",
            # The limits are checked as always, and never reached: few people do here what many do in life.
            "TURNS_PER_MINUTE": "1000",
        }
    )
    upstream = programs.python("upstream", "benchmarks.upstream", "--port", str(upstream_port))
    web, worker = programs.web("127.0.0.1", web_port), programs.worker()
    with running(upstream, upstream_port), running(web, web_port, "/healthz"):
        if not quick:
            worker.start()
        try:
            yield Site(
                servers=servers,
                database=database,
                web=Side("ours", web, web_port, "/api/v1/turns", '"status":"completed"'),
                upstream=Side("upstream", upstream, upstream_port, "/v1/messages", "message_stop"),
                beside=() if quick else (worker, servers.postgres, servers.valkey),
            )
        finally:
            worker.stop()
