"""An answer that grows, and its readers, wherever it is being written.

A stream is a cursor over a growing text. A reader wakes, gets everything between its cursor and the end as one
event, and sleeps; so a slow reader, a late one, another tab and one that came back are the same case, and nothing
is ever queued for anybody.
"""

import asyncio
from collections.abc import AsyncGenerator

from chatapp.streaming.events import END, Cursor, Ending, Sent, Started, Text, Thinking
from chatapp.streaming.sse import KEEP_ALIVE_SECONDS

# Readers wake at most so often; what arrives in between travels together. The first words never wait.
MERGE_SECONDS = 0.03


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
        self._changed = asyncio.Event()

    @property
    def cursor(self) -> Cursor:
        """Where a reader stands who has everything."""
        return Cursor(self.thinking.length, self.text.length)

    def tell(self, until: Cursor | None = None) -> None:
        """Let readers have everything, or what stands before `until`."""
        until = until or self.cursor
        # What they know already stays told, whatever becomes of it where it is kept.
        self._told = Cursor(max(self._told.thinking, until.thinking), max(self._told.text, until.text))
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
                news = self._news(at)
                for sent in news:
                    yield sent
                if news:
                    at = Cursor.parse(news[-1].id)
                    if self.ending is None:
                        await asyncio.sleep(MERGE_SECONDS)
                elif self.ending is not None:
                    yield Sent(f"{self.cursor}{END}", self.ending)
                    return
                elif not await self._change():
                    yield None
        finally:
            self.readers -= 1
            if self.readers == 0:
                self._is_left()

    def _news(self, at: Cursor) -> list[Sent]:
        """What readers were told since `at`: at most one event of each kind."""
        found, told = [], self._told
        if told.thinking > at.thinking:
            thought = self.thinking.since(at.thinking)[: told.thinking - at.thinking]
            at = Cursor(told.thinking, at.text)
            found.append(Sent(str(at), Thinking(thought)))
        if told.text > at.text:
            said = self.text.since(at.text)[: told.text - at.text]
            found.append(Sent(str(Cursor(at.thinking, told.text)), Text(said)))
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

    def _is_read(self) -> None:
        """The first reader has come."""

    def _is_left(self) -> None:
        """The last reader has gone."""
