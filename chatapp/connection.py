"""A client's connection: how bytes go out by it, and how it ends the rests of the event loop."""

import select
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from twisted.internet import tcp

from chatapp import resting

# Of what a reader has not taken yet, the kernel keeps so much and Twisted as much again; the rest waits unsent.
UNSENT_BYTES = 64 * 1024
# So much is sent on a connection between two looks whether there is room.
SENT_UNASKED_BYTES = 4 * 1024


class Connection(tcp.Server):
    """Hands to the kernel at once what it takes. Twisted waits for the loop to say that it may, for each small write:
    two system calls and a round of the loop more.
    """

    def __init__(self, doors: resting.Doors, *args: Any) -> None:
        self._doors, self._reads, self._writes = doors, False, False
        self._sent_unasked = 0
        super().__init__(*args)
        self._room = select.poll()
        self._room.register(self.socket, select.POLLOUT)

    def write(self, data: bytes) -> None:
        busy = self.dataBuffer or self._tempDataBuffer or self.disconnecting or self._writeDisconnected
        if self.connected and not busy and self._has_room_for(len(data)):
            with suppress(OSError):  # the ordinary way finds out as well
                data = data[self.socket.send(data[: self.SEND_LIMIT]) :]
        if data:
            super().write(data)

    def _has_room_for(self, size: int) -> bool:
        """Asked before a send, which takes far more than UNSENT_BYTES for a reader that has stopped reading."""
        self._sent_unasked += size
        if self._sent_unasked > SENT_UNASKED_BYTES:
            if not self._room.poll(0):
                return False
            self._sent_unasked = 0
        return True

    def startReading(self) -> None:
        super().startReading()
        self._watch(reads=True, writes=self._writes)

    def stopReading(self) -> None:
        super().stopReading()
        self._watch(reads=False, writes=self._writes)

    def startWriting(self) -> None:
        super().startWriting()
        self._watch(reads=self._reads, writes=True)

    def stopWriting(self) -> None:
        super().stopWriting()
        self._watch(reads=self._reads, writes=False)

    def _watch(self, *, reads: bool, writes: bool) -> None:
        if (reads, writes) != (self._reads, self._writes):
            self._reads, self._writes = reads, writes
            self._doors.watch(self.socket, reads=reads, writes=writes)

    def writeSequence(self, iovec: Iterable[bytes]) -> None:
        self.write(b"".join(iovec))
