"""An answer that grows, and its readers, wherever it is being written.

A stream is a cursor over a growing text. A reader wakes, gets everything between its cursor and the end as one
event, and sleeps; so a slow reader, a late one, another tab and one that came back are the same case, and nothing
is ever queued for anybody. One who has everything need not even be woken, if what comes next can be written to their
connection at once.
"""

import asyncio
from collections.abc import AsyncGenerator

import structlog

from chatapp.streaming.events import END, Cursor, Ending, Sent, Started, Text, Thinking
from chatapp.streaming.sse import KEEP_ALIVE_SECONDS, Direct

log = structlog.get_logger(__name__)

# A string of a few letters takes several times as much memory as they do: so many at once become one.
JOINED_PIECES = 64


class GrowingText:
    """Text that only grows: appended in pieces, read from any offset (in characters)."""

    __slots__ = ("_pieces", "_unjoined", "length")

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._unjoined = 0
        self.length = 0

    def append(self, piece: str) -> None:
        self._pieces.append(piece)
        self.length += len(piece)
        self._unjoined += 1
        if self._unjoined == JOINED_PIECES:
            # In one step, so that other threads see the pieces or what they became.
            self._pieces[-JOINED_PIECES:] = ["".join(self._pieces[-JOINED_PIECES:])]
            self._unjoined = 0

    def since(self, offset: int) -> str:
        """What stands after `offset`; readers are near the end, so the search begins there."""
        missing = self.length - offset
        if missing <= 0:
            return ""
        if len(self._pieces[-1]) == missing:  # as for nearly every reader
            return self._pieces[-1]
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


class Listener:
    """A reader who has everything, and whose connection is written to as soon as there is more."""

    def __init__(self, at: Cursor, direct: Direct) -> None:
        self.at = at
        self.direct = direct
        self._loop = asyncio.get_running_loop()
        self._told_at = self._loop.time()
        self._silence = self._loop.call_later(KEEP_ALIVE_SECONDS, self._look_at_silence)
        self.done: asyncio.Future[bool] = self._loop.create_future()

    def tell(self, at: Cursor, event: Text | Thinking) -> bool:
        """Whether the connection took `event`, behind which the reader then is."""
        try:
            taken = self.direct(at, event)
        except Exception:
            # It is this reader's trouble alone: their own task finds out what is wrong.
            log.exception("a reader could not be written to")
            taken = False
        if not taken:
            return False
        self.at, self._told_at = at, self._loop.time()
        return True

    def leave(self) -> None:
        self._silence.cancel()

    def _look_at_silence(self) -> None:
        left = self._told_at + KEEP_ALIVE_SECONDS - self._loop.time()
        if left > 0:
            self._silence = self._loop.call_later(left, self._look_at_silence)
        else:
            _resolve(self.done, False)


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
        self._listening: list[Listener] = []

    @property
    def cursor(self) -> Cursor:
        """Where a reader stands who has everything."""
        return Cursor(self.thinking.length, self.text.length)

    def tell(self, until: Cursor | None = None) -> None:
        """Let readers have everything, or what stands before `until`."""
        thinking, text = until or self.cursor
        # What they know already stays told, whatever becomes of it where it is kept.
        self._told = Cursor(max(self._told.thinking, thinking), max(self._told.text, text))
        for listener in self._listening:
            self._tell(listener)
        if self._waiting:
            self._wake()

    def end(self, ending: Ending) -> None:
        """Tell every reader the rest and how it ended; nothing comes after."""
        self.ending = ending
        self.tell()

    async def follow(
        self, after: Cursor | None, direct: Direct | None = None
    ) -> AsyncGenerator[Sent | None, None]:
        """Every event after `after` (None: from the start) to the end; None for each spell of silence.

        With `direct`, those that can be are written by it instead.
        """
        self.readers += 1
        if self.readers == 1:
            self._is_read()
        try:
            if after is None:
                yield Sent("0.0", self.started)
            at = after or Cursor()
            while True:
                if (more := self._more(at)) is not None:
                    at, event = more
                    yield Sent(str(at), event)
                elif self.ending is not None:
                    yield Sent(f"{self.cursor}{END}", self.ending)
                    return
                elif direct is not None:
                    listener = Listener(at, direct)
                    if not await self._listen(listener):
                        yield None
                    at = listener.at
                elif not await self._change():
                    yield None
        finally:
            self.readers -= 1
            if self.readers == 0:
                self._is_left()

    def _more(self, at: Cursor) -> tuple[Cursor, Text | Thinking] | None:
        """The next event for a reader who is at `at`, and where they are behind it; None if they have everything."""
        thinking, text = at
        if self._told.thinking > thinking:
            thought = self.thinking.between(thinking, self._told.thinking)
            return Cursor(thinking + len(thought), text), Thinking(thought)
        if self._told.text > text:
            said = self.text.between(text, self._told.text)
            return Cursor(thinking, text + len(said)), Text(said)
        return None

    async def _listen(self, listener: Listener) -> bool:
        """Have `listener` told of everything, until it must be looked after; False after a spell of silence."""
        self._listening.append(listener)
        try:
            return await listener.done
        finally:
            self._listening.remove(listener)
            listener.leave()

    def _tell(self, listener: Listener) -> None:
        if listener.done.done():
            # Refused a moment ago: to offer more of what its own task sends soon, with each word, would take all time.
            return
        while listener.at != self._told:
            more = self._more(listener.at)
            if more is None:  # they know more than is safe
                break
            if not listener.tell(*more):
                _resolve(listener.done, True)
                return
        if self.ending is not None:
            _resolve(listener.done, True)

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
