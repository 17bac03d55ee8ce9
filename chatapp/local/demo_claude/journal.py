"""What was asked of the demo and what became of it, so that a test can look: the last requests, in memory."""

import asyncio
import json
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from .reply import Delta, Reply

State = Literal["waiting", "streaming", "completed", "rejected", "faulted", "client_closed"]

MAX_ENTRIES = 2_000
MAX_BODY_BYTES = 64 * 1024 * 1024


@dataclass
class Entry:
    """One request.

    `waiting`: nothing has been sent · `streaming` · `completed` · `rejected`: answered with an error status ·
    `faulted`: broken off on purpose · `client_closed`: the client went away first.
    """

    id: int
    request_id: str
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes = b""
    started_at: float = field(default_factory=time.time)
    ended_at: float | None = None
    state: State = "waiting"
    status: int | None = None
    model: str | None = None
    stream: bool = False
    reply: Reply | None = None
    deltas_sent: int = 0
    thinking_tokens_sent: int = 0
    text_tokens_sent: int = 0

    @property
    def tokens_sent(self) -> int:
        """Output tokens, thinking and text, that went out before the end."""
        return self.thinking_tokens_sent + self.text_tokens_sent

    def text_sent(self) -> str:
        """The text that went out before the end."""
        deltas: tuple[Delta, ...] = (self.reply.text if self.reply else None) or ()
        return "".join(delta.text for delta in deltas[: self.deltas_sent])

    def as_json(self) -> dict[str, Any]:
        """The entry as `GET /demo/requests` tells it; `body` is None when not JSON, or no longer kept."""
        try:
            body = json.loads(self.body)
        except ValueError:
            body = None
        return {
            "id": self.id,
            "request_id": self.request_id,
            "method": self.method,
            "path": self.path,
            "headers": {name.lower(): value for name, value in self.headers.items()},
            "body": body,
            "started_at": self.started_at,
            "ended_at": self.ended_at,
            "state": self.state,
            "status": self.status,
            "model": self.model,
            "stream": self.stream,
            "tokens_sent": self.tokens_sent,
            "thinking_tokens_sent": self.thinking_tokens_sent,
            "text_sent": self.text_sent(),
        }


class Journal:
    """The last requests. Bodies are kept up to a total size, the newest longest."""

    def __init__(self) -> None:
        self._entries: deque[Entry] = deque()
        self._last_id = 0
        self._body_bytes = 0
        self._changed = asyncio.Event()

    def open(self, request_id: str, method: str, path: str, headers: Mapping[str, str]) -> Entry:
        """A new entry, for a request that has just arrived."""
        self._last_id += 1
        entry = Entry(self._last_id, request_id, method, path, headers)
        self._entries.append(entry)
        if len(self._entries) > MAX_ENTRIES:
            self._forget_body(self._entries.popleft())
        self._tell()
        return entry

    def keep_body(self, entry: Entry, body: bytes) -> None:
        """Remembers the body of a request, and forgets the oldest when they are too many bytes."""
        entry.body = body
        self._body_bytes += len(body)
        for oldest in self._entries:
            if self._body_bytes <= MAX_BODY_BYTES:
                break
            self._forget_body(oldest)

    def _forget_body(self, entry: Entry) -> None:
        self._body_bytes -= len(entry.body)
        entry.body = b""

    def move(self, entry: Entry, state: State) -> None:
        """Puts an entry into its next state."""
        entry.state = state
        if state not in ("waiting", "streaming"):
            entry.ended_at = time.time()
        self._tell()

    def _tell(self) -> None:
        """Wakes whoever waits in `find`."""
        self._changed.set()
        self._changed = asyncio.Event()

    def clear(self) -> None:
        """Forgets every request; those still running go on unseen."""
        self._entries.clear()
        self._body_bytes = 0

    async def find(self, *, path: str, state: str, count: int, seconds: float) -> list[Entry]:
        """The entries for `path` in `state` (either may be empty for any), oldest first.

        Waits up to `seconds` until there are `count` of them.
        """
        deadline = time.monotonic() + seconds
        while True:
            found = [e for e in self._entries if path in ("", e.path) and state in ("", e.state)]
            left = deadline - time.monotonic()
            if len(found) >= count or left <= 0:
                return found
            try:
                async with asyncio.timeout(left):
                    await self._changed.wait()
            except TimeoutError:
                continue
