"""Server-Sent Events taken out of bytes, as much of the WHATWG's rules as a provider's stream needs.

The SDKs make an object of every event with all the fields that its type may have; that costs more than all else that
happens to a word on its way to the reader.
"""

# No event of an answer is near it: a stream that ends no line fills no memory.
LONGEST_EVENT_BYTES = 4 * 1024 * 1024


class EventBytes:
    """Gives the data of each event as soon as its bytes are complete."""

    def __init__(self) -> None:
        self._rest = b""
        self._ended_in_return = False

    def feed(self, chunk: bytes) -> list[bytes]:
        """The data of the events that `chunk` completes, in order; ValueError if one is beyond all measure."""
        if self._ended_in_return and chunk:
            # The line has ended with the carriage return; a line feed that belongs to it ends no other.
            chunk = chunk.removeprefix(b"\n")
            self._ended_in_return = False
        if b"\r" in chunk:
            self._ended_in_return = chunk.endswith(b"\r")
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        events = (self._rest + chunk if self._rest else chunk).split(b"\n\n")
        self._rest = events.pop()
        if len(self._rest) > LONGEST_EVENT_BYTES:
            raise ValueError("an event without an end")
        return [data for data in map(_data, events) if data]


def _data(event: bytes) -> bytes:
    name, _, line = event.partition(b"\n")
    if name.startswith(b"event:") and line.startswith(b"data:") and b"\n" not in line:  # as nearly all are
        return line[5:].removeprefix(b" ")
    lines = event.split(b"\n")
    return b"\n".join(line[5:].removeprefix(b" ") for line in lines if line.startswith(b"data:"))
