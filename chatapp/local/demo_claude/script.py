"""What a reply is made to do: its words, its pace and its faults. `directives.py` is how it is told so."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

Changes = Mapping[str, Any]


# --- faults that come before the answer, or instead of it


@dataclass(frozen=True)
class Status:
    """An error status."""

    code: int
    message: str
    kind: str
    retry_after: float | None


@dataclass(frozen=True)
class Hang:
    """The request is accepted and never answered."""


@dataclass(frozen=True)
class Drop:
    """The connection is reset instead of an answer."""


@dataclass(frozen=True)
class TooLong:
    """The prompt is said not to fit."""


# --- faults in the middle of it, each once `after` tokens of text have been sent


@dataclass(frozen=True)
class Cut:
    """The connection breaks in the middle of a chunk."""

    after: int
    reset: bool


@dataclass(frozen=True)
class Stall:
    """Nothing is sent for `seconds`, not even a ping."""

    after: int
    seconds: float


@dataclass(frozen=True)
class ErrorEvent:
    """An `error` event ends the stream."""

    after: int
    kind: str
    message: str


@dataclass(frozen=True)
class CleanEnd:
    """The stream ends as if it were complete, without its last events."""

    after: int


@dataclass(frozen=True)
class Garbage:
    """A delta whose data is not JSON; the stream goes on behind it."""

    after: int
    data: str


@dataclass(frozen=True)
class Unknown:
    """Events, deltas and fields that no client knows; the stream goes on behind them."""

    after: int


Before = Status | Hang | Drop | TooLong
Fault = Cut | Stall | ErrorEvent | CleanEnd | Garbage | Unknown


@dataclass(frozen=True)
class Script:
    """A reply's stage directions. Tokens are those of `tokens.py`, times are seconds."""

    say: str | None = None
    deltas: tuple[str, ...] | None = None
    filler_tokens: int | None = None
    empty: bool = False
    thinking: str | None = None
    tokens_per_delta: int = 1
    stop_reason: str | None = None
    stop_after: int | None = None

    usage: Mapping[str, int] = field(default_factory=dict)
    usage_only: str = ""

    wait_seconds: float = 0.0
    first_token_seconds: float = 0.3
    tokens_per_second: float = 45.0
    ping_seconds: float = 10.0
    drip_bytes: int = 0
    drip_seconds: float = 0.0

    before: Before | None = None
    faults: tuple[Fault, ...] = ()
    last_event: str = ""
    wants_help: bool = False

    def with_changes(self, *all_changes: Changes) -> "Script":
        """This script with each of the changes made in turn; faults add up, the rest is replaced."""
        script = self
        for changes in all_changes:
            faults = (*script.faults, *changes.get("faults", ()))
            script = replace(script, **{**changes, "faults": faults})
        return script
