"""Events to bytes, and the response that streams them."""

import json
from collections.abc import AsyncGenerator
from dataclasses import asdict
from json.encoder import encode_basestring

from django.http import StreamingHttpResponse

from chatapp.streaming.events import Sent, Text, Thinking

# A comment, without an empty line after it: some clients would take that for the end of an event.
KEEP_ALIVE = b": keep-alive\n"
KEEP_ALIVE_SECONDS = 15.0


def encode(sent: Sent) -> bytes:
    """One event as the WHATWG wire format wants it: `data` is a single line of JSON, so it needs no splitting."""
    event = sent.event
    if isinstance(event, Text | Thinking):
        # All but every event: making an encoder for each would take twenty times as long.
        line = f'{{"type":"{event.type}","text":{encode_basestring(event.text)}}}'
    else:
        data = {"type": event.type, **asdict(event)}
        line = json.dumps(data, ensure_ascii=False, separators=(",", ":"), default=str)
    return f"id: {sent.id}\nevent: {event.type}\ndata: {line}\n\n".encode()


class EventStream(StreamingHttpResponse):
    """A response of Server-Sent Events that closes its source at once when the reader leaves."""

    def __init__(self, events: AsyncGenerator[Sent | None, None]) -> None:
        """`events` gives None for each KEEP_ALIVE_SECONDS of silence."""
        self._body = _encoded(events)
        super().__init__(self._body, content_type="text/event-stream")
        self["Cache-Control"] = "no-cache, no-transform"
        self["X-Accel-Buffering"] = "no"

    def __aiter__(self) -> AsyncGenerator[bytes, None]:
        # Django would wrap the source in a generator of its own and, when a reader leaves while it is inside
        # send(), close only that one: ours would wait for the garbage collector. Its handler closes this one.
        return self._body


async def _encoded(events: AsyncGenerator[Sent | None, None]) -> AsyncGenerator[bytes, None]:
    try:
        async for sent in events:
            yield KEEP_ALIVE if sent is None else encode(sent)
    finally:
        await events.aclose()
