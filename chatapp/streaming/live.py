"""Turns that run in this process: the text so far, who reads it, and when nobody does any more.

A stream is a cursor over a growing text. A reader wakes, gets everything between its cursor and the end as one
event, and sleeps; so a slow reader, a late one, another tab and one that came back are the same case, and nothing
is ever queued for anybody.
"""

import asyncio
import contextvars
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from typing import Any, Literal
from uuid import UUID

from django.conf import settings

from chatapp.streaming.events import Cursor, Ending, Sent, Started, Text, Thinking
from chatapp.streaming.sse import KEEP_ALIVE_SECONDS

# Readers wake at most so often; what arrives in between travels together. The first words never wait.
MERGE_SECONDS = 0.03

# Whoever asked needs a moment to begin reading, however short the patience with those who left.
FIRST_READER_SECONDS = 5

# What storing the answers of a process that ends may take; what is not stored by then is left to the sweep.
CLOSING_SECONDS = 10

Leaving = Literal["stopped", "abandoned", "interrupted"]


class GrowingText:
    """Text that only grows: appended in pieces, read from any offset (in characters)."""

    __slots__ = ("_pieces", "length")

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self.length = 0

    def append(self, piece: str) -> None:
        self._pieces.append(piece)
        self.length += len(piece)

    def since(self, offset: int) -> str:
        """What stands after `offset`; readers are near the end, so the search begins there."""
        missing = self.length - offset
        if missing <= 0:
            return ""
        taken: list[str] = []
        for piece in reversed(self._pieces):
            if len(piece) >= missing:
                taken.append(piece[len(piece) - missing :])
                break
            taken.append(piece)
            missing -= len(piece)
        return "".join(reversed(taken))

    def whole(self) -> str:
        self._pieces[:] = ["".join(self._pieces)]
        return self._pieces[0]


class LiveTurn:
    """One running turn: its owner's task writes, any number of readers follow."""

    def __init__(self, started: Started) -> None:
        self.id: UUID = started.turn
        self.started = started
        self.thinking = GrowingText()
        self.text = GrowingText()
        self.ending: Ending | None = None
        self.leaving: Leaving | None = None
        # Told by the journal: somebody follows through another process.
        self.watched_elsewhere_until = 0.0
        self._readers = 0
        self._unwatched: asyncio.TimerHandle | None = None
        self._changed = asyncio.Event()
        self._reading_from_provider: asyncio.Task[None] | None = None
        self._watch_for_leaving(at_least_seconds=FIRST_READER_SECONDS)

    # --- The owner's side

    def think(self, text: str) -> None:
        self.thinking.append(text)
        self._wake()

    def say(self, text: str) -> None:
        self.text.append(text)
        self._wake()

    def end(self, ending: Ending) -> None:
        """Tell every reader how it ended; nothing comes after."""
        self.ending = ending
        self._cancel_timer()
        self._wake()

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

    # --- The readers' side

    @property
    def cursor(self) -> Cursor:
        """Where a reader stands who has everything."""
        return Cursor(self.thinking.length, self.text.length)

    async def follow(self, after: Cursor | None) -> AsyncGenerator[Sent | None, None]:
        """Every event after `after` (None: from the start) to the end; None for each spell of silence."""
        self._readers += 1
        self._cancel_timer()
        try:
            if after is None:
                yield Sent("0.0", self.started)
            at = after or Cursor()
            while True:
                news = self.news(at)
                for sent in news:
                    yield sent
                if news:
                    at = Cursor.parse(news[-1].id)
                    if self.ending is None:
                        await asyncio.sleep(MERGE_SECONDS)
                elif self.ending is not None:
                    yield Sent(f"{at}.end", self.ending)
                    return
                elif not await self._change():
                    yield None
        finally:
            self._readers -= 1
            if self._readers == 0:
                self._watch_for_leaving()

    def news(self, at: Cursor) -> list[Sent]:
        """What was thought and said since `at`: at most one event of each."""
        found = []
        if self.thinking.length > at.thinking:
            at_thought = Cursor(self.thinking.length, at.text)
            found.append(Sent(str(at_thought), Thinking(self.thinking.since(at.thinking))))
        if self.text.length > at.text:
            at_said = Cursor(max(at.thinking, self.thinking.length), self.text.length)
            found.append(Sent(str(at_said), Text(self.text.since(at.text))))
        return found

    async def _change(self) -> bool:
        """Wait for something new; False after a spell of silence."""
        try:
            async with asyncio.timeout(KEEP_ALIVE_SECONDS):
                await self._changed.wait()
        except TimeoutError:
            return False
        return True

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    # --- Nobody reads

    def _watch_for_leaving(self, at_least_seconds: float = 0) -> None:
        if self.ending is None:
            seconds = max(settings.TURN_RECONNECT_SECONDS, at_least_seconds)
            self._unwatched = asyncio.get_running_loop().call_later(seconds, self._leave_unless_watched)

    def _cancel_timer(self) -> None:
        if self._unwatched is not None:
            self._unwatched.cancel()
            self._unwatched = None

    def _leave_unless_watched(self) -> None:
        if asyncio.get_running_loop().time() < self.watched_elsewhere_until:
            self._watch_for_leaving()
        else:
            self.leave("abandoned")


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
