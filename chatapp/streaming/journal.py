"""The text of running turns in Valkey, so that another process can follow, stop or rescue them.

Each turn has two strings that only grow (what was thought, what was said) and, at its end, its last event. Whoever
follows keeps a byte offset into each. A string is only ever grown from the length that the writer knows; if Valkey has
another (it was away, or came back empty), the whole text is written anew.

Valkey may be gone at any time: the turn goes on, other processes cannot follow it meanwhile, and nothing else is
lost, because the database has the answer at its end.
"""

import asyncio
import functools
import json
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import asdict, dataclass
from typing import Any
from uuid import UUID

import redis
import redis.asyncio
import structlog
from django.conf import settings
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from chatapp.streaming.events import Balance, Cursor, Done, Ending, Failed, Sent, Started, Text, Thinking
from chatapp.streaming.live import LiveTurn
from chatapp.streaming.sse import KEEP_ALIVE_SECONDS

log = structlog.get_logger(__name__)

AWAY = (RedisError, OSError, TimeoutError)
KEPT_SECONDS = 900
FLUSH_SECONDS = 0.2
POLL_SECONDS = 0.1
WATCHED_SECONDS = 5
STOPS = "chatapp:turns:stop"
# Grows a string only if it is as long as the writer believes: one that Valkey lost, or that was written twice, is
# seen before a reader could get a hole or a double. The answer is the new length, or -1.
GROW = """
if redis.call('STRLEN', KEYS[1]) ~= tonumber(ARGV[1]) then return -1 end
return redis.call('APPEND', KEYS[1], ARGV[2])
"""


class JournalAway(Exception):
    """Valkey does not answer, so a turn of another process cannot be followed right now."""


@functools.cache
def valkey() -> redis.asyncio.Redis:
    """The client of this process's event loop, with waits short enough that nobody notices Valkey's absence."""
    return redis.asyncio.Redis.from_url(
        settings.REDIS_URL, socket_timeout=1, socket_connect_timeout=1, retry=Retry(NoBackoff(), 0)
    )


def key(turn_id: UUID, part: str) -> str:
    return f"chatapp:turn:{turn_id}:{part}"


class Written:
    """How much of one live turn Valkey has, as this process believes."""

    def __init__(self, live: LiveTurn) -> None:
        self.live = live
        self.cursor = Cursor()
        self.sizes = {"thinking": 0, "text": 0}
        self.intact = True

    @property
    def behind(self) -> bool:
        return not self.intact or self.cursor != self.live.cursor

    def write(self, pipe: redis.asyncio.client.Pipeline) -> "Confirm":
        """Queue what is missing on `pipe`; the result takes Valkey's answers to it."""
        cursor = self.live.cursor
        begin = self.cursor if self.intact else Cursor()
        sizes = dict(self.sizes) if self.intact else {"thinking": 0, "text": 0}
        grown = {
            "thinking": self.live.thinking.since(begin.thinking).encode(),
            "text": self.live.text.since(begin.text).encode(),
        }
        expected: list[int | bool] = []
        for part, piece in grown.items():
            if piece or not self.intact:
                if self.intact:
                    pipe.eval(GROW, 1, key(self.live.id, part), sizes[part], piece)
                else:
                    pipe.set(key(self.live.id, part), piece)
                pipe.expire(key(self.live.id, part), KEPT_SECONDS)
                sizes[part] += len(piece)
                expected += [sizes[part] if self.intact else True, True]

        def confirm(answers: list[Any]) -> None:
            self.intact = answers == expected
            if self.intact:
                self.cursor, self.sizes = cursor, sizes

        return Confirm(len(expected), confirm)


@dataclass(frozen=True, slots=True)
class Confirm:
    """Takes the next `count` answers of a pipeline."""

    count: int
    take: Callable[[list[Any]], None]


async def flush(turns: list[Written]) -> None:
    """Bring Valkey up to date with `turns`, in one round trip; one of `AWAY` if it cannot be."""
    pipe = valkey().pipeline(transaction=False)
    confirms = [written.write(pipe) for written in turns if written.behind]
    if not confirms:
        return
    answers = await pipe.execute(raise_on_error=False)
    for confirm in confirms:
        confirm.take(answers[: confirm.count])
        del answers[: confirm.count]


async def note_watched(turns: list[LiveTurn]) -> None:
    """Learn which turns are followed through other processes."""
    seen = await valkey().mget([key(live.id, "watched") for live in turns])
    until = asyncio.get_running_loop().time() + WATCHED_SECONDS
    for live, watched in zip(turns, seen, strict=True):
        if watched is not None:
            live.watched_elsewhere_until = until


async def write_ending(turn_id: UUID, ending: Ending) -> None:
    """Tell followers elsewhere how it ended; their text is complete before this is there."""
    await valkey().set(key(turn_id, "end"), ending_to_json(ending), ex=KEPT_SECONDS)


def rescue(turn_id: UUID) -> tuple[str, str]:
    """What a dead process had thought and said, as far as Valkey knows; empty when it knows nothing."""
    client = redis.Redis.from_url(settings.REDIS_URL, socket_timeout=2, socket_connect_timeout=2)
    thinking: Any
    text: Any
    try:
        with client:
            thinking, text = client.mget(key(turn_id, "thinking"), key(turn_id, "text"))
    except AWAY as error:
        log.warning("journal away during rescue", turn=str(turn_id), error=type(error).__name__)
        return "", ""
    return (thinking or b"").decode("utf-8", "ignore"), (text or b"").decode("utf-8", "ignore")


def announce_ending(turn_id: UUID, ending: Ending) -> None:
    """`write_ending` for the sweep: followers of a dead process's turn are told."""
    client = redis.Redis.from_url(settings.REDIS_URL, socket_timeout=2, socket_connect_timeout=2)
    try:
        with client:
            client.set(key(turn_id, "end"), ending_to_json(ending), ex=KEPT_SECONDS)
    except AWAY as error:
        log.warning("journal away", turn=str(turn_id), error=type(error).__name__)


async def ask_to_stop(turn_id: UUID) -> None:
    """Tell the process that runs the turn, whichever it is; the database has the request as well."""
    try:
        await valkey().publish(STOPS, str(turn_id))
    except AWAY as error:
        log.warning("stop not announced", turn=str(turn_id), error=type(error).__name__)


async def stops() -> AsyncGenerator[UUID | None, None]:
    """The turns that other processes ask to stop, as they ask, or None each second; one of `AWAY` without Valkey."""
    async with valkey().pubsub() as channel:
        await channel.subscribe(STOPS)
        while True:
            message = await channel.get_message(ignore_subscribe_messages=True, timeout=1)
            yield None if message is None else UUID(message["data"].decode())


async def follow(started: Started, after: Cursor | None) -> AsyncGenerator[Sent | None, None]:
    """A turn that another process runs, as `LiveTurn.follow` gives it; JournalAway when Valkey is gone."""
    client = valkey()
    turn_id = started.turn
    at = after or Cursor()
    offsets = {"thinking": 0, "text": 0}
    skip = {"thinking": at.thinking, "text": at.text}
    silent_since = watched_at = time.monotonic()
    try:
        await client.set(key(turn_id, "watched"), 1, ex=WATCHED_SECONDS)
        if after is None:
            yield Sent("0.0", started)
        while True:
            # The ending is read first: what stands in the strings after it is everything.
            pipe = client.pipeline(transaction=True)
            pipe.get(key(turn_id, "end"))
            for part, offset in offsets.items():
                pipe.getrange(key(turn_id, part), offset, -1)
            end, *found = await pipe.execute()
            new: dict[str, str] = {}
            for part, piece in zip(offsets, found, strict=True):
                offsets[part] += len(piece)
                text = piece.decode()
                new[part], skip[part] = text[skip[part] :], max(0, skip[part] - len(text))
            if new["thinking"]:
                at = Cursor(at.thinking + len(new["thinking"]), at.text)
                yield Sent(str(at), Thinking(new["thinking"]))
            if new["text"]:
                at = Cursor(at.thinking, at.text + len(new["text"]))
                yield Sent(str(at), Text(new["text"]))
            if end is not None:
                yield Sent(f"{at}.end", ending_from_json(end))
                return
            now = time.monotonic()
            if any(new.values()):
                silent_since = now
            elif now - silent_since > KEEP_ALIVE_SECONDS:
                silent_since = now
                yield None
            if now - watched_at > WATCHED_SECONDS / 2:
                watched_at = now
                await client.set(key(turn_id, "watched"), 1, ex=WATCHED_SECONDS)
            await asyncio.sleep(POLL_SECONDS)
    except AWAY as error:
        raise JournalAway from error


def ending_to_json(ending: Ending) -> str:
    return json.dumps({"type": ending.type, **asdict(ending)})


def ending_from_json(written: str | bytes) -> Ending:
    data: dict[str, Any] = json.loads(written)
    kind = {Done.type: Done, Failed.type: Failed}[data.pop("type")]
    balance = data.pop("balance")
    return kind(**data, balance=balance and Balance(**balance))
