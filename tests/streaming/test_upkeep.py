"""What a process does all the time for the turns that it writes, one of its loops at a time."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from uuid import UUID, uuid4

import pytest
import redis.asyncio
from pytest_django import Settings
from redis.exceptions import ConnectionError as ValkeyAway

from chatapp.conversations import stopping
from chatapp.conversations.models import Turn
from chatapp.conversations.stopping import STOPS
from chatapp.streaming import following, journal, live, notices, upkeep
from chatapp.streaming.events import Balance, Done, Started

DONE = Done("completed", "end_turn", {}, "0.000000", Balance("1.000000", "0.000000"), False, False, "claude")
NEVER = 3600
LOOPS = ("beat", "write", "watch", "listen", "record")


@pytest.fixture
async def keep(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Callable[..., live.LiveTurn]]:
    """`keep("watch")` is a live turn whose provider never says anything, with only that loop running."""
    for event in ("_growth", "_first_words", "_end_of_patience", "_end_of_one"):
        monkeypatch.setattr(upkeep, event, asyncio.Event())
    loops: dict[object, asyncio.Task[None]] = {}
    monkeypatch.setattr(upkeep, "_loops", loops)
    monkeypatch.setattr(upkeep, "_ended", [])

    async def wait() -> None:
        await asyncio.Event().wait()

    async def run(turn: live.LiveTurn) -> None:
        await turn.while_wanted(wait)
        turn.end(DONE)

    def keep(work: str) -> live.LiveTurn:
        for other in LOOPS:
            if other != work:
                monkeypatch.setattr(upkeep, other, wait)
        kept.append(live.start(Started(uuid4(), None, None, None, "claude", "1.000000"), run))
        upkeep.keep_up(kept[-1])
        return kept[-1]

    kept: list[live.LiveTurn] = []
    yield keep
    for turn in kept:
        turn.leave("stopped")
        upkeep._written.pop(turn, None)
    for task in loops.values():
        task.cancel()
    async with asyncio.timeout(10):
        await asyncio.gather(*live._tasks, *loops.values(), return_exceptions=True)


async def left(turn: live.LiveTurn) -> live.Leaving | None:
    """Why it is left, as soon as it is."""
    async with asyncio.timeout(30):
        while turn.id in live.here:  # noqa: ASYNC110  it tells nobody
            await asyncio.sleep(0.001)
    return turn.leaving


# --- Journaled


@pytest.fixture
async def valkey(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[redis.asyncio.Redis]:
    async with journal.valkey.__wrapped__() as client:
        grow = client.register_script(journal.GROW)
        monkeypatch.setattr(journal, "valkey", lambda: client)
        monkeypatch.setattr(journal, "_grow", lambda: grow)
        yield client


async def until_written(turn: live.LiveTurn) -> None:
    async with asyncio.timeout(30):
        while upkeep._written[turn].behind:  # noqa: ASYNC110  it tells only readers
            await asyncio.sleep(0.001)


async def kept(turn: live.LiveTurn) -> str:
    return (await journal.read(turn.id, {"text": 0}))["text"].decode()


async def test_after_the_sweep_has_saved_a_turn_its_writer_tells_no_more_of_it(
    keep: Callable[..., live.LiveTurn], valkey: redis.asyncio.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "PATIENCE_SECONDS", NEVER)
    turn = keep("write")
    turn.say("One 🍞")
    await until_written(turn)
    assert await asyncio.to_thread(journal.rescue, turn.id) == ("", "One 🍞")

    turn.think("Hm")
    turn.say(" and two")
    assert await left(turn) == "interrupted"
    assert (turn.thinking.whole(), turn.text.whole()) == ("", "One 🍞")
    assert not upkeep._written[turn].behind
    # Whoever sweeps after one that died in the middle of it finds the same.
    assert await asyncio.to_thread(journal.rescue, turn.id) == ("", "One 🍞")


async def test_what_a_full_valkey_has_is_saved(
    keep: Callable[..., live.LiveTurn], valkey: redis.asyncio.Redis
) -> None:
    turn = keep("write")
    turn.say("One 🍞")
    await until_written(turn)
    await valkey.config_set("maxmemory", 1)
    try:
        assert await asyncio.to_thread(journal.rescue, turn.id) == ("", "One 🍞")
    finally:
        await valkey.config_set("maxmemory", 0)


async def test_a_turn_whose_process_was_seen_to_live_after_all_goes_on(
    keep: Callable[..., live.LiveTurn], valkey: redis.asyncio.Redis
) -> None:
    turn = keep("write")
    turn.say("One")
    await until_written(turn)
    await asyncio.to_thread(journal.rescue, turn.id)
    await asyncio.to_thread(journal.give_back, turn.id)

    turn.say(" and two")
    await until_written(turn)
    assert await kept(turn) == "One and two"
    assert turn.leaving is None


@pytest.mark.parametrize(("paused", "told"), [(NEVER, len("One")), (0, 0)], ids=["late", "paused"])
async def test_readers_wait_for_a_slow_valkey_only_after_a_pause(
    keep: Callable[..., live.LiveTurn], monkeypatch: pytest.MonkeyPatch, paused: float, told: int
) -> None:
    """This process may have been taken for dead meanwhile, and Valkey knows."""
    monkeypatch.setattr(upkeep, "PAUSED_SECONDS", paused)
    asked, slow = asyncio.Event(), asyncio.Event()

    async def flush(_turns: list[journal.Written]) -> None:
        asked.set()
        await slow.wait()

    monkeypatch.setattr(journal, "flush", flush)
    turn = keep("write")
    await asyncio.sleep(0)
    turn.say("One")
    await asked.wait()
    # This timer is the later one, and so comes after the one that patience ends with.
    await asyncio.sleep(upkeep.PATIENCE_SECONDS * 2)
    assert turn._told.text == told
    slow.set()


async def test_followers_are_told_of_the_end(
    keep: Callable[..., live.LiveTurn], valkey: redis.asyncio.Redis
) -> None:
    turn = keep("write")
    async with valkey.pubsub() as heard:
        await heard.subscribe(journal.channel(turn.id))
        turn.say("All of it")
        await upkeep.finish(turn)
        async with asyncio.timeout(30):
            async for message in heard.listen():
                if message["data"] == journal.ENDED.encode():
                    break
    assert await kept(turn) == "All of it"


# --- Stopped


@pytest.fixture
def asked_to_stop(monkeypatch: pytest.MonkeyPatch) -> set[UUID]:
    """The turns of which the database knows that they are to stop."""
    asked = set[UUID]()

    async def in_db(_ask: object, turn_ids: list[UUID]) -> list[UUID]:
        return [turn_id for turn_id in turn_ids if turn_id in asked]

    monkeypatch.setattr(upkeep, "at_once_in_db", in_db)
    return asked


@pytest.fixture
async def hearing(
    valkey: redis.asyncio.Redis, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[notices.Notices]:
    monkeypatch.setattr(notices, "LOOK_SECONDS", 0.1)
    hearing = notices.Notices()
    monkeypatch.setattr(upkeep, "notices", hearing)
    yield hearing
    if hearing._listening is not None:
        hearing._listening.cancel()
        await asyncio.wait([hearing._listening])


async def until_heard(hearing: notices.Notices, channel: str) -> None:
    async with asyncio.timeout(30):
        while hearing.deaf or channel not in hearing._heard:  # noqa: ASYNC110  it tells nobody
            await asyncio.sleep(0.001)


async def test_a_stop_is_heard_of_through_valkey(
    keep: Callable[..., live.LiveTurn],
    hearing: notices.Notices,
    asked_to_stop: set[UUID],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(upkeep, "LOOK_SECONDS", NEVER)
    monkeypatch.setattr(upkeep, "_well", True)
    turn, other = keep("listen"), keep("listen")
    await until_heard(hearing, STOPS)
    await asyncio.to_thread(stopping._tell, [turn.id])
    assert await left(turn) == "stopped"
    assert other.leaving is None


class Calm(notices.Notices):
    """Hears nothing, and has not noticed it."""

    @asynccontextmanager
    async def of(self, _channel: str, _heard: notices.Heard) -> AsyncIterator[None]:
        self.deaf = False
        yield


async def test_while_valkey_is_late_stops_are_looked_for_in_the_database(
    keep: Callable[..., live.LiveTurn], monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = asyncio.Queue[None]()

    async def in_db(_ask: object, turn_ids: list[UUID]) -> list[UUID]:
        looks.put_nowait(None)
        return turn_ids if looks.qsize() > 1 else []

    monkeypatch.setattr(upkeep, "at_once_in_db", in_db)
    monkeypatch.setattr(upkeep, "notices", Calm())
    monkeypatch.setattr(upkeep, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(upkeep, "_well", False)
    assert await left(keep("listen")) == "stopped"


@pytest.mark.parametrize("swept", [True, False])
async def test_the_heartbeat_learns_what_is_to_stop_and_what_was_swept(
    keep: Callable[..., live.LiveTurn], monkeypatch: pytest.MonkeyPatch, swept: bool
) -> None:
    async def in_db(_heartbeat: object, _turn_ids: list[UUID]) -> dict[UUID, bool]:
        return {other.id: False} if swept else {other.id: False, turn.id: True}

    monkeypatch.setattr(upkeep, "at_once_in_db", in_db)
    monkeypatch.setattr(upkeep, "HEARTBEAT_SECONDS", 0)
    turn, other = keep("beat"), keep("beat")
    assert await left(turn) == "stopped"
    assert other.leaving is None


# --- Watched


class Followers:
    """Who listens to the turns' channels, as Valkey tells it; None while it is away. And who `visited` them."""

    def __init__(self) -> None:
        self.of_each: int | None = 0
        self.visited = set[UUID]()
        self._looked: asyncio.Queue[None] = asyncio.Queue()

    async def __call__(self, turn_ids: list[UUID]) -> tuple[set[UUID], set[UUID]]:
        self._looked.put_nowait(None)
        if self.of_each is None:
            raise ValkeyAway("gone")
        return set(turn_ids if self.of_each else []), self.visited

    async def are_looked_for(self, times: int) -> None:
        async with asyncio.timeout(30):
            for _ in range(times):
                await self._looked.get()


@pytest.fixture
def followers(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> Followers:
    followers = Followers()
    monkeypatch.setattr(journal, "followed", followers)
    monkeypatch.setattr(live, "FIRST_READER_SECONDS", 0)
    settings.TURN_RECONNECT_SECONDS = 0.01
    return followers


async def test_somebody_who_follows_elsewhere_is_asked_for_before_a_turn_is_left(
    keep: Callable[..., live.LiveTurn], followers: Followers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "WATCH_SECONDS", NEVER)
    followers.of_each = 1
    turn = keep("watch")
    await followers.are_looked_for(1)
    assert turn.leaving is None


async def test_while_valkey_is_away_those_seen_last_are_believed_to_be_there_for_so_long(
    keep: Callable[..., live.LiveTurn], followers: Followers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "WATCH_SECONDS", 0.01)
    followers.of_each = 1
    turn = keep("watch")
    await followers.are_looked_for(2)
    followers.of_each = None
    await followers.are_looked_for(20)
    assert turn.leaving is None

    monkeypatch.setattr(upkeep, "BELIEVED_SECONDS", 0)
    assert await left(turn) == "abandoned"


@pytest.mark.parametrize("of_each", [0, None])
async def test_a_turn_that_nobody_was_seen_to_follow_is_left_with_and_without_valkey(
    keep: Callable[..., live.LiveTurn], followers: Followers, of_each: int | None
) -> None:
    followers.of_each = of_each
    assert await left(keep("watch")) == "abandoned"


async def test_who_visited_a_turn_between_two_looks_is_awaited(
    keep: Callable[..., live.LiveTurn], followers: Followers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "WATCH_SECONDS", 0.01)
    turn = keep("watch")
    followers.visited = {turn.id}
    await followers.are_looked_for(20)
    assert turn.leaving is None

    followers.visited = set()
    assert await left(turn) == "abandoned"


async def test_a_visit_through_another_process_is_known_however_short(
    valkey: redis.asyncio.Redis, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    async def in_db(_has_ended: object, _turn_id: UUID) -> bool:
        return False

    monkeypatch.setattr(following, "in_db", in_db)
    monkeypatch.setattr(following, "notices", Calm())
    settings.TURN_RECONNECT_SECONDS = NEVER
    turn, other = (Turn(model_id="claude", held=0) for _ in range(2))
    async with aclosing((await following.events_of(turn, None))(None)) as events:
        start = await anext(events)
        assert start is not None
        assert start.event.type == "start"
    await asyncio.gather(*following._noting)

    assert await journal.followed([turn.pk, other.pk]) == (set(), {turn.pk})
    assert await valkey.pttl(journal.key(turn.pk, journal.VISITED)) > 0
