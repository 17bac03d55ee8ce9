"""The task that takes an opened turn through to its end, and tells everybody concerned."""

import asyncio
import contextvars
import functools
import hashlib
from uuid import UUID

import structlog
from django.conf import settings
from psycopg_pool import PoolTimeout

from accounts.models import User
from accounts.notify import anotify
from billing.away import DATABASE_AWAY
from chatapp.conversations.models import Recap, Turn
from chatapp.db import PATIENCE_SECONDS, NoAnswer, in_db, in_db_within
from chatapp.postgres import Away
from chatapp.problems import Problem
from chatapp.streaming import history, limits, live, turns, upkeep
from chatapp.streaming.events import Ending
from chatapp.streaming.history import History
from chatapp.streaming.providers import provider

log = structlog.get_logger(__name__)

# A database that is away in the moment an answer ends: tried again so many times, ever more slowly (about 2 min).
CLOSE_ATTEMPTS = 12
LONGEST_PAUSE_SECONDS = 15
# After a connection was lost while a turn was opened, it is looked for so many times (about 8 s).
RESCUE_ATTEMPTS = 5

# A process that ends waits no longer for a database that may hang.
OPENING_SECONDS = 5

# Set while this process ends: it opens no turns any more.
_ending = asyncio.Event()

_opening: set[asyncio.Task[Turn]] = set()
_telling: set[asyncio.Task[None]] = set()
_rescuing: set[asyncio.Task[None]] = set()


async def open_and_start(user: User, ask: turns.Ask, source: limits.Source) -> Turn:
    """Open a turn, or join it, and make it live in this process if it is new. Errors are those of `turns.open`.

    A task of its own: a request whose client leaves in this very moment is cancelled, and a turn that was opened
    and never started would keep its hold.
    """
    task = asyncio.get_running_loop().create_task(
        _open_and_start(user, ask, source), context=contextvars.Context()
    )
    _opening.add(task)
    task.add_done_callback(_opening.discard)
    return await asyncio.shield(task)


async def drain(seconds: float, hurry: asyncio.Event) -> None:
    """Open no more turns, and bring those of this process to an end: see `live.drain`.

    One that is just being opened runs too, unless that takes longer than OPENING_SECONDS: the sweep finds it then.
    """
    _ending.set()
    if _opening:
        await asyncio.wait(_opening, timeout=OPENING_SECONDS)
    await live.drain(seconds, hurry)
    await upkeep.end()


async def _open_and_start(user: User, ask: turns.Ask, source: limits.Source) -> Turn:
    if (refusal := _refusal()) is not None:
        joined = await in_db_within(PATIENCE_SECONDS, turns.join, user, ask)
        if joined is None:
            raise refusal
        return joined.turn
    try:
        opened = await in_db_within(PATIENCE_SECONDS, turns.open, user, ask, source)
    except DATABASE_AWAY as error:
        if not _nothing_was_asked(error):
            going_on = error.work if isinstance(error, NoAnswer) else None
            rescue = asyncio.create_task(_end_if_nobody_runs(ask.id, going_on))
            _rescuing.add(rescue)
            rescue.add_done_callback(_rescuing.discard)
        raise
    if opened.request is not None:
        run = functools.partial(_run, turn=opened.turn, request=opened.request)
        upkeep.keep_up(live.start(turns.started(opened.turn), run))
        # It is one of those that are here now, and must not be counted twice until this task is looked at again.
        _opening.discard(asyncio.current_task())
        log.info(
            "turn opened",
            turn=str(opened.turn.pk),
            text_length=len(ask.text),
            text_sha256=hashlib.sha256(ask.text.encode()).hexdigest()[:12],
        )
    return opened.turn


def _nothing_was_asked(error: Exception) -> bool:
    """Whether PostgreSQL cannot have stored anything before this error."""
    if isinstance(error, NoAnswer):
        return error.work is None
    return isinstance(error.__cause__, (PoolTimeout, Away))


async def _end_if_nobody_runs(turn_id: UUID, going_on: asyncio.Future[turns.Opened] | None = None) -> None:
    """Release the hold of a turn whose COMMIT was done, but the connection lost before that was told; or told so late
    that whoever asked was refused: `going_on` is the opening then.

    Nothing has been sent of it. While the database is away it is tried again for some seconds; then it is the sweep's.
    """
    if going_on is not None:
        await asyncio.wait([going_on])
    pause = 0.5
    for _ in range(RESCUE_ATTEMPTS):
        try:
            if await in_db(_is_ours, turn_id):
                # A copy of the request may have opened it in this moment and be about to run it.
                if _opening:
                    await asyncio.wait(set(_opening))
                if turn_id not in live.here:
                    await in_db(turns.interrupt, turn_id, thinking="", text="")
                    log.warning("turn ended that nobody ran", turn=str(turn_id))
            return
        except DATABASE_AWAY:
            await asyncio.sleep(pause)
            pause *= 2


def _is_ours(turn_id: UUID) -> bool:
    return Turn.objects.filter(pk=turn_id, writer=live.PROCESS, state=Turn.State.RUNNING).exists()


def _refusal() -> Problem | None:
    """Why this process begins no turn now, if so. Nothing has been stored or held then, and others may have room."""
    if _ending.is_set():
        sentence, seconds = "This server is being replaced by a new one. Send the message again.", 1
    elif len(live.here) + len(_opening) > settings.TURNS_PER_PROCESS:
        sentence, seconds = "This server is busy with other answers. Try again in a few seconds.", 5
    else:
        return None
    return Problem(503, "unavailable", sentence, headers={"Retry-After": str(seconds)}, retry_after=seconds)


async def _run(here: live.LiveTurn, *, turn: Turn, request: turns.Request) -> None:
    telling = asyncio.create_task(_tell_of_beginning(turn, request.cut))
    _telling.add(telling)
    telling.add_done_callback(_telling.discard)
    try:
        outcome = await turns.generate(here, request, provider(), functools.partial(_keep_cut, turn))
        ending = await _close(turn, here, outcome)
    except Exception:
        # Our own mistake: nobody is charged for it, and the conversation goes on.
        log.exception("turn broke", turn=str(turn.pk))
        ending = await _give_up(here)
    here.end(ending)
    await upkeep.finish(here)
    await _tell_pages(turn, "ended")


async def _close(turn: Turn, here: live.LiveTurn, outcome: turns.Outcome) -> Ending:
    pause = 0.5
    for _ in range(CLOSE_ATTEMPTS):
        try:
            return await in_db(turns.close, turn, here, outcome)
        except DATABASE_AWAY as error:
            log.warning("closing again", turn=str(here.id), error=type(error).__name__, pause_seconds=pause)
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
    # The hold stays until the database is back and the sweep releases it; nothing was or will be charged.
    log.error("turn left to the sweep", turn=str(here.id))
    return turns.lost_ending()


async def _give_up(here: live.LiveTurn) -> Ending:
    """End a turn that could not be closed as it should; what cannot be ended even so is the sweep's."""
    thinking, text = here.thinking.whole(), here.text.whole()
    try:
        ended = await in_db(turns.interrupt, here.id, thinking=thinking, text=text)
        # What went wrong may have done so right after the turn was closed.
        return await in_db(turns.saved_ending, here.id) if ended is None else ended
    except Exception:
        log.exception("turn left to the sweep", turn=str(here.id))
        return turns.lost_ending()


async def _keep_cut(turn: Turn, less: History) -> None:
    """Let later turns send no more than this one, and show where it begins."""
    try:
        cut = await in_db(history.keep_cut, less)
    except DATABASE_AWAY as error:
        # The next turn finds out for itself.
        log.warning("cut not kept", turn=str(turn.pk), error=type(error).__name__)
        return
    if cut is not None and turn.user_id is not None:
        await anotify(turn.user_id, "mark", **cut.notice)


async def _tell_of_beginning(turn: Turn, cut: Recap | None) -> None:
    await _tell_pages(turn, Turn.State.RUNNING)
    if cut is not None and turn.user_id is not None:
        await anotify(turn.user_id, "mark", **cut.notice)


async def _tell_pages(turn: Turn, state: str) -> None:
    if turn.user_id is None:
        return
    conversation = turn.conversation_id and str(turn.conversation_id)
    await anotify(turn.user_id, "turn", turn=str(turn.pk), conversation=conversation, state=str(state))
