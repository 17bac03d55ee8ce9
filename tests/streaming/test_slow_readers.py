"""A reader that does not keep up is never queued for: it gets fewer, larger events, and memory stays flat."""

import json
import re
import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from accounts.models import User
from billing.models import LanguageModel
from chatapp.conversations.models import Turn
from tests.billing.books import CREDIT, give
from tests.conftest import SignIn
from tests.stack import Stack
from tests.streaming.reading import TURNS, follow, new_id, text_of

MODEL = "claude-fable-5-2"
TOKENS = 128_000
# Spread over two seconds: what came at once would be one event however little the reader takes.
ANSWER = f"[[demo: tokens {TOKENS}]] [[demo: chunk 64]] [[demo: pace {TOKENS // 2}]]"
# What the kernel keeps unsent, and Twisted beside it. Each takes one event more, because it is not full yet.
BUFFERS = 2 * 64 * 1024
# What the reader's own end takes unasked.
RECEIVED = 16 * 1024


@pytest.fixture
def long_answers(committed_db: None) -> Iterator[None]:
    model = LanguageModel.objects.filter(pk=MODEL)
    usual = model.values_list("answer_tokens", flat=True).get()
    model.update(answer_tokens=TOKENS)
    yield
    model.update(answer_tokens=usual)


def request(stack: Stack, cookies: str, csrf: str, turn: str) -> bytes:
    body = json.dumps({"id": turn, "text": ANSWER, "model": MODEL}).encode()
    address = urlsplit(stack.url)
    head = (
        f"POST {TURNS} HTTP/1.1\r\nHost: {address.netloc}\r\nCookie: {cookies}\r\nX-CSRFToken: {csrf}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body


def test_a_reader_that_stops_reading_gets_the_rest_as_one_and_slows_nobody(
    stack: Stack, alice: User, sign_in: SignIn, long_answers: None
) -> None:
    give(alice, 1000 * CREDIT)
    client, turn = sign_in(alice), new_id()
    cookies = "; ".join(f"{name}={value}" for name, value in client.cookies.items())
    address = urlsplit(stack.url)
    with socket.socket() as reader:
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        reader.connect((address.hostname, address.port))
        reader.sendall(request(stack, cookies, client.headers["X-CSRFToken"], turn))
        stack.wait_until(lambda: Turn.objects.filter(pk=turn).exists(), "the turn is open")
        beside = follow(client, turn)
        received = b""
        reader.settimeout(60)
        while piece := reader.recv(65536):
            received += piece
    head, _, body = received.partition(b"\r\n\r\n")
    assert b"chunked" in head.lower()
    told = unchunked(body).decode()
    events = re.findall(r"event: text\ndata: (.*)\n", told)
    texts = [json.loads(event)["text"] for event in events]
    answer = Turn.objects.select_related("assistant_message").get(pk=turn).assistant_message
    assert answer is not None
    assert "".join(texts) == answer.text == text_of(beside)
    # Who reads beside it had all of it before, as it was said.
    assert beside[-1]["status"] == "completed"
    assert [event["type"] for event in beside].count("text") > len(events)
    # No more was under way to it than the buffers take, and all the rest came as one event.
    largest = max((len(event.encode()) for event in events[:-1]), default=0)
    assert len(answer.text) - len(texts[-1]) <= BUFFERS + RECEIVED + 2 * largest
    assert told.rstrip().rpartition("event: ")[2].startswith("done")


def unchunked(body: bytes) -> bytes:
    """A chunked body, whole."""
    found = b""
    while body:
        size, _, body = body.partition(b"\r\n")
        found += body[: int(size, 16)]
        body = body[int(size, 16) + 2 :]
    return found
