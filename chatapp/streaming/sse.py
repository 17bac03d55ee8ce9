"""Events to bytes, and the response that streams them."""

import json
from collections.abc import AsyncGenerator, Callable
from dataclasses import asdict
from json.encoder import encode_basestring

from django.http import HttpRequest, StreamingHttpResponse

from chatapp.streaming.events import Cursor, Event, Sent, Text, Thinking

# A comment, without an empty line after it: some clients would take that for the end of an event.
KEEP_ALIVE = b": keep-alive\n"
KEEP_ALIVE_SECONDS = 15.0
# Where our server (chatapp.serve) keeps, in the scope of a request, how to write to its connection at once.
WRITE = "chatapp.write"

Direct = Callable[[Cursor, Text | Thinking], bool]
"""Writes an event, which brings a reader to a cursor, to their connection at once; False, and nothing is written, if it
takes no more just now.
"""

WORDS = (Text, Thinking)

# Line ends to Unicode, and so to clients that split what they read with str.splitlines. All others JSON escapes anyway.
LINE_ENDS = {end: f"\\u{ord(end):04x}" for end in "\x85\u2028\u2029"}


def encode(event_id: object, event: Event) -> bytes:
    """One event as the WHATWG wire format wants it: `data` is a single line of JSON, so it needs no splitting."""
    if isinstance(event, WORDS):
        # All but every event: making an encoder for each would take twenty times as long.
        line = f'{{"type":"{event.type}","text":{encode_basestring(event.text)}}}'
    else:
        data = {"type": event.type, **asdict(event)}
        line = json.dumps(data, ensure_ascii=False, separators=(",", ":"), default=str)
    if not line.isascii():
        for end, escaped in LINE_ENDS.items():
            line = line.replace(end, escaped)
    return f"id: {event_id}\nevent: {event.type}\ndata: {line}\n\n".encode()


class EventStream(StreamingHttpResponse):
    """A response of Server-Sent Events that closes its source at once when the reader leaves."""

    def __init__(
        self, request: HttpRequest, follow: Callable[[Direct | None], AsyncGenerator[Sent | None, None]]
    ) -> None:
        """`follow` gives None for each KEEP_ALIVE_SECONDS of silence, and may write by itself what comes later."""
        self._body = _encoded(follow(_direct(request)))
        super().__init__(self._body, content_type="text/event-stream")
        self["Cache-Control"] = "no-cache, no-transform"
        self["X-Accel-Buffering"] = "no"

    def __aiter__(self) -> AsyncGenerator[bytes, None]:
        # Django would wrap the source in a generator of its own and, when a reader leaves while it is inside
        # send(), close only that one: ours would wait for the garbage collector. Its handler closes this one.
        return self._body


def _direct(request: HttpRequest) -> Direct | None:
    """None if another server serves us, or a test."""
    write = getattr(request, "scope", {}).get("extensions", {}).get(WRITE)
    return None if write is None else lambda at, event: write(encode(at, event))


async def _encoded(events: AsyncGenerator[Sent | None, None]) -> AsyncGenerator[bytes, None]:
    try:
        async for sent in events:
            yield KEEP_ALIVE if sent is None else encode(sent.id, sent.event)
    finally:
        await events.aclose()
