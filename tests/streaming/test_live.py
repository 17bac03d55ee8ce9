"""A stream is a cursor over a growing text."""

import asyncio
import json
import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

import pytest
from django.test import RequestFactory
from hypothesis import given
from hypothesis import strategies as st

from chatapp.streaming.events import Balance, Cursor, Done, Ending, Failed, Sent, Started, Text, Thinking
from chatapp.streaming.growing import JOINED_PIECES, GrowingText
from chatapp.streaming.live import LiveTurn
from chatapp.streaming.sse import Direct, EventStream, encode

DONE = Done("completed", "end_turn", {}, "0.000000", Balance("1.000000", "0.000000"), False, False, "claude")


@pytest.fixture
async def live() -> AsyncIterator[LiveTurn]:
    turn = LiveTurn(Started(uuid.uuid4(), None, None, None, "claude", "1.000000"))
    yield turn
    turn.end(DONE)


async def read(live: LiveTurn, after: Cursor | None = None) -> list[Sent]:
    async with aclosing(live.follow(after)) as events:
        return [sent async for sent in events if sent is not None]


def said(sent: list[Sent]) -> str:
    return "".join(one.event.text for one in sent if isinstance(one.event, Text))


async def test_a_reader_gets_start_text_and_end_in_order(live: LiveTurn) -> None:
    reading = asyncio.create_task(read(live))
    await asyncio.sleep(0)
    live.think("hm")
    live.say("Hel")
    live.say("lo")
    live.end(DONE)

    sent = await reading

    assert [one.event.type for one in sent] == ["start", "thinking", "text", "done"]
    assert said(sent) == "Hello"


async def test_a_slow_reader_gets_fewer_and_larger_events(live: LiveTurn) -> None:
    events = live.follow(None)
    await anext(events)
    for word in range(1000):
        live.say(f"{word} ")

    assert isinstance((await anext(events)).event, Text)  # type: ignore[union-attr]
    live.end(DONE)

    assert isinstance((await anext(events)).event, Done)  # type: ignore[union-attr]
    await events.aclose()


async def test_whoever_comes_back_misses_and_doubles_nothing(live: LiveTurn) -> None:
    live.say("One two ")
    events = live.follow(None)
    first = [await anext(events) for _ in range(2)]
    await events.aclose()
    live.say("three 🍞")
    live.end(DONE)

    seen = first[-1]
    assert seen is not None
    rest = await read(live, Cursor.parse(seen.id))

    assert said([one for one in first if one]) + said(rest) == "One two three 🍞"
    assert [one.event.type for one in rest] == ["text", "done"]


async def test_who_has_seen_the_end_is_told_it_again_and_nothing_else(live: LiveTurn) -> None:
    live.say("All of it")
    live.end(DONE)
    everything = await read(live)

    again = await read(live, Cursor.parse(everything[-1].id))

    assert [one.event for one in again] == [DONE]


async def test_readers_see_no_more_than_what_is_safe(live: LiveTurn) -> None:
    live.keeper = lambda _: None  # whoever keeps the text has not written it yet
    events = live.follow(None)
    await anext(events)
    live.think("Hm 🤔")
    live.say("Hello")
    safe = live.cursor
    live.say(", and what nobody keeps yet")

    waiting = asyncio.create_task(anext(events))
    await asyncio.sleep(0)
    assert not waiting.done()
    live.tell(safe)

    seen = [await waiting, await anext(events)]
    assert [one and one.event for one in seen] == [Thinking("Hm 🤔"), Text("Hello")]
    live.end(DONE)
    rest = [sent async for sent in events if sent]
    assert said(rest) == ", and what nobody keeps yet"
    assert rest[-1].id == "4.32.end"


INTERRUPTED = Failed("interrupted", "Ask again.", True, None, "0.000000", Balance("1.000000", "0.000000"))


async def test_what_readers_know_stays_told_when_the_journal_is_begun_anew(live: LiveTurn) -> None:
    live.keeper = lambda _: None
    live.think("Hm")
    live.say("Hello")
    live.tell()
    live.tell(Cursor())
    events = live.follow(Cursor())
    seen = [await anext(events), await anext(events)]
    assert [one and one.event for one in seen] == [Thinking("Hm"), Text("Hello")]
    await events.aclose()


@pytest.mark.parametrize(
    ("swept", "stored", "ending", "known"),
    [
        (True, False, INTERRUPTED, "Hello"),
        (True, True, DONE, "Hello and goodbye"),
        (True, True, INTERRUPTED, "Hello and goodbye"),
        (False, True, INTERRUPTED, "Hello and goodbye"),
    ],
    ids=["the sweep came first", "we came first", "we came first, as we had to end", "there was no sweep"],
)
async def test_readers_are_told_at_the_end_what_is_saved(
    live: LiveTurn, swept: bool, stored: bool, ending: Ending, known: str
) -> None:
    """While we close a turn that was read to its end, a sweep may do so, with what readers had been told until then."""
    live.keeper = lambda _: None
    live.say("Hello")
    live.tell()
    live.say(" and goodbye")
    if swept:
        live.is_swept()
    assert live.text.whole() == "Hello and goodbye"
    live.is_stored = stored
    live.end(ending)

    sent = await read(live)
    assert said(sent) == known
    assert sent[-1].id == f"0.{len(known)}.end"


async def test_nothing_is_added_to_a_turn_that_was_swept(live: LiveTurn) -> None:
    """What comes before its provider is closed would stand behind a hole."""
    live.keeper = lambda _: None
    live.say("Hello")
    live.tell()
    live.say(" and")

    async def last_words() -> None:
        live.is_swept()
        live.think("Hm")
        live.say(" goodbye")

    await live.while_wanted(last_words)
    assert (live.thinking.whole(), live.text.whole()) == ("", "Hello")


async def test_a_turn_that_nobody_reads_is_left(live: LiveTurn, settings: pytest.FixtureRequest) -> None:
    settings.TURN_RECONNECT_SECONDS = 0.01  # type: ignore[attr-defined]
    closed = asyncio.Event()

    async def endless() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            closed.set()

    events = live.follow(None)
    await anext(events)
    wanted = asyncio.create_task(live.while_wanted(endless))
    await asyncio.sleep(0)
    await events.aclose()

    await wanted
    assert live.leaving == "abandoned"
    assert closed.is_set()


async def test_one_reader_left_is_enough(live: LiveTurn, settings: pytest.FixtureRequest) -> None:
    settings.TURN_RECONNECT_SECONDS = 0  # type: ignore[attr-defined]
    first, second = live.follow(None), live.follow(None)
    await anext(first)
    await anext(second)
    await first.aclose()
    await asyncio.sleep(0.01)

    assert live.leaving is None
    live.end(DONE)
    await second.aclose()


async def test_the_first_reason_to_leave_counts(live: LiveTurn) -> None:
    live.leave("stopped")
    live.leave("abandoned")

    assert live.leaving == "stopped"


@given(pieces=st.lists(st.text(max_size=8), min_size=1, max_size=30), offset=st.integers(0, 500))
def test_a_growing_text_reads_like_the_whole(pieces: list[str], offset: int) -> None:
    text = GrowingText()
    pieces *= JOINED_PIECES // len(pieces) + 1  # so many that some are joined
    for piece in pieces:
        text.append(piece)

    assert text.since(offset) == "".join(pieces)[offset:]
    assert text.whole() == "".join(pieces)
    assert text.length == len("".join(pieces))


def test_a_reader_loses_nothing_while_the_answer_is_being_stored() -> None:
    """A database thread asks for the whole text at any moment, also while a reader walks over the pieces."""
    text = GrowingText()
    reading = False

    class Interrupted(str):
        def __len__(self) -> int:
            if reading:
                text.whole()
            return super().__len__()

    for piece in ("one ", "two ", "three"):
        text.append(Interrupted(piece))

    reading = True
    assert text.since(0) == "one two three"


@given(st.text() | st.text("a\r\n\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"))
def test_an_event_is_one_line_of_data_whatever_it_says(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        return  # what the provider's door lets through has no halves of surrogate pairs
    wire = encode("3.14", Thinking(text))

    assert wire.startswith(b"id: 3.14\nevent: thinking\ndata: {")
    assert wire.endswith(b"}\n\n")
    # Also for clients that take every line end of Unicode's for one.
    lines = wire.decode().splitlines()
    assert len(lines) == 4
    assert json.loads(lines[2].removeprefix("data: ")) == {"type": "thinking", "text": text}


@pytest.mark.parametrize("written", ["", "x", "1", "1.", ".1", "1.2.3", "-1.2", "1.2x", "١.٢", "1.2.endend"])
def test_an_id_that_is_none_of_ours_is_refused(written: str) -> None:
    with pytest.raises(ValueError, match="not the id"):
        Cursor.parse(written)


# --- Written to at once


class Wire:
    """A reader's connection that takes events while it is `open`, and a task that sends it all others."""

    def __init__(self, live: LiveTurn) -> None:
        self.open = True
        self.sent: list[Sent | None] = []
        self.at_once: list[Sent] = []
        self.offered = 0
        self.was_silent = asyncio.Event()
        self.sending = asyncio.create_task(self._send(live))

    def direct(self, at: Cursor, event: Text | Thinking) -> bool:
        self.offered += 1
        if self.open:
            sent = Sent(str(at), event)
            self.at_once.append(sent)
            self.sent.append(sent)
        return self.open

    async def _send(self, live: LiveTurn) -> None:
        async with aclosing(live.follow(None, self.direct)) as events:
            async for sent in events:
                self.sent.append(sent)
                if sent is None:
                    self.was_silent.set()


async def until_it_waits() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_who_has_everything_is_written_to_at_once(live: LiveTurn) -> None:
    wire = Wire(live)
    await until_it_waits()

    live.think("Hm")
    live.say("Hel")
    live.say("lo")

    assert [sent.event for sent in wire.at_once] == [Thinking("Hm"), Text("Hel"), Text("lo")]
    live.end(DONE)
    await wire.sending
    assert [sent and sent.event.type for sent in wire.sent] == ["start", "thinking", "text", "text", "done"]


async def test_a_connection_that_takes_no_more_gets_the_rest_in_its_own_time(live: LiveTurn) -> None:
    wire = Wire(live)
    await until_it_waits()
    live.say("One ")
    wire.open = False
    live.say("two ")
    live.say("three ")
    # All that there is, with each word that comes before its task can begin, would be offered in vain.
    assert wire.offered == 2
    await until_it_waits()
    wire.open = True
    live.say("four")
    live.end(DONE)
    await wire.sending

    texts = [sent.event for sent in wire.sent if sent and isinstance(sent.event, Text)]
    assert texts == [Text("One "), Text("two three "), Text("four")]
    assert [sent.event for sent in wire.at_once] == [Text("One "), Text("four")]


async def test_who_leaves_is_written_to_no_more(live: LiveTurn) -> None:
    wire = Wire(live)
    await until_it_waits()
    wire.sending.cancel()
    await asyncio.wait([wire.sending])

    live.say("Nobody hears it")

    assert wire.at_once == []
    assert live.readers == 0


async def test_silence_is_told_also_to_who_is_written_to_at_once(
    live: LiveTurn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chatapp.streaming.growing.KEEP_ALIVE_SECONDS", 0.01)
    wire = Wire(live)
    await wire.was_silent.wait()
    await until_it_waits()
    live.say("Hello")
    assert wire.at_once[-1].event == Text("Hello")


async def test_an_error_in_writing_to_one_reader_is_nobody_elses(live: LiveTurn) -> None:
    broken, whole = Wire(live), Wire(live)

    def fail(_sent: Sent) -> bool:
        raise RuntimeError("this connection is beyond repair")

    await until_it_waits()
    live._listening[0].direct = fail
    live.say("Hello")
    live.end(DONE)
    await asyncio.gather(broken.sending, whole.sending)

    assert [said([sent for sent in wire.sent if sent]) for wire in (broken, whole)] == ["Hello", "Hello"]


async def test_silence_is_a_comment_on_the_wire() -> None:
    async def follow(_direct: Direct | None) -> AsyncGenerator[Sent | None, None]:
        yield None
        yield Sent("0.1", Text("x"))

    response = EventStream(RequestFactory().get("/"), follow)
    pieces = [piece async for piece in response]
    assert pieces == [b": keep-alive\n", b'id: 0.1\nevent: text\ndata: {"type":"text","text":"x"}\n\n']
