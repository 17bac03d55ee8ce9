"""HTTP to a provider, against a server that says byte for byte what it is told to."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from chatapp import resting
from chatapp.resting import Doors
from chatapp.streaming.providers import connections
from chatapp.streaming.providers.connections import Connection, Enough, Take, Transport
from chatapp.streaming.providers.wire import is_behind_a_proxy

HEAD = b"HTTP/1.1 200 OK\r\nrequest-id: r1\r\n"
CHUNKED = HEAD + b"transfer-encoding: chunked\r\n\r\n"

Say = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Server:
    """Answers the request with the n-th script, on whichever connection it comes; each script is said and ends."""

    def __init__(self, *scripts: bytes | Say) -> None:
        self.scripts = list(scripts)
        self.asked: list[bytes] = []
        self.connections = 0
        self.client_left = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.asked.append(head + await reader.readexactly(len(b"question")))
                script = self.scripts.pop(0)
                if isinstance(script, bytes):
                    writer.write(script)
                    if b"\r\nconnection: close" in script:
                        return
                else:
                    await script(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            self.client_left.set()
        finally:
            writer.close()


@asynccontextmanager
async def listening(
    serve: Say, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
) -> AsyncIterator[str]:
    """The address of a server, which is closed whatever happens: uvloop would wait for it."""
    listener = await asyncio.start_server(serve, host, 0, ssl=tls)
    try:
        yield f"{'https' if tls else 'http'}://{host}:{listener.sockets[0].getsockname()[1]}"
    finally:
        listener.close()


@asynccontextmanager
async def asking(
    server: Server, read: float = 5
) -> AsyncIterator[Callable[..., Awaitable[tuple[int, bytes]]]]:
    """A function that asks `server`, and hands what it answers over to a list, or to what it is given."""

    async def ask(take: Take | None = None) -> tuple[int, bytes]:
        async with client.stream("POST", f"{url}/v1?x=1", content=b"question") as response:
            taken: list[bytes] = []
            await response.extensions["body"].hand_over(take or taken.append)
            return response.status_code, b"".join(taken)

    async with (
        listening(server.serve) as url,
        httpx2.AsyncClient(transport=Transport(kept=2), timeout=httpx2.Timeout(5, read=read)) as client,
    ):
        yield ask


def chunk(piece: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(piece), piece)


LAST = b"0\r\n\r\n"


def drop_by_drop(wire: bytes) -> Say:
    async def say(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for at in range(len(wire)):
            writer.write(wire[at : at + 1])
            await writer.drain()
            await asyncio.sleep(0)

    return say


def and_close(wire: bytes) -> Say:
    async def say(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(wire)
        writer.close()

    return say


def and_nothing_more(wire: bytes) -> Say:
    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(wire)
        await reader.readexactly(1)

    return say


@pytest.mark.parametrize(
    "script",
    [
        HEAD + b"content-length: 11\r\n\r\nhello world",
        CHUNKED + chunk(b"hello") + chunk(b" world") + LAST,
        drop_by_drop(CHUNKED + chunk(b"hello") + chunk(b" world") + LAST),
        CHUNKED + chunk(b"hello world") + b"0\r\nconnection: close\r\ncontent-encoding: gzip\r\n\r\n",
        and_close(HEAD + b"\r\nhello world"),
        b"HTTP/1.1 103 Early Hints\r\n\r\n" + CHUNKED + chunk(b"hello world") + LAST,
        HEAD + b"connection: close\r\ncontent-length: 11\r\n\r\nhello world",
    ],
    ids=[
        "by length",
        "in chunks",
        "byte by byte",
        "with trailers",
        "until it closes",
        "after early hints",
        "the last one",
    ],
)
async def test_a_body_is_handed_over_whole(script: bytes | Say) -> None:
    server = Server(script)
    async with asking(server) as ask:
        assert await ask() == (200, b"hello world")
    [asked] = server.asked
    assert asked.startswith(b"POST /v1?x=1 HTTP/1.1\r\nHost: 127.0.0.1:")
    assert asked.endswith(b"\r\n\r\nquestion")


@pytest.mark.parametrize(
    ("script", "error"),
    [
        (and_close(b""), httpx2.RemoteProtocolError),
        (and_close(HEAD), httpx2.RemoteProtocolError),
        (and_close(CHUNKED + chunk(b"hello")), httpx2.RemoteProtocolError),
        (and_close(HEAD + b"content-length: 11\r\n\r\nhello"), httpx2.RemoteProtocolError),
        (and_nothing_more(b"\x00\xff garbage \r\n\r\n"), httpx2.RemoteProtocolError),
        (and_nothing_more(CHUNKED + b"zz\r\nhello\r\n"), httpx2.RemoteProtocolError),
        (and_nothing_more(HEAD + b"x: " + b"y" * 70_000), httpx2.RemoteProtocolError),
        (
            and_nothing_more(b"HTTP/1.1 101 Other\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n?"),
            httpx2.HTTPError,
        ),
        (and_nothing_more(b""), httpx2.ReadTimeout),
        (and_nothing_more(CHUNKED + chunk(b"hello")), httpx2.ReadTimeout),
    ],
    ids=[
        *("no answer", "cut in the headers", "cut in a chunked body", "cut in a body of known length"),
        *("garbage", "a bad chunk", "endless headers", "another protocol", "silence", "silence in the body"),
    ],
)
async def test_what_breaks_is_an_error_and_the_next_is_asked_anew(
    script: Say, error: type[Exception]
) -> None:
    server = Server(script, HEAD + b"content-length: 2\r\n\r\nok")
    async with asking(server, read=0.3) as ask:
        with pytest.raises(error):
            await ask()
        assert await ask() == (200, b"ok")
    assert server.connections == 2


async def test_a_connection_serves_one_after_the_other() -> None:
    server = Server(*[CHUNKED + chunk(b"ok") + LAST] * 3)
    async with asking(server) as ask:
        for _ in range(3):
            assert await ask() == (200, b"ok")
    assert server.connections == 1


@pytest.mark.parametrize(
    "first",
    [
        CHUNKED + chunk(b"ok") + LAST + b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\nunasked",
        CHUNKED + chunk(b"ok") + LAST + b"HTTP/1.1 200 OK\r\nx: 1\r\ncontent-length: 5",
        HEAD + b"connection: close\r\ncontent-length: 2\r\n\r\nok",
    ],
    ids=["that says more than it was asked", "that begins to", "that was the last one"],
)
async def test_a_connection_is_not_used_again(first: bytes) -> None:
    server = Server(first, HEAD + b"content-length: 5\r\n\r\nasked")
    async with asking(server) as ask:
        assert await ask() == (200, b"ok")
        assert await ask() == (200, b"asked")
    assert server.connections == 2


async def test_a_connection_that_was_idle_for_long_is_not_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(*[CHUNKED + chunk(b"ok") + LAST] * 2)
    async with asking(server) as ask:
        await ask()
        monkeypatch.setattr(connections, "IDLE_SECONDS", 0)
        await ask()
    assert server.connections == 2


async def test_whoever_leaves_closes_the_connection() -> None:
    server = Server(and_nothing_more(CHUNKED + chunk(b"hello")))
    async with asking(server) as ask:
        begun = asyncio.Event()
        asked = asyncio.ensure_future(ask(lambda _piece: begun.set()))
        await begun.wait()
        asked.cancel()
        await server.client_left.wait()


async def test_an_error_of_whoever_takes_ends_the_call_and_comes_out_of_it() -> None:
    server = Server(and_nothing_more(CHUNKED + chunk(b"one") + chunk(b"two")))
    taken: list[bytes] = []

    def take(piece: bytes) -> None:
        taken.append(piece)
        raise LookupError("no more")

    async with asking(server) as ask:
        with pytest.raises(LookupError, match="no more"):
            await ask(take)
        await server.client_left.wait()
    assert len(taken) == 1


def satisfied(_piece: bytes) -> None:
    raise Enough


async def test_who_has_enough_waits_for_no_end_and_a_connection_that_comes_to_it_serves_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connections, "LATE_END_SECONDS", 60)
    left = asyncio.Event()

    async def end_late(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED + chunk(b"all of it"))
        await left.wait()
        writer.write(chunk(b"and more") + LAST)

    server = Server(end_late, CHUNKED + chunk(b"ok") + LAST, CHUNKED + chunk(b"ok") + LAST)
    transport = Transport(kept=2)
    is_free = asyncio.Event()

    def take_back(connection: connections.Connection) -> None:
        Transport.take_back(transport, connection)
        is_free.set()

    monkeypatch.setattr(transport, "take_back", take_back)
    async with (
        listening(server.serve) as url,
        httpx2.AsyncClient(transport=transport) as client,
        asyncio.timeout(30),
    ):
        for _ in range(3):
            is_free.clear()
            async with client.stream("POST", url, content=b"question") as response:
                await response.extensions["body"].hand_over(satisfied)
            left.set()
            await is_free.wait()
    assert server.connections == 1


@pytest.mark.parametrize("script", [and_close, and_nothing_more])
async def test_who_has_enough_does_not_care_how_it_breaks(
    script: Callable[[bytes], Say], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "LATE_END_SECONDS", 0.01)
    server = Server(script(CHUNKED + chunk(b"all of it")), CHUNKED + chunk(b"ok") + LAST)
    async with asking(server) as ask:
        assert await ask(satisfied) == (200, b"")
        await server.client_left.wait()
        assert await ask() == (200, b"ok")
    assert server.connections == 2


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A key and its own certificate for localhost, which nobody has signed."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file = tmp_path / "localhost.pem"
    file.write_bytes(private + signed.public_bytes(pem))
    return file


async def test_it_speaks_tls_and_only_to_whom_it_can_trust(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    server = Server(CHUNKED + chunk(b"hello world") + LAST)
    async with listening(server.serve, "localhost", tls) as url:
        async with httpx2.AsyncClient(transport=Transport(kept=2)) as client:
            with pytest.raises(httpx2.ConnectError):
                await client.post(url, content=b"question")
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        async with httpx2.AsyncClient(transport=Transport(kept=2)) as client:
            assert (await client.post(url, content=b"question")).content == b"hello world"


async def test_nobody_listens_is_an_error_that_says_so() -> None:
    async with httpx2.AsyncClient(transport=Transport(kept=2)) as client:
        with pytest.raises(httpx2.ConnectError):
            await client.post("http://127.0.0.1:1/", content=b"question")


async def test_a_body_that_nobody_takes_is_not_read_into_memory() -> None:
    async def flood(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED)
        for _ in range(16):
            writer.write(chunk(b"x" * 1_000_000))
            await writer.drain()
        writer.write(LAST)

    taken = 0

    def take(piece: bytes) -> None:
        nonlocal taken
        taken += len(piece)

    async with (
        listening(Server(flood).serve) as url,
        httpx2.AsyncClient(transport=Transport(kept=2)) as client,
        client.stream("POST", url, content=b"question") as response,
    ):
        body = response.extensions["body"]
        for _ in range(1000):  # rounds of the loop, in which all of it could come
            await asyncio.sleep(0)
        assert body._size < 1_000_000
        await body.hand_over(take)
    assert taken == 16_000_000


async def test_whoever_iterates_has_it_whole() -> None:
    server = Server(CHUNKED + chunk(b"hello") + chunk(b" world") + LAST)
    async with (
        listening(server.serve) as url,
        httpx2.AsyncClient(transport=Transport(kept=2)) as client,
    ):
        assert (await client.post(url, content=b"question")).content == b"hello world"


@pytest.mark.parametrize("script", [and_close, and_nothing_more])
async def test_an_error_is_told_though_its_body_has_no_end(
    script: Callable[[bytes], Say], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "ERROR_BODY_SECONDS", 0.05)
    server = Server(script(b"HTTP/1.1 429 Too Many\r\nretry-after: 7\r\ncontent-length: 99\r\n\r\n{"))
    async with (
        listening(server.serve) as url,
        httpx2.AsyncClient(transport=Transport(kept=2), timeout=5) as client,
    ):
        answer = await client.post(url, content=b"question")
        assert (answer.status_code, answer.headers["retry-after"], answer.content) == (429, "7", b"{")
        await server.client_left.wait()


async def test_who_closes_just_when_they_are_asked_again_is_asked_on_another_connection() -> None:
    async def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    ok = HEAD + b"content-length: 2\r\n\r\nok"
    server = Server(ok, hang_up, ok)
    async with asking(server) as ask:
        assert await ask() == (200, b"ok")
        assert await ask() == (200, b"ok")
    assert (server.connections, len(server.asked)) == (2, 3)


async def test_a_connection_with_a_request_half_sent_is_not_used_again() -> None:
    """Who answers early, a refusal say, has not read the rest; the next request would stand behind it."""
    looked = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 2\r\n\r\nno")
        await looked.wait()
        writer.close()

    transport = Transport(kept=2)
    async with listening(serve) as url, httpx2.AsyncClient(transport=transport) as client:
        answer = await client.post(url, content=b"x" * 30_000_000)
        assert (answer.status_code, answer.content) == (400, b"no")
        assert not any(transport._idle.values())
        looked.set()


async def test_another_address_is_tried_when_the_first_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(HEAD + b"content-length: 2\r\n\r\nok")

    async def two_addresses(*_: object, **__: object) -> list[tuple[object, ...]]:
        stream = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "")
        # The first is of those that RFC 5737 keeps for documentation: nobody answers there.
        return [(*stream, ("192.0.2.1", port)), (*stream, ("127.0.0.1", port))]

    monkeypatch.setattr(connections, "addresses_of", two_addresses)
    async with (
        listening(server.serve) as url,
        httpx2.AsyncClient(transport=Transport(kept=2), timeout=5) as client,
    ):
        port = urlsplit(url).port
        assert (await client.post(f"http://claude.test:{port}/", content=b"question")).content == b"ok"


@pytest.mark.parametrize(
    ("environment", "behind"),
    [
        ({}, False),
        ({"https_proxy": "http://proxy:3128"}, True),
        ({"all_proxy": "http://proxy:3128"}, True),
        ({"http_proxy": "http://proxy:3128"}, False),
        ({"https_proxy": "http://proxy:3128", "no_proxy": "anthropic.com"}, False),
    ],
)
def test_a_proxy_of_the_environment_counts(
    environment: dict[str, str], behind: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert is_behind_a_proxy("https://api.anthropic.com") == behind


async def test_what_is_waited_for_ends_a_rest_of_the_loop_until_it_has_come() -> None:
    taken: asyncio.Queue[bytes] = asyncio.Queue()
    ended: list[bool] = []

    async def say(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED)
        for piece, seconds in ((b"hello", 5), (b"a word", 5), (b"another", 0.001)):
            writer.write(chunk(piece))  # nobody has looked at it when this returns
            ended.append(not resting.rest(seconds))
            await taken.get()
        writer.write(LAST)

    def take(piece: bytes) -> bool:
        taken.put_nowait(piece)
        return piece == b"a word"

    doors = Doors()
    resting.allow(doors)
    try:
        async with asking(Server(say, say)) as ask:
            for _ in range(2):  # the second on the same connection
                await ask(take)
                assert ended == [True, True, False]
                ended.clear()
                assert not doors._knocks.get_map()
    finally:
        resting.allow(None)
        doors.close()


async def test_what_came_while_our_own_process_was_paused_is_no_silence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A loop that goes on looks at its timers first."""
    hour = 3600
    asked: list[Connection] = []
    look_in = Connection._look_in

    def note(self: Connection, seconds: float) -> None:
        asked.append(self)
        look_in(self, seconds)

    monkeypatch.setattr(Connection, "_look_in", note)
    heard = asyncio.Event()

    async def say(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED + chunk(b"hello"))
        await heard.wait()
        writer.write(chunk(b" world") + LAST)
        asked[0]._heard_at -= hour
        asked[0]._look_at_silence(asyncio.get_running_loop().time() - hour)

    pieces: list[bytes] = []

    def take(piece: bytes) -> None:
        pieces.append(piece)
        heard.set()

    async with asking(Server(say)) as ask:
        await ask(take)
    assert b"".join(pieces) == b"hello world"
