"""An answer that grows, and its readers, wherever it is being written.

A stream is a cursor over a growing text. A reader wakes, gets everything between its cursor and the end as one
event, and sleeps; so a slow reader, a late one, another tab and one that came back are the same case, and nothing
is ever queued for anybody.
"""

import asyncio
from collections.abc import AsyncGenerator

from chatapp.streaming.events import END, Cursor, Ending, Sent, Started, Text, Thinking
from chatapp.streaming.sse import KEEP_ALIVE_SECONDS


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
        return taken[0] if len(taken) == 1 else "".join(reversed(taken))

    def between(self, offset: int, end: int) -> str:
        """What stands after `offset` and before `end`."""
        found = self.since(offset)
        return found if end >= self.length else found[: end - offset]

    def whole(self) -> str:
        """All of it; also from a database thread, while readers of the loop's thread look at the pieces."""
        return "".join(self._pieces)


class GrowingAnswer:
    """What was thought and said so far. Readers see what they were told of, which may be less than what is there."""

    def __init__(self, started: Started) -> None:
        self.started = started
        self.thinking = GrowingText()
        self.text = GrowingText()
        self.ending: Ending | None = None
        self.readers = 0
        self._told = Cursor()
        self._waiting: list[asyncio.Future[bool]] = []

    @property
    def cursor(self) -> Cursor:
        """Where a reader stands who has everything."""
        return Cursor(self.thinking.length, self.text.length)

    def tell(self, until: Cursor | None = None) -> None:
        """Let readers have everything, or what stands before `until`."""
        until = until or self.cursor
        # What they know already stays told, whatever becomes of it where it is kept.
        self._told = Cursor(max(self._told.thinking, until.thinking), max(self._told.text, until.text))
        if self._waiting:
            self._wake()

    def end(self, ending: Ending) -> None:
        """Tell every reader the rest and how it ended; nothing comes after."""
        self.ending = ending
        self.tell()

    async def follow(self, after: Cursor | None) -> AsyncGenerator[Sent | None, None]:
        """Every event after `after` (None: from the start) to the end; None for each spell of silence."""
        self.readers += 1
        if self.readers == 1:
            self._is_read()
        try:
            if after is None:
                yield Sent("0.0", self.started)
            at = after or Cursor()
            while True:
                if self._told.thinking > at.thinking:
                    thought = self.thinking.between(at.thinking, self._told.thinking)
                    at = Cursor(at.thinking + len(thought), at.text)
                    yield Sent(str(at), Thinking(thought))
                elif self._told.text > at.text:
                    said = self.text.between(at.text, self._told.text)
                    at = Cursor(at.thinking, at.text + len(said))
                    yield Sent(str(at), Text(said))
                elif self.ending is not None:
                    yield Sent(f"{self.cursor}{END}", self.ending)
                    return
                elif not await self._change():
                    yield None
        finally:
            self.readers -= 1
            if self.readers == 0:
                self._is_left()

    async def _change(self) -> bool:
        """Wait for something new; False after a spell of silence."""
        loop = asyncio.get_running_loop()
        change: asyncio.Future[bool] = loop.create_future()
        self._waiting.append(change)
        silence = loop.call_later(KEEP_ALIVE_SECONDS, _resolve, change, False)
        try:
            return await change
        finally:
            silence.cancel()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for change in waiting:
            _resolve(change, True)

    def _is_read(self) -> None:
        """The first reader has come."""

    def _is_left(self) -> None:
        """The last reader has gone."""


def _resolve(change: "asyncio.Future[bool]", something_new: bool) -> None:
    # A reader that has gone, or was woken in this very moment, waits no more.
    if not change.done():
        change.set_result(something_new)
