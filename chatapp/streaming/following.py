"""A turn's events for one reader, wherever the turn runs: here, in another process, or nowhere any more."""

import asyncio
import contextvars
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from functools import partial
from uuid import UUID

import structlog
from django.conf import settings

from billing import ledger
from billing.away import DATABASE_AWAY
from chatapp.conversations.models import Turn
from chatapp.db import in_db
from chatapp.streaming import journal, live, turns
from chatapp.streaming.events import Cursor, Ending, Sent
from chatapp.streaming.growing import GrowingAnswer
from chatapp.streaming.notices import notices
from chatapp.streaming.sse import Direct

log = structlog.get_logger(__name__)

# Readers of a turn that runs elsewhere are told at most so often.
MERGE_SECONDS = 0.03
# Should a notice have been lost: everything is looked at so often.
LOOK_SECONDS = 10
# While Valkey or PostgreSQL does not answer, they are asked again so often.
RETRY_SECONDS = 1


Events = AsyncGenerator[Sent | None, None]


async def events_of(turn: Turn, after: Cursor | None) -> Callable[[Direct | None], Events]:
    """What gives every event after `after` (None: from the start) to the one that ends the turn, and None for spells of
    silence; with a `Direct`, those that can be are written by it instead.

    What only the database knows it is asked for now: once a response has begun, an error can only break it off.
    """
    if turn.pk in live.here or turn.state == Turn.State.RUNNING:
        return partial(_follow, turn, after)
    ended = GrowingAnswer(turns.started(turn))
    complete(ended, *await in_db(_as_saved, turn.pk))
    return partial(ended.follow, after)


async def _follow(turn: Turn, after: Cursor | None, direct: Direct | None) -> Events:
    answer = live.here.get(turn.pk) or _mirrors.get(turn.pk) or Mirror(turn)
    async with aclosing(answer.follow(after, direct)) as events:
        async for sent in events:
            yield sent


def complete(answer: GrowingAnswer, thinking: str, text: str, ending: Ending) -> None:
    """Bring `answer` to its end: so much was thought and said in all."""
    answer.thinking.append(thinking[answer.thinking.length :])
    answer.text.append(text[answer.text.length :])
    answer.end(ending)


class Mirror(GrowingAnswer):
    """A turn that another process runs, for the readers of this one: one for all of them, while there are any."""

    def __init__(self, turn: Turn) -> None:
        super().__init__(turns.started(turn))
        self.id: UUID = turn.pk
        self._offsets = dict.fromkeys(journal.PARTS, 0)
        self._noticed = asyncio.Event()
        self._may_have_ended = True
        self._growing: asyncio.Task[None] | None = None

    def _is_read(self) -> None:
        _mirrors[self.id] = self
        task = asyncio.get_running_loop().create_task
        self._growing = task(self._grow(), context=contextvars.Context())
        self._leave_word()

    def _is_left(self) -> None:
        del _mirrors[self.id]
        if self._growing is not None:
            self._growing.cancel()
        if self.ending is None:
            self._leave_word()

    def _leave_word(self) -> None:
        """The process that writes it looks only now and then who listens, and may miss a short visit."""
        task = asyncio.get_running_loop().create_task(_note_visit(self.id), context=contextvars.Context())
        _noting.add(task)
        task.add_done_callback(_noting.discard)

    async def _grow(self) -> None:
        async with notices.of(journal.channel(self.id), self._hear):
            while self.ending is None:
                self._noticed.clear()
                patience: float = LOOK_SECONDS
                try:
                    await self._read_journal()
                except journal.AWAY as error:
                    log.warning("journal away", turn=str(self.id), error=type(error).__name__)
                    self._may_have_ended, patience = True, RETRY_SECONDS
                if self._may_have_ended:
                    self._may_have_ended = False
                    try:
                        if await in_db(_has_ended, self.id):
                            complete(self, *await in_db(_as_saved, self.id))
                            return
                    except DATABASE_AWAY as error:
                        log.warning("database away", turn=str(self.id), error=type(error).__name__)
                        self._may_have_ended, patience = True, RETRY_SECONDS
                await self._notice(RETRY_SECONDS if notices.deaf else patience)

    async def _read_journal(self) -> None:
        new = await journal.read(self.id, self._offsets)
        for part, piece in new.items():
            self._offsets[part] += len(piece)
        if any(new.values()):
            self.thinking.append(new["thinking"].decode())
            self.text.append(new["text"].decode())
            self.tell()
            await asyncio.sleep(MERGE_SECONDS)

    async def _notice(self, seconds: float) -> None:
        """Wait until there is something to look at; look at everything after so long without a word."""
        try:
            async with asyncio.timeout(seconds):
                await self._noticed.wait()
        except TimeoutError:
            self._may_have_ended = True

    def _hear(self, notice: str | None) -> None:
        self._may_have_ended |= notice != journal.GROWN
        self._noticed.set()


_mirrors: dict[UUID, Mirror] = {}
_noting: set[asyncio.Task[None]] = set()


async def _note_visit(turn_id: UUID) -> None:
    try:
        await journal.note_visit(turn_id, settings.TURN_RECONNECT_SECONDS)
    except journal.AWAY as error:
        log.warning("visit not noted", turn=str(turn_id), error=type(error).__name__)


def _has_ended(turn_id: UUID) -> bool:
    return not Turn.objects.running().filter(pk=turn_id).exists()


def _as_saved(turn_id: UUID) -> tuple[str, str, Ending]:
    turn = Turn.objects.with_retry_wait().select_related("assistant_message").get(pk=turn_id)
    answer = turn.assistant_message
    ending = turns.ending_of(turn, ledger.wallet_holding(turn_id))
    return (answer.thinking, answer.text, ending) if answer else ("", "", ending)
