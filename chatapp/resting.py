"""Rests of the whole event loop, for a process that passes on many answers at once.

To be woken for a word costs several times what the word does: the processor sleeps between two of them, and its caches
are cold. So whoever passes words on lets the loop rest, and then looks at all that has come.

A rest ends as soon as a client sends something or takes more, or something comes that is waited for, such as the first
words of an answer. There is none while a request has not been answered, and none for a moment after it, in which what
it began comes back in pieces from threads and other servers. Whatever else happens may wait until the rest is over.
"""

import selectors
import time
from collections.abc import Hashable
from socket import socket

# About what opening a turn takes.
HURRY_SECONDS = 0.04


class Doors:
    """The sockets at which somebody may knock for whom a rest ends."""

    def __init__(self) -> None:
        self._knocks = selectors.DefaultSelector()

    def watch(self, door: socket, *, reads: bool, writes: bool) -> None:
        """Whether what comes in by `door`, and room for what goes out, end a rest; neither, as soon as it is closed."""
        events = selectors.EVENT_READ * reads | selectors.EVENT_WRITE * writes
        known = self._known(door)
        if known is not None and known.fileobj is not door:
            # Of one that was closed a moment ago, as loops close TLS before they say so: its number is this one's now.
            self._knocks.unregister(known.fileobj)
            known = None
        if known is not None and events:
            self._knocks.modify(door, events)
        elif known is not None:
            self._knocks.unregister(door)
        elif events:
            self._knocks.register(door, events)

    def somebody_knocks_within(self, seconds: float) -> bool:
        """Block until somebody does, or until `seconds` are over."""
        return bool(self._knocks.select(seconds))

    def close(self) -> None:
        self._knocks.close()

    def _known(self, door: socket) -> selectors.SelectorKey | None:
        """What is watched by the number of `door`: it, or another that had the number before."""
        try:
            return self._knocks.get_key(door)
        except (KeyError, ValueError):  # never seen, or closed and no longer there
            return None


_doors: Doors | None = None
_waiting: set[Hashable] = set()
_hurry_until = float("-inf")


def allow(doors: Doors | None) -> None:
    """Let this process take rests, which `doors` end. With None, as in the beginning, it takes none."""
    global _doors
    _doors = doors


def expect(door: socket) -> None:
    """Let what comes in by `door` end a rest, until it is `expect_no_more`: soon after it is closed, at the latest."""
    if _doors is not None:
        _doors.watch(door, reads=True, writes=False)


def expect_no_more(door: socket) -> None:
    if _doors is not None:
        _doors.watch(door, reads=False, writes=False)


def begin(request: Hashable) -> None:
    """Somebody waits for an answer to `request`: no rest until it is `answered`."""
    _waiting.add(request)


def answered(request: Hashable) -> None:
    """The answer to `request` has begun, or there will be none. For HURRY_SECONDS more there is no rest."""
    global _hurry_until
    if request in _waiting:
        _waiting.discard(request)
        _hurry_until = time.monotonic() + HURRY_SECONDS


def rest(seconds: float) -> bool:
    """Block the event loop for so long, unless somebody waits or comes; whether it was the whole time."""
    if _doors is None or seconds <= 0 or _waiting or time.monotonic() < _hurry_until:
        return False
    return not _doors.somebody_knocks_within(seconds)
