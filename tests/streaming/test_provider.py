"""Claude through the real SDK over HTTP: what arrives, and what each fault is called."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from django.test import override_settings

from billing.pricing import Usage
from chatapp.local.demo_claude.client import DemoClaude
from chatapp.streaming.providers import anthropic, connections, openai, wire
from chatapp.streaming.providers.anthropic import Claude
from chatapp.streaming.providers.base import Accepted, Delta, Finished, Prompt, ProviderError, Said, Thought
from chatapp.streaming.providers.event_bytes import LONGEST_EVENT_BYTES, EventBytes
from chatapp.streaming.providers.wire import retry_after

PROMPT = Prompt("claude-sonnet-5-5", "Be brief.", (("user", "hello"),), 4096, False, "someone")
THINKING = Prompt("claude-opus-5-5", "Be brief.", (("user", "hello"),), 4096, True, "someone")


@pytest.fixture(scope="module")
def demo() -> Any:
    with DemoClaude("pace 0") as running:
        yield running


@pytest.fixture
async def claude(demo: DemoClaude, settings: Any) -> AsyncIterator[Claude]:
    settings.ANTHROPIC_BASE_URL = demo.url
    settings.TURN_CONNECT_SECONDS = 30
    settings.TURN_STALL_SECONDS = 30
    demo.reset()
    provider = Claude()
    yield provider
    await provider.aclose()


async def answer(claude: Claude, prompt: Prompt = PROMPT) -> list[Delta]:
    heard: list[Delta] = []
    await claude.stream(prompt, heard.append)
    return heard


def said(deltas: list[Delta]) -> str:
    return "".join(delta.text for delta in deltas if isinstance(delta, Said))


async def test_an_answer_is_accepted_said_and_finished(demo: DemoClaude, claude: Claude) -> None:
    demo.script({"deltas": ["Hel", "lo"]})

    deltas = await answer(claude)

    assert isinstance(deltas[0], Accepted)
    assert deltas[0].usage.output_tokens == 0
    assert deltas[0].request_id.startswith("req_")
    assert said(deltas) == "Hello"
    assert isinstance(deltas[-1], Finished)
    assert deltas[-1].stop_reason == "end_turn"


async def test_usage_is_the_last_total_and_never_a_sum(demo: DemoClaude, claude: Claude) -> None:
    numbers = {"input_tokens": 10, "output_tokens": 20, "cache_read_input_tokens": 30}
    written = {"ephemeral_5m_input_tokens": 40, "ephemeral_1h_input_tokens": 50}
    demo.script({"say": {"text": "x"}, "usage": numbers | written})

    finished = (await answer(claude))[-1]

    assert finished == Finished("end_turn", Usage(10, 20, 30, 40, 50))


def test_totals_replace_what_was_known_and_keep_what_they_do_not_tell() -> None:
    first = anthropic.input_usage({"input_tokens": 10, "cache_creation_input_tokens": 9})

    assert first == Usage(input_tokens=10, cache_write_5m_tokens=9)
    assert anthropic.with_totals(first, {"output_tokens": 3}) == replace(first, output_tokens=3)
    assert anthropic.with_totals(first, {}) == first
    assert anthropic.input_usage(None) == Usage()


async def test_thinking_comes_apart_from_the_answer(demo: DemoClaude, claude: Claude) -> None:
    demo.script({"thinking": {"text": "Let me see."}, "say": {"text": "Four."}})

    deltas = await answer(claude, THINKING)

    assert "".join(delta.text for delta in deltas if isinstance(delta, Thought)) == "Let me see."
    assert said(deltas) == "Four."


@pytest.mark.parametrize(
    "pieces",
    [
        ["caf", "e\u0301 ", "👩‍👩‍👧", " \r\n", "\u2028 end"],
        ["   leading", " and trailing   "],
        ["data: {}\n\n", "event: error\n"],
    ],
)
async def test_text_arrives_byte_for_byte(demo: DemoClaude, claude: Claude, pieces: list[str]) -> None:
    demo.script({"deltas": pieces})

    assert said(await answer(claude)) == "".join(pieces)


@pytest.mark.parametrize(
    ("pieces", "text"),
    [
        ((r"a\ud83d", "", r"\ude00b"), "a😀b"),
        ((r"\ud83d", r"\ude00\ud83d", r"\ude01"), "😀😁"),
        ((r"a\ud83d", "é", r"\ude00b"), "aéb"),
        ((r"a\ud83d", r"\ud83d\ude00"), "a😀"),
        ((r"\ude00a\ud83d",), "a"),
    ],
)
@pytest.mark.parametrize("reader", [anthropic.Answer, openai.Answer])
def test_a_character_that_is_cut_in_two_is_whole_again(
    reader: type[anthropic.Answer | openai.Answer], pieces: tuple[str, ...], text: str
) -> None:
    said = ""
    answer = anthropic.Answer(request_id="") if reader is anthropic.Answer else openai.Answer()
    for piece in pieces:
        delta = answer.read(
            b'{"type": "content_block_delta", "delta": {"type": "text_delta", "text": "%(piece)s"},'
            b' "choices": [{"delta": {"content": "%(piece)s"}}]}' % {b"piece": piece.encode()}
        )
        said += delta.text if isinstance(delta, Said) else str(delta)
    assert said == text


async def test_nul_which_no_database_can_store_is_left_out(demo: DemoClaude, claude: Claude) -> None:
    demo.script({"deltas": ["a\x00b"]})

    assert said(await answer(claude)) == "ab"


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("status 429 retry_after=7", "rate_limited"),
        ("status 529", "overloaded"),
        ("status 500", "provider_unavailable"),
        ("status 503", "provider_unavailable"),
        ("status 504", "provider_unavailable"),
        ("status 400", "provider_rejected"),
        ("status 401", "provider_rejected"),
        ("status 403", "provider_rejected"),
        ("status 413", "context_too_long"),
        ("too_long", "context_too_long"),
        (
            "status 400 message='input length and `max_tokens` exceed context limit: 9 + 4096 > 4100'",
            "context_too_long",
        ),
        ("drop", "provider_unavailable"),
        ("error overloaded_error after=3", "overloaded"),
        ("error api_error after=3", "provider_unavailable"),
        ("cut after=3", "provider_cut"),
        ("cut after=3 reset=true", "provider_cut"),
        ("end after=3", "provider_cut"),
        ("end before=message_stop", "provider_cut"),
        ("garbage after=3", "provider_cut"),
    ],
)
async def test_each_fault_has_its_code(demo: DemoClaude, claude: Claude, fault: str, code: str) -> None:
    demo.script("tokens 20", fault)

    with pytest.raises(ProviderError) as caught:
        await answer(claude)

    assert caught.value.code == code


@pytest.mark.usefixtures("claude")
@pytest.mark.parametrize(
    ("fault", "patience", "code"),
    [
        ("hang", "TURN_CONNECT_SECONDS", "provider_unavailable"),
        ("stall after=3", "TURN_STALL_SECONDS", "provider_cut"),
    ],
)
async def test_silence_has_its_code_too(
    demo: DemoClaude, settings: Any, fault: str, patience: str, code: str
) -> None:
    demo.script("tokens 20", fault)
    setattr(settings, patience, 1)

    async with aclosing(Claude()) as impatient:
        with pytest.raises(ProviderError) as caught:
            await answer(impatient)

    assert caught.value.code == code


WHOLE = b"".join(
    b"event: %s\ndata: %s\n\n" % (json.loads(data)["type"].encode(), data)
    for data in [
        b'{"type": "message_start", "message": {"usage": {"input_tokens": 3}}}',
        b'{"type": "content_block_delta", "delta": {"type": "text_delta", "text": "Hello"}}',
        b'{"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 1}}',
        b'{"type": "message_stop"}',
        b'{"type": "content_block_delta", "delta": {"type": "text_delta", "text": "none of it"}}',
    ]
)
SAID = [Accepted(Usage(input_tokens=3), ""), Said("Hello"), Finished("end_turn", Usage(3, 1))]


@asynccontextmanager
async def saying(body: bytes, then: str = "the end") -> AsyncIterator[list[object]]:
    """ANTHROPIC_BASE_URL answers each request with a chunk of these bytes, after which comes the end of the body, or
    the connection closes, or nothing more; gives a list that grows with each connection.
    """
    opened: list[object] = []
    # In one with what stands before it: who has enough of that may ask again at once.
    end = b"0\r\n\r\n" if then == "the end" else b""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        opened.append(writer)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(int(re.findall(rb"(?i)content-length: (\d+)", head)[0]))
                writer.write(
                    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n%x\r\n%s\r\n%s"
                    % (len(body), body, end)
                )
                if then == "a cut":
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    address = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    try:
        with override_settings(ANTHROPIC_BASE_URL=address, TURN_STALL_SECONDS=60):
            yield opened
    finally:
        listener.close()


@pytest.mark.parametrize("proxied", [False, True])
@pytest.mark.parametrize("then", ["the end", "a cut", "nothing"])
async def test_with_its_last_event_an_answer_is_complete_whatever_comes_then(
    then: str, proxied: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(anthropic, "is_behind_a_proxy", lambda _url: proxied)
    if then == "the end":  # however late it is seen
        for module in (wire, connections):
            monkeypatch.setattr(module, "LATE_END_SECONDS", 30)
    async with saying(WHOLE, then) as opened:
        claude = Claude()
        try:
            assert [await answer(claude), await answer(claude)] == [SAID, SAID]
        finally:
            await claude.aclose()
    # What ends as it should leaves its connection to the next.
    assert len(opened) == (1 if then == "the end" else 2)


async def test_the_provider_says_when_to_come_back(demo: DemoClaude, claude: Claude) -> None:
    demo.script("status 429 retry_after=7")

    with pytest.raises(ProviderError) as caught:
        await answer(claude)

    assert caught.value.retry_after == 7


@pytest.mark.parametrize(
    ("told", "seconds"),
    [
        ("1.5", 1.5),
        ("Wed, 21 Oct 2026 07:28:00 GMT", 60),
        ("Wed, 21 Oct 2026 07:28:00 -0000", 60),
        ("Wed, 21 Oct 2026 07:00:00 GMT", 0),
        ("Wed, 21 Oct 2099 07:28:00 GMT", 86_400),
        ("1e9", 86_400),
        *((insane, None) for insane in ("inf", "1e400", "nan", "-1", "soon", "Wed, 99 Oct 2026", "")),
    ],
)
def test_when_to_come_back_is_a_sane_number_of_seconds_or_not_told(told: str, seconds: float | None) -> None:
    headers = {"retry-after": told, "date": "Wed, 21 Oct 2026 07:27:00 GMT"}
    assert anthropic.told(429, "rate_limit_error", "", headers, None).retry_after == seconds


def test_without_a_clock_of_its_own_a_provider_is_taken_at_ours() -> None:
    in_a_minute = format_datetime(datetime.now(UTC) + timedelta(seconds=61), usegmt=True)
    assert 0 < (retry_after({"retry-after": in_a_minute}) or 0) <= 61


async def test_what_cannot_be_stored_does_not_come_in_as_a_reason(demo: DemoClaude, claude: Claude) -> None:
    demo.script({"say": {"text": "x"}, "stop": {"reason": "end\x00turn"}})

    finished = (await answer(claude))[-1]

    assert isinstance(finished, Finished)
    assert finished.stop_reason == "endturn"


async def test_leaving_closes_the_call_upstream(demo: DemoClaude, claude: Claude) -> None:
    demo.script("tokens 5000", "pace 200")
    said = asyncio.Event()
    answering = asyncio.create_task(
        claude.stream(PROMPT, lambda delta: said.set() if isinstance(delta, Said) else None)
    )
    await said.wait()
    answering.cancel()

    await demo.until("client_closed")


@pytest.mark.parametrize("count", [-1, 1.5, "12", None, True, 10**12])
def test_a_count_that_cannot_be_charged_breaks_the_answer(count: Any) -> None:
    with pytest.raises(ValueError, match="not a count"):
        anthropic.count(count)


def test_a_prompt_is_never_longer_than_its_bound() -> None:
    prompt = Prompt("m", "s", (("user", "日本"), ("assistant", "ok")), 1, False, "x")

    assert prompt.bound_tokens >= len("日本".encode()) + len("ok") + len("s")
    assert Usage().prompt_tokens == 0


# --- The bytes


WIRE = b'event: a\ndata: {"x":\ndata:1}\n\n: nothing\n\nevent: b\n\ndata:  two\n\n\ndata: three\n\n'
DATA = [b'{"x":\n1}', b" two", b"three"]


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_events_are_the_same_however_their_bytes_are_cut(line_end: bytes, size: int) -> None:
    wire = WIRE.replace(b"\n", line_end)
    events = EventBytes()

    assert [data for at in range(0, len(wire), size) for data in events.feed(wire[at : at + size])] == DATA


def test_an_event_without_end_fills_no_memory() -> None:
    events = EventBytes()
    events.feed(b"data: ")

    with pytest.raises(ValueError, match="without an end"):
        events.feed(b"x" * LONGEST_EVENT_BYTES)
