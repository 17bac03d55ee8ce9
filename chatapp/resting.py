"""Rests of the whole event loop, for a process that passes on many answers at once.

To be woken for a word costs several times what the word does: the processor sleeps between two of them, and its caches
are cold. So whoever passes words on lets the loop rest, and then looks at all that has come. Nobody else is to notice:
a rest ends as soon as a client sends something or takes more, and there is none for a moment after that, in which what
they asked for comes back in pieces from threads and other servers.
"""

import selectors
import time
from socket import socket

# About what opening a turn takes.
HURRY_SECONDS = 0.04


class Doors:
    """The sockets at which clients knock."""

    def __init__(self) -> None:
        self._knocks = selectors.DefaultSelector()

    def add(self, door: socket) -> None:
        """From now on, what comes in by `door` ends a rest."""
        self._knocks.register(door, selectors.EVENT_READ)

    def remove(self, door: socket) -> None:
        """It is about to be closed."""
        self._knocks.unregister(door)

    def waits_to_write(self, door: socket, waits: bool) -> None:
        """Whether there is something to give out by `door`, for which room is to end a rest as well."""
        also = selectors.EVENT_WRITE if waits else 0
        self._knocks.modify(door, selectors.EVENT_READ | also)

    def somebody_knocks_within(self, seconds: float) -> bool:
        """Block until somebody does, or until `seconds` are over."""
        return bool(self._knocks.select(seconds))

    def close(self) -> None:
        self._knocks.close()


_doors: Doors | None = None
_hurry_until = float("-inf")


def allow(doors: Doors | None) -> None:
    """Let this process take rests, which `doors` end. With None, as in the beginning, it takes none."""
    global _doors
    _doors = doors


def hurry() -> None:
    """Somebody waits for what is being done now: no rest for HURRY_SECONDS."""
    global _hurry_until
    _hurry_until = time.monotonic() + HURRY_SECONDS


def rest(seconds: float) -> bool:
    """Block the event loop for so long, unless somebody is in a hurry or comes; whether it was the whole time."""
    if _doors is None or seconds <= 0 or time.monotonic() < _hurry_until:
        return False
    return not _doors.somebody_knocks_within(seconds)
