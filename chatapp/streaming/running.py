"""The task that takes an opened turn through to its end, and tells everybody concerned."""

import asyncio
import functools
from uuid import UUID

import structlog
from celery.exceptions import OperationalError as BrokerAway
from django.db.utils import InterfaceError, InternalError, OperationalError

from accounts.notify import anotify
from chatapp.conversations.models import Turn
from chatapp.db import in_db
from chatapp.streaming import live, turns, upkeep
from chatapp.streaming.events import Ending
from chatapp.streaming.providers import provider
from chatapp.streaming.providers.base import Prompt
from chatapp.streaming.tasks import record_usage

log = structlog.get_logger(__name__)

# A database that is away in the moment an answer ends: tried again so many times, ever more slowly (about 2 min).
CLOSE_ATTEMPTS = 12
LONGEST_PAUSE_SECONDS = 15


def start(turn: Turn, prompt: Prompt) -> live.LiveTurn:
    """Make an opened turn live in this process."""
    started = live.start(turns.started(turn), functools.partial(_run, turn=turn, prompt=prompt))
    upkeep.keep_up()
    return started


async def _run(here: live.LiveTurn, *, turn: Turn, prompt: Prompt) -> None:
    try:
        await _tell_pages(turn, Turn.State.RUNNING)
        ending = await _close(here, await turns.generate(here, prompt, provider()))
    except Exception:
        # Our own mistake: readers are told, and the sweep releases the hold.
        log.exception("turn broke", turn=str(turn.pk))
        ending = turns.lost_ending()
    here.end(ending)
    await upkeep.finish(turn.pk, ending)
    await _tell_pages(turn, "ended")
    await asyncio.to_thread(_hand_to_worker, turn.pk)


async def _close(here: live.LiveTurn, outcome: turns.Outcome) -> Ending:
    pause = 0.5
    for _ in range(CLOSE_ATTEMPTS):
        try:
            return await in_db(turns.close, here, outcome)
        except (OperationalError, InterfaceError, InternalError) as error:
            log.warning("closing again", turn=str(here.id), error=type(error).__name__, pause_seconds=pause)
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
    # The hold stays until the database is back and the sweep releases it; nothing was or will be charged.
    log.error("turn left to the sweep", turn=str(here.id))
    return turns.lost_ending()


async def _tell_pages(turn: Turn, state: str) -> None:
    if turn.user_id is None:
        return
    await anotify(turn.user_id, "balance")
    await anotify(
        turn.user_id, "turn", turn=str(turn.pk), conversation=str(turn.conversation_id), state=str(state)
    )


def _hand_to_worker(turn_id: UUID) -> None:
    try:
        record_usage.delay(str(turn_id))
    except (BrokerAway, OSError) as error:
        # The beat task finds what was not recorded.
        log.warning("usage not handed over", turn=str(turn_id), error=type(error).__name__)
