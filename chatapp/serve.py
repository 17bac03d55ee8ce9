"""The web server, Daphne on uvloop, as in production:

python -m chatapp.serve --host 0.0.0.0 --port 8000 --proxy-headers
"""

import argparse
import asyncio
import gc
import os
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from importlib import import_module
from typing import TYPE_CHECKING, Any, NoReturn

import uvloop
from twisted.internet import asyncioreactor
from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

# Daphne makes an event loop of its own as soon as it is imported, unless there is one already.
asyncioreactor.install(uvloop.new_event_loop())

from autobahn.exception import Disconnected  # noqa: E402
from daphne.http_protocol import WebRequest  # noqa: E402
from daphne.server import Server  # noqa: E402
from twisted.internet import defer  # noqa: E402
from twisted.web import http  # noqa: E402

from chatapp import resting  # noqa: E402
from chatapp.bodies import BoundedFactory  # noqa: E402
from chatapp.connection import UNSENT_BYTES, Connection  # noqa: E402

if TYPE_CHECKING:
    from django.http import HttpResponse

# Daphne's 50 overflow when a hundred browsers come back at once, and a dropped SYN costs a second.
BACKLOG = 4096
# What has not ended so long after all turns have is left to the exit of the process.
SHUTDOWN_SECONDS = 3.0
# A page has nothing longer to say, nor we to it.
SOCKET_MESSAGE_BYTES = 16 * 1024
# Who takes nothing for so long is not reading any more.
STUCK_SECONDS = 120.0
# Of a connection that the server does not know any more.
GONE = {"disconnected": True}


@implementer(IPushProducer)
class Tap:
    """Twisted's word on whether a connection takes more: it shuts the tap when the reader does not keep up."""

    def __init__(self) -> None:
        self._open = asyncio.Event()
        self._open.set()

    def pauseProducing(self) -> None:
        self._open.clear()

    def resumeProducing(self) -> None:
        self._open.set()

    # The connection is gone: whoever waits is told so by Daphne.
    stopProducing = resumeProducing

    @property
    def is_open(self) -> bool:
        return self._open.is_set()

    async def flows(self) -> bool:
        """Wait until the reader takes more; False if it has taken nothing for STUCK_SECONDS."""
        if not self._open.is_set():
            try:
                async with asyncio.timeout(STUCK_SECONDS):
                    await self._open.wait()
            except TimeoutError:
                return False
        return True


class WebServer(Server):
    """Daphne's server that waits for slow readers, and ends well.

    Daphne's own buffers without end what a reader does not take. On SIGTERM it cancels everything at once, waits for
    ever on a request that does not take its cancellation, and stumbles over connections that are idle between two
    requests. This one takes no more connections and lets the turns come to their end first; a second signal hurries it.
    """

    def __init__(
        self, *args: Any, drain_seconds: float, largest_body: int, refusal: bytes, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self._drain_seconds = drain_seconds
        self.largest_body, self.refusal = largest_body, refusal
        self._ports: list[Any] = []
        self._doors = resting.Doors()
        resting.allow(self._doors)

    def listen_success(self, port: Any) -> None:
        port.transport, port.factory = partial(Connection, self._doors), BoundedFactory(self)
        self._doors.watch(port.socket, reads=True, writes=False)
        self._ports.append(port)
        super().listen_success(port)

    def create_application(self, protocol: Any, scope: dict[str, Any]) -> Any:
        if not isinstance(protocol, WebRequest):
            return super().create_application(protocol, scope)
        # Named in chatapp.streaming.sse, which must not be imported yet.
        scope["extensions"] = {"chatapp.write": partial(self._write, protocol)}
        given = super().create_application(protocol, scope)
        resting.begin(protocol)
        running = self.connections[protocol]["application_instance"]
        running.add_done_callback(lambda _: resting.answered(protocol))
        return given

    def _write(self, request: WebRequest, piece: bytes) -> bool:
        """Write a piece of a body that has begun, without a task that sends it; False, and nothing is written, if it
        has not begun, or its reader is gone or does not keep up.
        """
        tap = request.producer
        if not isinstance(tap, Tap) or not tap.is_open or request.finished or request.channel is None:
            return False
        # What Request.write comes to once a body has begun.
        request.channel.transport.write(b"%x\r\n%b\r\n" % (len(piece), piece) if request.chunked else piece)
        return True

    async def handle_reply(self, protocol: Any, message: dict[str, Any]) -> None:
        if message["type"] != "http.response.body":
            # A socket that its page is closing takes nothing more; its application is told when it is closed.
            with suppress(Disconnected):
                await super().handle_reply(protocol, message)
            return
        resting.answered(protocol)
        more = message.get("more_body", False)
        if more and protocol.producer is None and protocol.channel is not None:
            protocol.registerProducer(Tap(), streaming=True)
        tap = protocol.producer
        if tap is not None and not more and protocol.channel is not None:
            protocol.unregisterProducer()
        # What Daphne does, but for looking through the headers, of which a body has none.
        if not self.connections.get(protocol, GONE).get("disconnected"):
            protocol.handle_reply(message)
        if more and tap is not None and not await tap.flows() and protocol.channel is not None:
            protocol.channel.transport.abortConnection()

    def kill_all_applications(self) -> "defer.Deferred[None]":
        return defer.Deferred.fromFuture(asyncio.ensure_future(self._end()))

    async def _end(self) -> None:
        hurry = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, hurry.set)
        for port in self._ports:
            self._doors.watch(port.socket, reads=False, writes=False)
            port.stopListening()
        # Imported only now, like the application.
        from chatapp import key_uses
        from chatapp.streaming.running import drain

        await drain(self._drain_seconds, hurry)
        # Readers have been told how it ended; what is left are pages' sockets, and requests that hang.
        answering = self._applications(WebRequest)
        if answering:
            await asyncio.wait(answering, timeout=SHUTDOWN_SECONDS)
        left = self._applications(object)
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=SHUTDOWN_SECONDS)
        # What a database that hangs has not taken by then is left to the exit as well.
        with suppress(TimeoutError):
            async with asyncio.timeout(SHUTDOWN_SECONDS):
                await key_uses.write()

    def _applications(self, kind: type) -> "list[asyncio.Future[object]]":
        return [
            details["application_instance"]
            for protocol, details in self.connections.items()
            if isinstance(protocol, kind) and details.get("application_instance")
        ]


def listen(host: str, port: int) -> socket.socket:
    """A socket bound to `host` and `port`. OSError if the host is not ours or the port is taken."""
    return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)


def serve(
    listener: socket.socket,
    *,
    proxy_headers: bool = False,
    drain_seconds: float | None = None,
    when_ready: Callable[[], None] | None = None,
) -> NoReturn:
    """Serve chatapp on `listener` until SIGTERM or SIGINT, and then end this process; call `when_ready` when the first
    request can be answered.

    Then turns that are running have `drain_seconds` (TURN_DRAIN_SECONDS, if not given) to come to their end.

    With `proxy_headers` the client's address and scheme are what X-Forwarded-For and X-Forwarded-Proto say: only
    behind a proxy that overwrites both.
    """
    # Twisted's list of reasons is of before 429.
    http.RESPONSES.update({status.value: status.phrase.encode() for status in HTTPStatus})
    listener.listen(BACKLOG)
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):  # not on every system
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)
    # Imported only now: it takes seconds, and a port in use is to be told at once.
    from django.conf import settings
    from django.urls import get_resolver

    from chatapp.asgi import application
    from chatapp.problems import too_large

    # Django would load the views during the first request, and stop every stream of this process meanwhile.
    get_resolver().url_patterns  # noqa: B018
    # What was imported stays for good: without this, each full collection walks all of it, and streams stand still.
    gc.collect()
    gc.freeze()
    gc.enable()
    server = WebServer(
        application,
        endpoints=[f"fd:fileno={listener.detach()}"],
        server_name="",
        drain_seconds=settings.TURN_DRAIN_SECONDS if drain_seconds is None else drain_seconds,
        largest_body=settings.DATA_UPLOAD_MAX_MEMORY_SIZE,
        refusal=last_answer(too_large().response()),
        proxy_forwarded_address_header="X-Forwarded-For" if proxy_headers else None,
        proxy_forwarded_port_header="X-Forwarded-Port" if proxy_headers else None,
        proxy_forwarded_proto_header="X-Forwarded-Proto" if proxy_headers else None,
        websocket_max_message_size=SOCKET_MESSAGE_BYTES,
        ready_callable=when_ready,
    )
    server.run()
    # Python would wait for every thread, and so for as long as a database hangs that one of them has asked.
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # whoever read it may have gone
            stream.flush()
    os._exit(0)


def last_answer(response: "HttpResponse") -> bytes:
    """A response as it is sent where the server itself answers, and closes the connection."""
    status = f"HTTP/1.1 {response.status_code} {response.reason_phrase}\r\n"
    response["Content-Length"] = len(response.content)
    response["Connection"] = "close"
    return status.encode() + response.serialize_headers() + b"\r\n\r\n" + response.content


def load_provider() -> None:
    """Import the SDKs that the first turn needs, which takes seconds, in which every stream would stand still."""
    import_module("chatapp.asgi")
    from django.conf import settings

    import_module("chatapp.streaming.providers.anthropic")
    if settings.OPENAI_API_KEY:
        import_module("chatapp.streaming.providers.openai")


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
    gc.disable()  # what imports make stays; `serve` collects once, when they are done
    load_provider()
    serve(listener, proxy_headers=asked.proxy_headers)


def refuse(sentence: str) -> NoReturn:
    sys.exit(f"chatapp: {sentence}")


if __name__ == "__main__":
    main()
