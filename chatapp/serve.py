"""The web server, Daphne on uvloop, as in production:

python -m chatapp.serve --host 0.0.0.0 --port 8000 --proxy-headers
"""

import argparse
import asyncio
import gc
import socket
import sys
from collections.abc import Callable
from importlib import import_module
from typing import NoReturn

import uvloop
from twisted.internet import asyncioreactor

# Daphne makes an event loop of its own as soon as it is imported, unless there is one already.
asyncioreactor.install(uvloop.new_event_loop())

from daphne.server import Server  # noqa: E402
from twisted.internet import defer  # noqa: E402

# Daphne's 50 overflow when a hundred browsers come back at once, and a dropped SYN costs a second.
BACKLOG = 4096
# What is still running so long after the signal to end is left to the exit of the process.
SHUTDOWN_SECONDS = 3.0


class WebServer(Server):
    """Daphne's server, ending promptly: its own waits for ever on a request that does not take its cancellation,
    and stumbles over connections that are idle between two requests."""

    def kill_all_applications(self) -> "defer.Deferred[None]":
        running = [details.get("application_instance") for details in self.connections.values()]
        return defer.Deferred.fromFuture(
            asyncio.ensure_future(_cancelled([task for task in running if task]))
        )


async def _cancelled(tasks: "list[asyncio.Future[object]]") -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=SHUTDOWN_SECONDS)


def listen(host: str, port: int) -> socket.socket:
    """A socket bound to `host` and `port`. OSError if the host is not ours or the port is taken."""
    return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)


def serve(
    listener: socket.socket, *, proxy_headers: bool = False, when_ready: Callable[[], None] | None = None
) -> None:
    """Serve chatapp on `listener` until SIGTERM or SIGINT; call `when_ready` when the first request can be answered.

    With `proxy_headers` the client's address and scheme are what X-Forwarded-For and X-Forwarded-Proto say: only
    behind a proxy that overwrites both.
    """
    listener.listen(BACKLOG)
    # Imported only now: it takes seconds, and a port in use is to be told at once.
    from django.urls import get_resolver

    from chatapp.asgi import application

    # Django would load the views during the first request, and stop every stream of this process meanwhile.
    get_resolver().url_patterns  # noqa: B018
    # What was imported stays for good: without this, each full collection walks all of it, and streams stand still.
    gc.collect()
    gc.freeze()
    server = WebServer(
        application,
        endpoints=[f"fd:fileno={listener.detach()}"],
        server_name="",
        proxy_forwarded_address_header="X-Forwarded-For" if proxy_headers else None,
        proxy_forwarded_port_header="X-Forwarded-Port" if proxy_headers else None,
        proxy_forwarded_proto_header="X-Forwarded-Proto" if proxy_headers else None,
        ready_callable=when_ready,
    )
    server.run()


def load_provider() -> None:
    """Import the SDK that the first turn needs, which takes two seconds, in which every stream would stand still."""
    for module in ("chatapp.asgi", "chatapp.streaming.providers.anthropic"):
        import_module(module)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m chatapp.serve", description="Serve chatapp over HTTP.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument(
        "--proxy-headers",
        action="store_true",
        help="take the client's address and scheme from X-Forwarded-For and -Proto: behind a proxy only",
    )
    asked = parser.parse_args()
    try:
        listener = listen(asked.host, asked.port)
    except OSError as error:
        reason = str(error.strerror).partition(" (while")[0]
        refuse(f"cannot listen on {asked.host} port {asked.port}: {reason}.")
    load_provider()
    serve(listener, proxy_headers=asked.proxy_headers)


def refuse(sentence: str) -> NoReturn:
    sys.exit(f"chatapp: {sentence}")


if __name__ == "__main__":
    main()
