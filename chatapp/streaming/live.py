"""Turns that run in this process: who writes them, who reads them, and when nobody does any more."""

import asyncio
import contextvars
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Literal
from uuid import UUID, uuid4

from django.conf import settings

from chatapp.streaming.events import Ending, Failed, Started
from chatapp.streaming.growing import GrowingAnswer, GrowingText

# Whoever asked needs a moment to begin reading, however short the patience with those who left.
FIRST_READER_SECONDS = 5

# What storing the answers of a process that ends may take; what is not stored by then is left to the sweep.
CLOSING_SECONDS = 10

# This process, among all that write answers.
PROCESS = uuid4()

Leaving = Literal["stopped", "abandoned", "interrupted"]


class LiveTurn(GrowingAnswer):
    """One running turn: its owner's task writes, any number of readers follow."""

    def __init__(self, started: Started) -> None:
        super().__init__(started)
        self.id: UUID = started.turn
        self.leaving: Leaving | None = None
        # Is told of growth, and lets readers have it once it is safe; without one they have it at once.
        self.keeper: Callable[[LiveTurn], None] = GrowingAnswer.tell
        # Is told when nobody has read here for long enough, and has it left unless somebody follows elsewhere; without
        # one it is left at once.
        self.lookout: Callable[[LiveTurn], None] = LiveTurn.leave_unless_watched
        # By the loop's clock: until when they may come back who follow through other processes.
        self._awaited_until = float("-inf")
        self._unwatched: asyncio.TimerHandle | None = None
        self._reading_from_provider: asyncio.Task[None] | None = None
        self._swept = False
        # All of it, by this process; also set from a database thread.
        self.is_stored = False
        self._leave_in(max(settings.TURN_RECONNECT_SECONDS, FIRST_READER_SECONDS))

    # --- The owner's side

    def think(self, text: str) -> None:
        if not self._swept:
            self.thinking.append(text)
            self.keeper(self)

    def say(self, text: str) -> None:
        if not self._swept:
            self.text.append(text)
            self.keeper(self)

    def end(self, ending: Ending) -> None:
        lost = isinstance(ending, Failed) and ending.code == "interrupted" and not self.is_stored
        if self._swept and lost:
            self._forget_untold()
        super().end(ending)
        self._is_read()

    async def while_wanted(self, read: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run `read` until it ends or is no longer wanted; then `leaving` says why, and it has been closed."""
        if self.leaving is not None:
            return
        self._reading_from_provider = asyncio.create_task(read())
        try:
            await self._reading_from_provider
        except asyncio.CancelledError:
            if self.leaving is None:
                raise
        finally:
            self._reading_from_provider = None

    def leave(self, why: Leaving) -> None:
        """Stop reading from the provider, now. The first reason counts."""
        if self.leaving is None and self.ending is None:
            self.leaving = why
            if self._reading_from_provider is not None:
                self._reading_from_provider.cancel()

    def is_swept(self) -> None:
        """Another process ends it, or has ended it, with what was told of it: this one was taken for dead."""
        self._swept = True
        # If it has been read, it is being stored: whoever comes first decides what is saved, and `end` learns who.
        if self._reading_from_provider is not None:
            self._forget_untold()
            self.leave("interrupted")

    def _forget_untold(self) -> None:
        self.thinking = _beginning(self.thinking, self._told.thinking)
        self.text = _beginning(self.text, self._told.text)

    # --- Nobody reads

    def _is_read(self) -> None:
        if self._unwatched is not None:
            self._unwatched.cancel()
            self._unwatched = None

    def _is_left(self) -> None:
        if self.ending is None:
            self._leave_in(settings.TURN_RECONNECT_SECONDS)

    def _leave_in(self, seconds: float) -> None:
        self._unwatched = asyncio.get_running_loop().call_later(seconds, self._patience_is_over)

    def is_seen_elsewhere(self, good_for_seconds: float) -> None:
        """Somebody follows through another process; who looks says for how long that lets it go on."""
        self._awaited_until = asyncio.get_running_loop().time() + good_for_seconds

    def _patience_is_over(self) -> None:
        self._unwatched = None
        self.lookout(self)

    def leave_unless_watched(self) -> None:
        """Leave it as abandoned, unless somebody reads or may still be coming back."""
        if self.readers or self._unwatched is not None or self.ending is not None:
            return
        left = self._awaited_until - asyncio.get_running_loop().time()
        if left > 0:
            self._leave_in(left)
        else:
            self.leave("abandoned")


def _beginning(text: GrowingText, length: int) -> GrowingText:
    beginning = GrowingText()
    beginning.append(text.between(0, length))
    return beginning


here: dict[UUID, LiveTurn] = {}
_tasks: set[asyncio.Task[None]] = set()


async def drain(seconds: float, hurry: asyncio.Event) -> None:
    """Let the turns of this process come to their end, for so long or until told to `hurry`; interrupt the rest.

    What they said until then is kept, and nothing is charged for it.
    """
    hurried = asyncio.create_task(hurry.wait())
    try:
        async with asyncio.timeout(seconds):
            while _tasks and not hurry.is_set():
                await asyncio.wait({*_tasks, hurried}, return_when=asyncio.FIRST_COMPLETED)
    except TimeoutError:
        pass
    finally:
        hurried.cancel()
    for turn in list(here.values()):
        turn.leave("interrupted")
    if _tasks:
        await asyncio.wait(_tasks, timeout=CLOSING_SECONDS)


def start(started: Started, run: Callable[[LiveTurn], Awaitable[None]]) -> LiveTurn:
    """Make the turn live and `run` it in a task that belongs to no request."""
    live = here[started.turn] = LiveTurn(started)

    async def running() -> None:
        try:
            await run(live)
        finally:
            del here[live.id]

    # A fresh context: a task made inside a request would inherit its thread and its connection.
    task = asyncio.get_running_loop().create_task(running(), context=contextvars.Context())
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)
    return live
