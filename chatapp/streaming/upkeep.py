"""What a process does for its live turns all the time: heartbeats, the journal, and listening for stops; and for those
that have ended, having their usage recorded.

One loop of each per process, from its first turn on; while no turn is live they do next to nothing.
"""

import asyncio
import contextvars
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from uuid import UUID

import structlog
from django.conf import settings
from django.db import connection
from django.db.utils import DatabaseError, InterfaceError

from billing.jobs import hand_over
from chatapp import resting
from chatapp.conversations.models import Turn
from chatapp.conversations.stopping import STOPS
from chatapp.db import at_once_in_db
from chatapp.streaming import journal, live
from chatapp.streaming.events import Cursor
from chatapp.streaming.notices import notices
from chatapp.streaming.tasks import record_usage

log = structlog.get_logger(__name__)

# LATE_AFTER in tasks.py leaves it three seconds to come. One costs PostgreSQL 50 µs for each turn.
HEARTBEAT_SECONDS = 2
# From one write of the journal to the next: about as long readers wait for what is safe only then.
FLUSH_SECONDS = 0.03
# With many answers it is so much for each, as far as LONGEST_FLUSH_SECONDS: what they say then comes in fewer, larger
# pieces, and the process has time left for those who begin.
FLUSH_SECONDS_EACH = 0.00065
LONGEST_FLUSH_SECONDS = 0.065
# So many answers that grow between two writes are worth a rest.
WORTH_A_REST = 8
# Longer they do not wait for a Valkey that is slow. What they are told then may be lost, should both of us die.
PATIENCE_SECONDS = 0.25
# After so long without a write, this process may have been paused, and taken for dead: then readers do wait for Valkey.
PAUSED_SECONDS = 10
# Between two looks who follows through other processes: they have been gone for no longer than that when it is seen.
WATCH_SECONDS = 1
# While Valkey is away, those who were seen last are believed to be there still, for so long.
BELIEVED_SECONDS = 120
# A stop that Valkey does not bring is looked for in the database so often.
LOOK_SECONDS = 0.3
# After Valkey went away, it is asked again so often.
RETRY_SECONDS = 1
# Between two jobs for the worker: what ends meanwhile goes into one.
RECORD_SECONDS = 0.25

NOTHING = Cursor()

_loops: dict[Callable[[], Awaitable[None]], asyncio.Task[None]] = {}
# By the turn itself: to hash an id takes Python code, and this is looked at for each word.
_written: dict[live.LiveTurn, journal.Written] = {}
_grown: set[live.LiveTurn] = set()
_growth = asyncio.Event()
# Whether the first words of an answer are among it, which wait for nothing.
_first_words = asyncio.Event()
# Those that nobody has read here for long enough.
_unread: set[live.LiveTurn] = set()
_end_of_patience = asyncio.Event()
_ended: list[UUID] = []
_end_of_one = asyncio.Event()
# Whether readers wait for the journal. While it is away they have everything at once.
_well = False


def keep_up(turn: live.LiveTurn) -> None:
    """See to it that this process's loops run, and care for `turn` too."""
    _written[turn] = journal.Written(turn)
    turn.keeper, turn.lookout = _note_growth, _note_end_of_patience
    loop = asyncio.get_running_loop()
    for work in (beat, write, watch, listen, record):
        running = _loops.get(work)
        if running is None or running.done():
            _loops[work] = loop.create_task(work(), context=contextvars.Context())


async def end() -> None:
    """End the loops; for a process that has no turns any more."""
    for task in _loops.values():
        task.cancel()
    await asyncio.gather(*_loops.values(), return_exceptions=True)
    await _have_recorded()


async def finish(turn: live.LiveTurn) -> None:
    """Complete the journal of a turn that has ended, tell followers elsewhere to look at the database, and have the
    worker record what it used.
    """
    _ended.append(turn.id)
    _end_of_one.set()
    written = _written.pop(turn)
    try:
        while written.behind:  # once more if Valkey had lost some of it
            await journal.flush([written])
        await journal.tell_end(turn.id)
    except journal.AWAY as error:
        log.warning("journal incomplete", turn=str(turn.id), error=type(error).__name__)


async def beat() -> None:
    """Tell the database that the turns here are alive, and learn which of them are to stop."""
    while True:
        await asyncio.sleep(HEARTBEAT_SECONDS)
        asked = _running()
        if not asked:
            continue
        try:
            stopping = await at_once_in_db(_heartbeat, asked)
        except (DatabaseError, InterfaceError) as error:
            log.warning("heartbeat failed", error=type(error).__name__)
        else:
            # A turn that the database no longer has as running was swept: whatever it still says is lost.
            _stop([turn_id for turn_id in asked if stopping.get(turn_id, True)])


async def write() -> None:
    """Bring growth into the journal, and only then to readers: what they saw survives this process."""
    global _well
    _well = True
    taken_at = time.monotonic()
    try:
        while True:
            await _growth.wait()
            began = time.monotonic()
            _growth.clear()
            _first_words.clear()
            turns = [_written[turn] for turn in _grown if turn in _written]
            _grown.clear()
            flushing = asyncio.ensure_future(journal.flush(turns))
            # By the clock: readers have waited so long, whether Valkey is late or we are.
            await asyncio.wait({flushing}, timeout=PATIENCE_SECONDS)
            if not flushing.done() and time.monotonic() - taken_at < PAUSED_SECONDS:
                _well = False
                _tell_all()
            try:
                await flushing
            except journal.AWAY as error:
                log.warning("journal away", error=type(error).__name__)
                _well = False
                # It may come back empty.
                for written in _written.values():
                    written.intact = False
                    _note_growth(written.live)
                await asyncio.sleep(RETRY_SECONDS)
            else:
                _well = True
                taken_at = time.monotonic()
                for written in turns:
                    if written.intact:
                        written.live.tell(written.cursor)
                    elif written.swept:
                        written.live.is_swept()
                    else:
                        _note_growth(written.live)
                pace = _pace(len(live.here))
                # However late it is, others have their turn in between: those who begin, above all.
                moment = max(began + pace, time.monotonic() + pace * 3 / 4)
                await _until(moment, rest=len(turns) >= WORTH_A_REST)
    finally:
        _well = False
        _tell_all()


def _pace(answers: int) -> float:
    """The seconds between two writes of the journal."""
    return max(FLUSH_SECONDS, min(answers * FLUSH_SECONDS_EACH, LONGEST_FLUSH_SECONDS))


async def _until(moment: float, *, rest: bool) -> None:
    """Wait for it, or for the first words of an answer to arrive; or rest, with the whole loop, if nobody waits."""
    if rest and not _first_words.is_set() and resting.rest(moment - time.monotonic()):
        # In this round of the loop all that has come meanwhile is heard.
        await asyncio.sleep(0)
        return
    with suppress(TimeoutError):
        async with asyncio.timeout(moment - time.monotonic()):
            await _first_words.wait()


async def watch() -> None:
    """Learn which of the turns that nobody reads here are followed through other processes, and leave those that have
    not been followed for long enough.
    """
    clock = asyncio.get_running_loop().time
    followed, visited, heard_at = set[UUID](), set[UUID](), clock()
    while True:
        with suppress(TimeoutError):
            async with asyncio.timeout(WATCH_SECONDS):
                await _end_of_patience.wait()
        _end_of_patience.clear()
        over = list(_unread)
        _unread.clear()
        unread = [turn for turn in live.here.values() if not turn.readers]
        if not unread:
            continue
        try:
            followed, visited = await journal.followed([turn.id for turn in unread])
            heard_at = clock()
        except journal.AWAY as error:
            log.warning("followers not known", error=type(error).__name__)
            if clock() - heard_at > BELIEVED_SECONDS:
                followed, visited = set(), set()
        for turn in unread:
            if turn.id in followed:
                # They may leave right after this look, and come back as late as anybody.
                turn.is_seen_elsewhere(WATCH_SECONDS + settings.TURN_RECONNECT_SECONDS)
            elif turn.id in visited:
                turn.is_seen_elsewhere(WATCH_SECONDS)  # until the next look
        for turn in over:
            turn.leave_unless_watched()


async def record() -> None:
    """Have the worker record what the turns that have ended used."""
    while True:
        await _end_of_one.wait()
        _end_of_one.clear()
        await _have_recorded()
        await asyncio.sleep(RECORD_SECONDS)


async def listen() -> None:
    """Stop turns that other processes were asked to stop, and be seen to live meanwhile."""
    missed = True

    def heard(turn_id: str | None) -> None:
        nonlocal missed
        if turn_id is None:
            missed = True
        else:
            _stop([UUID(turn_id)])

    own = journal.writer_channel(live.PROCESS)
    async with notices.of(STOPS, heard), notices.of(own, lambda _nothing: None):
        while True:
            # That it cannot be heard is known only after a while; that it is late, at once.
            if live.here and (missed or notices.deaf or not _well):
                missed = False
                try:
                    _stop(await at_once_in_db(_asked_to_stop, _running()))
                except (DatabaseError, InterfaceError) as error:
                    log.warning("stops not known", error=type(error).__name__)
            await asyncio.sleep(LOOK_SECONDS)


def _note_growth(turn: live.LiveTurn) -> None:
    if not _well:
        turn.tell()
    _grown.add(turn)
    _growth.set()
    if (written := _written.get(turn)) is not None and written.cursor == NOTHING:
        _first_words.set()


def _note_end_of_patience(turn: live.LiveTurn) -> None:
    _unread.add(turn)
    _end_of_patience.set()


async def _have_recorded() -> None:
    if ended := list(map(str, _ended)):
        await asyncio.to_thread(hand_over, record_usage.name, *ended)
        # Only now: if this is cancelled meanwhile, they are handed over again, which does no harm.
        del _ended[: len(ended)]


def _tell_all() -> None:
    for turn in live.here.values():
        turn.tell()


def _running() -> list[UUID]:
    return [turn.id for turn in live.here.values() if turn.ending is None]


def _stop(turn_ids: list[UUID]) -> None:
    for turn_id in turn_ids:
        if turn_id in live.here:
            live.here[turn_id].leave("stopped")


def _asked_to_stop(turn_ids: list[UUID]) -> list[UUID]:
    return list(Turn.objects.filter(pk__in=turn_ids, stop_requested=True).values_list("pk", flat=True))


def _heartbeat(turn_ids: list[UUID]) -> dict[UUID, bool]:
    table = connection.ops.quote_name(Turn._meta.db_table)
    with connection.cursor() as cursor:
        cursor.execute(
            f"UPDATE {table} SET heartbeat_at = statement_timestamp() "  # noqa: S608 (our own table's name)
            "WHERE id = ANY(%s) AND state = 'running' RETURNING id, stop_requested",
            [turn_ids],
        )
        return dict(cursor.fetchall())
