"""The server itself, around an application that says how things stand."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection, IncompleteRead

import aiohttp
import pytest

from chatapp.local.process import CLONE
from tests.servers import wait_until

# A rest that nothing forbids would last an hour.
SERVER = """
import asyncio
from chatapp import serve, resting

sockets = []

async def socket(receive, send):
    await send({"type": "websocket.accept"})
    await receive()
    closed = asyncio.ensure_future(receive())
    while not closed.done():
        await send({"type": "websocket.send", "text": "news"})
        await asyncio.sleep(0)

async def application(scope, receive, send):
    if scope["type"] == "websocket":
        sockets.append("broken off")
        await socket(receive, send)
        sockets[-1] = "told that it is closed"
        return
    rested, waiting = resting.rest(3600), len(resting._waiting)
    if scope["path"] == "/breaks":
        raise RuntimeError
    if scope["path"] == "/hangs":
        while (await receive())["type"] != "http.disconnect":
            pass
        return
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": b"", "more_body": True})
    if scope["path"] == "/breaks-off":
        raise RuntimeError
    told = sockets[-1] if scope["path"] == "/socket" else f"{rested} {waiting} {len(resting._waiting)}"
    await send({"type": "http.response.body", "body": told.encode()})

listener = serve.listen("127.0.0.1", 0)
print(listener.getsockname()[1], flush=True)
listener.listen()
serve.WebServer(
    application, endpoints=[f"fd:fileno={listener.detach()}"], drain_seconds=0, largest_body=9, refusal=b""
).run()
"""


@pytest.fixture
def port() -> Iterator[int]:
    with subprocess.Popen(
        [sys.executable, "-c", SERVER], cwd=CLONE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as server:
        assert server.stdout is not None
        yield int(server.stdout.readline())
        server.kill()


def get(port: int, path: str) -> tuple[int, str]:
    with closing(HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()


def test_the_loop_does_not_rest_while_a_request_waits_for_its_answer(port: int) -> None:
    alone = (200, "False 1 0")
    assert get(port, "/") == alone
    assert get(port, "/breaks")[0] == 500
    assert get(port, "/") == alone
    with socket.create_connection(("127.0.0.1", port)) as leaves:
        leaves.send(b"GET /hangs HTTP/1.1\r\nHost: x\r\n\r\n")
        wait_until(lambda: get(port, "/") == (200, "False 2 1"), "the other request to wait")
    wait_until(lambda: get(port, "/") == alone, "the other request to be given up")


def test_a_reader_is_told_when_an_answer_breaks_off_each_time(port: int) -> None:
    for _ in range(2):
        with pytest.raises((ConnectionResetError, IncompleteRead)):
            get(port, "/breaks-off")


async def test_what_is_sent_to_a_socket_that_is_closing_is_let_go(port: int) -> None:
    async with aiohttp.ClientSession() as client, client.ws_connect(f"http://127.0.0.1:{port}/") as socket:
        await socket.receive()
    wait_until(lambda: get(port, "/socket") == (200, "told that it is closed"), "the application to end")
