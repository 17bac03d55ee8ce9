"""HTTP/1.1 to a provider whose answer is handed on in the very moment in which its bytes arrive.

A transport for the SDKs' client (httpx2). What a stream of small pieces costs in a common client is the way from one
coroutine to the next, for each piece and through each layer; here the parser (llhttp, by httptools) calls whoever
takes the body. One request at a time on each connection, which is kept warm for the next.

The rules are those of RFC 9112; what a proxy or HTTP/2 would need is not here.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any, Final

import httptools
import httpx2
from aiohappyeyeballs import start_connection

from accounts.patience import within
from chatapp import resting

# Of a body that nobody takes yet, no more is read than this.
UNTAKEN_BYTES: Final = 256 * 1024
# Whoever asks for a whole body gets no more: it is an error's, or not from a provider of ours.
WHOLE_BODY_BYTES: Final = 8 * 1024 * 1024
HEAD_BYTES: Final = 64 * 1024
# Providers close what is idle for longer; what they are just closing is not to be used.
IDLE_SECONDS: Final = 30.0
SECOND_ADDRESS_SECONDS: Final = 0.25
# Whose body has not ended so long after all of it that anybody wants is not waited for: its connection is closed.
LATE_END_SECONDS: Final = 1.0
# A loop that comes to a timer so much later than it rang has not heard yet what came meanwhile.
LATE_SECONDS: Final = 0.1
# An error is told by its status and headers: for its words nobody waits longer.
ERROR_BODY_SECONDS: Final = 0.5

Take = Callable[[bytes], bool | None]
"""Takes a piece of a body; true once what somebody waits for has come, and the rest need not be looked at at once.

It raises Enough when it wants no more.
"""
Headers = list[tuple[bytes, bytes]]
Origin = tuple[str, str, int]


class Enough(Exception):
    """Raised by whoever takes a body: all that they wanted of it has come, however it goes on or ends."""


class Body(httpx2.AsyncByteStream):
    """The body of one response, raw as it came; `hand_over` it once, or iterate to have it whole.

    Of an error's body, iterating gives what has come within a moment, however it breaks then.
    """

    def __init__(self, connection: "Connection", *, is_error: bool) -> None:
        self._connection = connection
        self._is_error = is_error
        self._untaken: list[bytes] = []
        self._size = 0
        self._take: Take = self._keep
        self._is_over = False
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def hand_over(self, take: Take) -> None:
        """Call `take` with each piece as it arrives, in order, until the end, or until it has Enough.

        httpx2.HTTPError if it breaks, is cut, or stalls. An error of `take` ends the exchange and comes out here.
        """
        untaken, self._untaken = self._untaken, []
        try:
            taken = [take(piece) for piece in untaken]
        except Enough:
            self._leave_the_rest()
            return
        if any(taken) and not self._is_over:
            self._connection.expect_no_more()
        self._take = take
        self._connection.go_on()
        await self._ended

    async def __aiter__(self) -> AsyncIterator[bytes]:
        pieces: list[bytes] = []
        size = 0

        def collect(piece: bytes) -> None:
            nonlocal size
            size += len(piece)
            if size > WHOLE_BODY_BYTES:
                raise httpx2.DecodingError("a body beyond all measure")
            pieces.append(piece)

        if self._is_error:
            with suppress(httpx2.HTTPError, TimeoutError):
                async with within(ERROR_BODY_SECONDS):
                    await self.hand_over(collect)
        else:
            await self.hand_over(collect)
        for piece in pieces:
            yield piece

    async def aclose(self) -> None:
        """Leave; what is still to come is not read, and its connection not used again."""
        if not self._is_over:
            self._is_over = True
            self._connection.abort()

    # --- The connection's side

    def feed(self, piece: bytes) -> None:
        if self._is_over:
            return
        try:
            if self._take(piece):
                self._connection.expect_no_more()
        except Enough:
            self._leave_the_rest()
            self.end()
        except Exception as error:  # noqa: BLE001 (whatever it is, it is for whoever waits)
            self.end(error)
            self._connection.abort()

    def end(self, error: Exception | None = None) -> None:
        self._is_over = True
        if self._ended.done():  # whoever waited has left
            return
        if error is None:
            self._ended.set_result(None)
        else:
            self._ended.set_exception(error)
            self._ended.exception()  # or asyncio complains of an error that nobody came to hear

    def _leave_the_rest(self) -> None:
        """Nobody waits for the end. If it comes soon, as it does nearly always, the connection serves again."""
        if not self._is_over:
            self._is_over = True
            self._connection.end_soon()

    def _keep(self, piece: bytes) -> None:
        self._untaken.append(piece)
        self._size += len(piece)
        if self._size > UNTAKEN_BYTES:
            self._connection.pause()


class Unheard(httpx2.RemoteProtocolError):
    """The connection was closed before anything was said on it: the request was not looked at, as far as is known."""


class Connection(asyncio.Protocol):
    """One connection to a provider, and the exchange that is on it."""

    def __init__(self, pool: "Transport", origin: Origin, door: socket.socket) -> None:
        self.origin = origin
        self._door = door
        self._is_expected = False
        self.idle_since = 0.0
        self._pool = pool
        self._loop = asyncio.get_running_loop()
        self._pieces: list[bytes] = []
        # What the parser calls with each piece of a body.
        self.on_body = self._pieces.append
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._is_paused = False
        self._answered: asyncio.Future[tuple[int, Headers, Body]] | None = None
        self._headers: Headers = []
        self._head_bytes = 0
        self._body: Body | None = None
        self._ends_with_connection = False
        self._patience = 0.0
        self._heard_at = 0.0
        self._has_heard = False
        self._silence: asyncio.TimerHandle | None = None

    # --- The asker's side

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    async def ask(self, request: bytes, content: bytes, patience: float | None) -> tuple[int, Headers, Body]:
        """Send a request: the status and headers of its response, and the body to come.

        httpx2.HTTPError if it breaks, or is silent for longer than `patience` seconds, now or within the body; Unheard
        if it broke before the server had said a word.
        """
        transport = self._transport
        if transport is None or transport.is_closing():
            raise Unheard("closed at once")
        self._answered = self._loop.create_future()
        self._has_heard = False
        self._heard_at = self._loop.time()
        if patience is not None:
            self._patience = patience
            self._look_in(patience)
        self._is_expected = True
        resting.expect(self._door)
        transport.writelines([request, content])
        try:
            return await self._answered
        except asyncio.CancelledError:
            self.abort()
            raise

    def expect_no_more(self) -> None:
        """What comes need not be looked at at once."""
        if self._is_expected:
            self._is_expected = False
            resting.expect_no_more(self._door)

    def pause(self) -> None:
        """Read no more for now."""
        if self.is_open and not self._is_paused:
            self._is_paused = True
            self._transport.pause_reading()  # type: ignore[union-attr]

    def go_on(self) -> None:
        """Read again, if it was paused."""
        if self.is_open and self._is_paused:
            self._is_paused = False
            self._heard_at = self._loop.time()  # the silence was ours
            self._transport.resume_reading()  # type: ignore[union-attr]

    def end_soon(self) -> None:
        """Wait no longer than LATE_END_SECONDS for the end of the body, whatever else comes of it."""
        self.expect_no_more()
        self.go_on()
        if self._silence is not None:
            self._silence.cancel()
        late = httpx2.ReadTimeout("a body without an end")
        self._silence = self._loop.call_later(LATE_END_SECONDS, self._break, late)

    def abort(self) -> None:
        """Close at once, whatever is under way."""
        self.expect_no_more()
        if self._transport is not None:
            self._transport.abort()

    # --- What asyncio calls

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._heard_at = self._loop.time()
        self._has_heard = True
        if self._answered is None:
            self._break(httpx2.RemoteProtocolError("a response that nobody asked for"))
            return
        try:
            self._parser.feed_data(data)
            self._deliver()
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._deliver()
            self._break(httpx2.RemoteProtocolError(f"not HTTP: {type(error).__name__}"))
            return
        if self._answered is not None and not self._answered.done():
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES:
                self._break(httpx2.RemoteProtocolError("a response whose headers have no end"))

    def connection_lost(self, exc: Exception | None) -> None:
        self._pool.forget(self)
        if self._body is not None and self._ends_with_connection and exc is None:
            self._body.end()
        how = httpx2.RemoteProtocolError if self._has_heard else Unheard
        self._break(how("the connection was closed"))

    # --- What the parser calls

    def on_message_begin(self) -> None:
        self._headers = []
        if self._answered is None:  # behind the end of the one that was asked for
            self._break(httpx2.RemoteProtocolError("a response that nobody asked for"))

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._body is None:  # else it is a trailer
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:  # word that the answer is still to come
            return
        if self._answered is None or self._answered.done():
            self._break(httpx2.RemoteProtocolError("a response that nobody asked for"))
            return
        names = {name.lower() for name, _ in self._headers}
        self._ends_with_connection = not names & {b"content-length", b"transfer-encoding"}
        self._body = Body(self, is_error=status >= 400)
        self._answered.set_result((status, self._headers, self._body))

    def on_message_complete(self) -> None:
        self._deliver()
        body, self._body = self._body, None
        if body is None:
            return
        # Of a request that was answered early, the rest is still to be sent.
        unsent = self._transport is None or self._transport.get_write_buffer_size() > 0
        reusable = self._parser.should_keep_alive() and not unsent
        self.go_on()
        self._rest()
        body.end()
        if reusable and self.is_open:
            self._pool.take_back(self)
        else:
            self.abort()

    # --- Its own

    def _deliver(self) -> None:
        """Feed the body with what has come, as one, in however many chunks it was sent."""
        if self._pieces:
            content = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
            self._pieces.clear()
            if self._body is not None:
                self._body.feed(content)

    def _rest(self) -> None:
        """Nothing is under way any more."""
        self.expect_no_more()
        if self._silence is not None:
            self._silence.cancel()
        self._silence = self._answered = None
        self._head_bytes = 0
        self.idle_since = self._loop.time()

    def _break(self, error: Exception) -> None:
        """End what is under way with `error`, and the connection with it."""
        answered, body = self._answered, self._body
        self._body = None
        if answered is not None and not answered.done():
            answered.set_exception(error)
        if body is not None:
            body.end(error)
        self._rest()
        self.abort()

    def _look_in(self, seconds: float) -> None:
        due = self._loop.time() + seconds
        self._silence = self._loop.call_later(seconds, self._look_at_silence, due)

    def _look_at_silence(self, due: float) -> None:
        """One timer for all of an exchange, set anew only when it rings too early; or so late that what has come
        meanwhile is still to be heard: loops look at their timers first.
        """
        now = self._loop.time()
        left = self._heard_at + self._patience - now
        if left > 0:
            self._look_in(left)
        elif now - due > LATE_SECONDS:
            self._look_in(LATE_SECONDS)
        else:
            self._break(httpx2.ReadTimeout("silence"))


class Transport(httpx2.AsyncBaseTransport):
    """Keeps up to `kept` connections warm. A response has its `Body` among its extensions, as "body"."""

    def __init__(self, *, kept: int) -> None:
        self._kept = kept
        self._open: set[Connection] = set()
        self._idle: dict[Origin, list[Connection]] = {}
        self._tls = httpx2.create_ssl_context()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        url, timeout = request.url, request.extensions.get("timeout", {})
        port = url.port or (443 if url.scheme == "https" else 80)
        origin = (url.scheme, url.raw_host.decode("ascii"), port)
        lines = [b"%s %s HTTP/1.1" % (request.method.encode("ascii"), url.raw_path)]
        lines += [b"%s: %s" % header for header in request.headers.raw]
        head = b"\r\n".join([*lines, b"", b""])
        asked = (head, await request.aread(), timeout.get("read"))
        try:
            warm = self._warm(origin)
            status, headers, body = await (warm or await self._connect(origin, timeout.get("connect"))).ask(
                *asked
            )
        except Unheard:
            if warm is None:
                raise
            # The provider closed it in the very moment in which it was used again.
            connection = await self._connect(origin, timeout.get("connect"))
            status, headers, body = await connection.ask(*asked)
        return httpx2.Response(
            status,
            headers=headers,
            stream=body,
            extensions={"http_version": b"HTTP/1.1", "body": body},
            request=request,
        )

    async def aclose(self) -> None:
        for connection in list(self._open):
            connection.abort()

    def take_back(self, connection: Connection) -> None:
        """An exchange on it has come to its end."""
        idle = self._idle.setdefault(connection.origin, [])
        if len(idle) < self._kept:
            idle.append(connection)
        else:
            connection.abort()

    def forget(self, connection: Connection) -> None:
        """It is closed."""
        self._open.discard(connection)
        idle = self._idle.get(connection.origin, [])
        if connection in idle:
            idle.remove(connection)

    def _warm(self, origin: Origin) -> Connection | None:
        idle = self._idle.get(origin, [])
        now = asyncio.get_running_loop().time()
        while idle:
            connection = idle.pop()  # the one used last: others may rest until they are closed
            if connection.is_open and now - connection.idle_since < IDLE_SECONDS:
                return connection
            connection.abort()
        return None

    async def _connect(self, origin: Origin, patience: float | None) -> Connection:
        scheme, host, port = origin
        tls = self._tls if scheme == "https" else None
        try:
            async with within(patience):
                loop = asyncio.get_running_loop()
                # Several at once, if the first does not answer soon (RFC 8305).
                opened = await start_connection(
                    await addresses_of(host, port), happy_eyeballs_delay=SECOND_ADDRESS_SECONDS
                )
                _, connection = await loop.create_connection(
                    lambda: Connection(self, origin, opened),
                    sock=opened,
                    ssl=tls,
                    server_hostname=host if tls else None,
                )
        except TimeoutError as error:
            raise httpx2.ConnectTimeout("no connection in time") from error
        except OSError as error:
            raise httpx2.ConnectError(type(error).__name__) from error
        if connection.is_open:
            self._open.add(connection)
        return connection


async def addresses_of(host: str, port: int) -> list[Any]:
    """Where a host may be reached, as `socket.getaddrinfo` tells it; OSError if nobody knows it."""
    return await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
