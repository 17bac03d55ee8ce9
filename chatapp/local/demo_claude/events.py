"""The events of a stream as bytes, in the API's spelling."""

import json
from json.encoder import encode_basestring
from typing import Any

PING = b'event: ping\ndata: {"type":"ping"}\n\n'
MESSAGE_STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'

UNKNOWN_EVENT = b'event: weather_report\ndata: {"type":"weather_report","forecast":"sunny"}\n\n'

# Deltas are all but everything that is sent, so only their text is encoded anew each time.
_DELTA = (
    "event: content_block_delta\ndata: "
    '{{"type":"content_block_delta","index":{index},"delta":{{"type":"{kind}","{key}":{text}}}}}\n\n'
)


def event(data: dict[str, Any]) -> bytes:
    """One event, named for its type."""
    return named(data["type"], json.dumps(data, ensure_ascii=False, separators=(",", ":")))


def named(name: str, data: str) -> bytes:
    """One event of any name and any one line of data, sense or nonsense.

    Halves of surrogate pairs, which are no text, stand for the bytes that they escape: "\\udcff" is sent as 0xff.
    """
    return f"event: {name}\ndata: {data}\n\n".encode(errors="surrogateescape")


class DeltaEncoder:
    """Encodes the deltas of one content block."""

    def __init__(self, index: int, kind: str, key: str) -> None:
        before, _, after = _DELTA.format(index=index, kind=kind, key=key, text="\0").partition("\0")
        self._before, self._after = before.encode(), after.encode()

    def __call__(self, text: str) -> bytes:
        """The event for one more piece of text."""
        try:
            return self._before + encode_basestring(text).encode() + self._after
        except UnicodeEncodeError:  # half a surrogate pair, which only an escape can carry
            return self._before + json.dumps(text).encode() + self._after


def text_deltas(index: int) -> DeltaEncoder:
    """For a text block."""
    return DeltaEncoder(index, "text_delta", "text")


def thinking_deltas(index: int) -> DeltaEncoder:
    """For a thinking block."""
    return DeltaEncoder(index, "thinking_delta", "thinking")


def signature_deltas(index: int) -> DeltaEncoder:
    """For the end of a thinking block."""
    return DeltaEncoder(index, "signature_delta", "signature")


def block_start(index: int, block: dict[str, Any]) -> bytes:
    """The beginning of a content block."""
    return event({"type": "content_block_start", "index": index, "content_block": block})


def block_stop(index: int) -> bytes:
    """The end of a content block."""
    return event({"type": "content_block_stop", "index": index})


def unknown_delta(index: int) -> bytes:
    """A delta of a type, and with a field, that does not exist yet."""
    return event(
        {
            "type": "content_block_delta",
            "index": index,
            "delta": {"type": "aroma_delta", "aroma": "coffee"},
            "confidence": 0.5,
        }
    )
