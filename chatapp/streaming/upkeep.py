"""What a process does for its live turns all the time: heartbeats, the journal, and listening for stops.

One loop of each per process, however many turns are live, and none while there are none.
"""

import asyncio
import contextvars
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from uuid import UUID

import structlog
from django.db import connection
from django.db.utils import DatabaseError, InterfaceError

from chatapp.conversations.models import Turn
from chatapp.db import at_once_in_db
from chatapp.streaming import journal, live
from chatapp.streaming.events import Ending

log = structlog.get_logger(__name__)

HEARTBEAT_SECONDS = 5
WATCH_SECONDS = 1
# After Valkey went away, it is asked again so often.
RETRY_SECONDS = 1

_loops: dict[Callable[[], Awaitable[None]], asyncio.Task[None]] = {}
_written: dict[UUID, journal.Written] = {}


def keep_up() -> None:
    """See to it that this process's loops run; called whenever a turn becomes live."""
    loop = asyncio.get_running_loop()
    for work in (beat, write, listen):
        running = _loops.get(work)
        if running is None or running.done():
            _loops[work] = loop.create_task(work(), context=contextvars.Context())


async def finish(turn_id: UUID, ending: Ending) -> None:
    """Complete the turn's journal, then its ending: followers elsewhere see all of the text before it."""
    written = _written.pop(turn_id, None) or journal.Written(live.here[turn_id])
    try:
        await journal.flush([written])
        if written.behind:  # Valkey had lost some of it: a second time writes it whole
            await journal.flush([written])
        await journal.write_ending(turn_id, ending)
    except journal.AWAY as error:
        log.warning("journal incomplete", turn=str(turn_id), error=type(error).__name__)


async def beat() -> None:
    """Tell the database that the turns here are alive, and learn which of them are to stop."""
    while live.here:
        try:
            asked = [turn.id for turn in live.here.values() if turn.ending is None]
            stopping = await at_once_in_db(_heartbeat, asked)
        except (DatabaseError, InterfaceError) as error:
            log.warning("heartbeat failed", error=type(error).__name__)
        else:
            for turn_id in asked:
                # A turn that the database no longer has as running was swept: whatever it still says is lost.
                if stopping.get(turn_id, True) and turn_id in live.here:
                    live.here[turn_id].leave("stopped")
        await asyncio.sleep(HEARTBEAT_SECONDS)


async def write() -> None:
    """Keep the journal of all live turns up to date while Valkey is there."""
    loop, next_watch = asyncio.get_running_loop(), 0.0
    while live.here:
        for turn_id in _written.keys() - live.here.keys():
            del _written[turn_id]
        turns = list(live.here.values())
        try:
            await journal.flush([_written_of(turn) for turn in turns if turn.ending is None])
            if loop.time() >= next_watch:
                next_watch = loop.time() + WATCH_SECONDS
                await journal.note_watched(turns)
        except journal.AWAY as error:
            log.warning("journal away", error=type(error).__name__)
            await asyncio.sleep(RETRY_SECONDS)
        await asyncio.sleep(journal.FLUSH_SECONDS)


async def listen() -> None:
    """Stop turns that other processes were asked to stop."""
    while live.here:
        try:
            await _obey_stops()
        except journal.AWAY as error:
            log.warning("not listening for stops", error=type(error).__name__)
            await asyncio.sleep(RETRY_SECONDS)


async def _obey_stops() -> None:
    async with aclosing(journal.stops()) as stops:
        async for turn_id in stops:
            if turn_id in live.here:
                live.here[turn_id].leave("stopped")
            if not live.here:
                return


def _written_of(turn: live.LiveTurn) -> journal.Written:
    if turn.id not in _written:
        _written[turn.id] = journal.Written(turn)
    return _written[turn.id]


def _heartbeat(turn_ids: list[UUID]) -> dict[UUID, bool]:
    table = connection.ops.quote_name(Turn._meta.db_table)
    with connection.cursor() as cursor:
        cursor.execute(
            f"UPDATE {table} SET heartbeat_at = statement_timestamp() "  # noqa: S608 (our own table's name)
            "WHERE id = ANY(%s) AND state = 'running' RETURNING id, stop_requested",
            [turn_ids],
        )
        return dict(cursor.fetchall())
