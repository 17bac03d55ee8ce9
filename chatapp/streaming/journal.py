"""The text of running turns in Valkey, so that another process can follow, stop or rescue them.

Each turn has two strings that only grow: what was thought and what was said. Whoever follows keeps a byte offset into
each, and hears on the turn's channel when they have grown or the turn has ended; how it ended, and all of the text, the
database has then. A string is only ever grown from the length that the writer knows; if Valkey has another (it was
away, or came back empty), the whole text is written anew.

What the sweep saves of a turn whose process seems dead, it takes out of the journal, and leaves a mark there: should
the process come back, nothing that it still has goes into the journal, so nobody reads what was not saved.

Valkey may be gone at any time: the turn goes on, other processes cannot follow it meanwhile, and nothing else is
lost, because the database has the answer at its end.
"""

import functools
import json
from typing import Any
from uuid import UUID

import redis
import redis.asyncio
import structlog
from django.conf import settings
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError
from redis.retry import Retry

from accounts.patience import within
from chatapp.streaming.events import Cursor
from chatapp.streaming.live import LiveTurn

log = structlog.get_logger(__name__)

AWAY = (RedisError, OSError, TimeoutError)
KEPT_SECONDS = 900
# Longer no process is paused, and has readers still.
SWEPT_SECONDS = 86400
# So short that nobody notices Valkey's absence.
WAIT_SECONDS = 1
PREFIX = "chatapp:turn:"
PARTS = ("thinking", "text")
# A key of each turn that was read through another process than the one that writes it, for as long as that counts.
VISITED = "visited"
# What is said on a turn's channel.
GROWN, ENDED = "grown", "ended"

# Grows strings, each by (the turn, the part, the length it has, the piece): one that Valkey lost, or that was written
# twice, is seen before a reader could get a hole or a double. A string is begun anew at length 0. The answer are the
# numbers of those that had another length, and of those whose turn was swept: these are not grown, and have another
# length too, so all others need no look at the mark. All of it is one argument, in JSON: to pack thousands was almost
# half of what the journal took.
GROW = f"""
local lost, swept = {{}}, {{}}
for i, growth in ipairs(cjson.decode(ARGV[1])) do
    local channel, has, piece = '{PREFIX}' .. growth[1], growth[3], growth[4]
    local key = channel .. ':' .. growth[2]
    if has > 0 and redis.call('STRLEN', key) == has then
        redis.call('APPEND', key, piece)
        redis.call('EXPIRE', key, {KEPT_SECONDS})
    elseif redis.call('EXISTS', channel .. ':swept') == 1 then
        swept[#swept + 1] = i
    elseif has == 0 then
        redis.call('SET', key, piece, 'EX', {KEPT_SECONDS})
    else
        lost[#lost + 1] = i
    end
    redis.call('PUBLISH', channel, '{GROWN}')
end
return {{lost, swept}}
"""

# Takes the strings of a turn, and has the mark keep them: who sweeps may die before they are saved.
SWEEP = f"""
local channel = '{PREFIX}' .. ARGV[1]
local mark, thinking, text = channel .. ':swept', channel .. ':thinking', channel .. ':text'
if redis.call('EXISTS', mark) == 0 then
    redis.call('HSET', mark, 'thinking', redis.call('GET', thinking) or '', 'text', redis.call('GET', text) or '')
    redis.call('EXPIRE', mark, {SWEPT_SECONDS})
    redis.call('DEL', thinking, text)
end
return redis.call('HMGET', mark, 'thinking', 'text')
"""


@functools.cache
def valkey() -> redis.asyncio.Redis:
    """The client of this process's event loop; to be used `within(WAIT_SECONDS)`, as the client's own limits count what
    the loop was late.
    """
    return redis.asyncio.Redis.from_url(
        settings.REDIS_URL, socket_timeout=None, socket_connect_timeout=None, retry=Retry(NoBackoff(), 0)
    )


@functools.cache
def _grow() -> "redis.commands.core.AsyncScript":
    return valkey().register_script(GROW)


def key(turn_id: UUID, part: str) -> str:
    return f"{channel(turn_id)}:{part}"


def channel(turn_id: UUID) -> str:
    return f"{PREFIX}{turn_id}"


def writer_channel(process: UUID) -> str:
    """Where nothing is said: that somebody listens is the sign that the process lives."""
    return f"chatapp:writer:{process}"


class Written:
    """How much of one live turn Valkey has, as this process believes."""

    def __init__(self, live: LiveTurn) -> None:
        self.live = live
        self.id = str(live.id)
        self.cursor = Cursor()
        self.sizes = dict.fromkeys(PARTS, 0)
        self.intact = True
        # By another process: then Valkey takes no more of it, and it is not intact.
        self.swept = False

    @property
    def behind(self) -> bool:
        return not self.swept and (not self.intact or self.cursor != self.live.cursor)

    def missing(self) -> list[tuple[str, str]]:
        """The parts that lack something, and what; all of it, if Valkey had lost some."""
        if not self.intact:
            self.intact, self.cursor, self.sizes = True, Cursor(), dict.fromkeys(PARTS, 0)
        thinking, text = self.cursor
        missing = []
        if self.live.thinking.length > thinking:
            missing.append(("thinking", self.live.thinking.since(thinking)))
        if self.live.text.length > text:
            missing.append(("text", self.live.text.since(text)))
        return missing


async def flush(turns: list[Written]) -> None:
    """Bring Valkey up to date with `turns`, in one round trip; one of `AWAY` if it cannot be.

    A turn whose text Valkey has lost is not `intact` then, and is written whole the next time; of one that was `swept`
    nothing is written any more.
    """
    cursors = [(written, written.live.cursor) for written in turns]
    grown = [(written, part, piece) for written in turns for part, piece in written.missing()]
    if not grown:
        return
    growth = [(written.id, part, written.sizes[part], piece) for written, part, piece in grown]
    try:
        async with within(WAIT_SECONDS):
            lost, swept = await _grow()([], [json.dumps(growth, ensure_ascii=False)])
    except AWAY:
        # It may have come to it all the same.
        for written in turns:
            written.intact = False
        raise
    for written, cursor in cursors:
        written.cursor = cursor
    for written, part, piece in grown:
        written.sizes[part] += len(piece.encode())
    for number in lost:
        grown[number - 1][0].intact = False
    for number in swept:
        grown[number - 1][0].intact, grown[number - 1][0].swept = False, True


async def read(turn_id: UUID, offsets: dict[str, int]) -> dict[str, bytes]:
    """What stands in each string of a turn behind these offsets in bytes; one of `AWAY` without Valkey."""
    pipe = valkey().pipeline(transaction=False)
    for part, offset in offsets.items():
        pipe.getrange(key(turn_id, part), offset, -1)
    async with within(WAIT_SECONDS):
        return dict(zip(offsets, await pipe.execute(), strict=True))


async def followed(turn_ids: list[UUID]) -> tuple[set[UUID], set[UUID]]:
    """Those of the turns on whose channel somebody listens, and those visited lately; one of `AWAY` without Valkey."""
    pipe = valkey().pipeline(transaction=False)
    pipe.pubsub_numsub(*map(channel, turn_ids))
    pipe.mget([key(turn_id, VISITED) for turn_id in turn_ids])
    async with within(WAIT_SECONDS):
        listeners, visits = await pipe.execute()
    listened = {turn_id for turn_id, (_, count) in zip(turn_ids, listeners, strict=True) if count}
    return listened, {turn_id for turn_id, visit in zip(turn_ids, visits, strict=True) if visit is not None}


async def note_visit(turn_id: UUID, good_for_seconds: float) -> None:
    """Have the turn known as visited for so long; one of `AWAY` without Valkey."""
    async with within(WAIT_SECONDS):
        await valkey().set(key(turn_id, VISITED), "", px=max(1, round(good_for_seconds * 1000)))


async def tell_end(turn_id: UUID) -> None:
    """Tell followers elsewhere that the database knows how the turn ended; one of `AWAY` without Valkey."""
    async with within(WAIT_SECONDS):
        await valkey().publish(channel(turn_id), ENDED)


# --- For the worker, which waits


def alive(writers: set[UUID]) -> set[UUID]:
    """Those of the processes whose connection to Valkey stands; all of them while Valkey is away.

    It is seen to break at once when a process dies, and stands while one is merely slow, or paused.
    """
    if not writers:
        return set()
    try:
        with _waiting() as client:
            listeners = client.pubsub_numsub(*map(writer_channel, writers))
    except AWAY as error:
        log.warning("writers not known", error=type(error).__name__)
        return writers
    return {writer for writer, (_, count) in zip(writers, listeners, strict=True) if count}


def rescue(turn_id: UUID) -> tuple[str, str]:
    """What a dead process had thought and said, as far as Valkey knows; empty when it knows nothing.

    From now on Valkey takes no more of it, unless it has no room to note that.
    """
    thinking: Any
    text: Any
    try:
        with _waiting() as client:
            try:
                thinking, text = client.eval(SWEEP, 0, str(turn_id))
            except ResponseError as error:  # what is full, or may not be written to, can still be read
                log.warning("journal takes nothing", turn=str(turn_id), error=type(error).__name__)
                thinking, text = (found or b"" for found in client.mget(key(turn_id, part) for part in PARTS))
    except AWAY as error:
        log.warning("journal away during rescue", turn=str(turn_id), error=type(error).__name__)
        return "", ""
    return thinking.decode("utf-8", "ignore"), text.decode("utf-8", "ignore")


def give_back(turn_id: UUID) -> None:
    """Let the process write on from which a turn was rescued: it lives. It then writes all of it anew."""
    try:
        with _waiting() as client:
            client.delete(key(turn_id, "swept"))
    except AWAY as error:
        log.warning("journal away", turn=str(turn_id), error=type(error).__name__)


def tell_swept(turn_id: UUID) -> None:
    """`tell_end` for the sweep: followers of a dead process's turn are told."""
    try:
        with _waiting() as client:
            client.publish(channel(turn_id), ENDED)
    except AWAY as error:
        log.warning("journal away", turn=str(turn_id), error=type(error).__name__)


def _waiting() -> redis.Redis:
    return redis.Redis.from_url(settings.REDIS_URL, socket_timeout=2, socket_connect_timeout=2)
