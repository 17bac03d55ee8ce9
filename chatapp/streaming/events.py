"""What readers of a turn are told. Plain data that imports nothing of ours; amounts are strings of credits."""

from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Balance:
    available: str
    held: str


@dataclass(frozen=True, slots=True)
class Started:
    """The first event of every stream read from its start."""

    type: ClassVar[str] = "start"
    turn: UUID
    conversation: UUID | None
    user_message: UUID | None
    assistant_message: UUID | None
    model: str
    held: str


@dataclass(frozen=True, slots=True)
class Thinking:
    type: ClassVar[str] = "thinking"
    text: str


@dataclass(frozen=True, slots=True)
class Text:
    type: ClassVar[str] = "text"
    text: str


@dataclass(frozen=True, slots=True)
class Done:
    """The last event of an answer that was completed or stopped; `served_by` is the model that gave it.

    `first_token_ms` is from asking the model to its first word, as the turn keeps it; None if there was none.
    """

    type: ClassVar[str] = "done"
    status: str
    stop_reason: str
    usage: dict[str, int]
    charged: str
    balance: Balance
    limited_by_balance: bool
    estimated: bool
    served_by: str
    first_token_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """The last event of an answer that failed; `retry_after` is in seconds from now.

    `balance` is unknown (None) only when the database was away too long to store the answer.
    """

    type: ClassVar[str] = "error"
    code: str
    message: str
    retryable: bool
    retry_after: float | None
    charged: str
    balance: Balance | None
    first_token_ms: int | None = None


Ending = Done | Failed
Event = Started | Thinking | Text | Done | Failed

# What the id of the last event has behind the cursor.
END = ".end"


class Cursor(NamedTuple):
    """How far a reader is: characters of thinking and of text. Written "12.345", it is the id of each event.

    It means the same in every process and at any time after the end, because it counts what was said and not
    how it was cut into events.
    """

    thinking: int = 0
    text: int = 0

    @classmethod
    def parse(cls, written: str) -> "Cursor":
        """ValueError if `written` is not an id that we gave."""
        thinking, _, rest = written.partition(".")
        text = rest.removesuffix(END)
        if not (thinking.isascii() and thinking.isdigit() and text.isascii() and text.isdigit()):
            raise ValueError(f"{written!r} is not the id of an event")
        return cls(int(thinking), int(text))

    def __str__(self) -> str:
        return f"{self.thinking}.{self.text}"


def is_of_an_ending(written: str) -> bool:
    """Whether an id that we gave is that of a last event."""
    return written.endswith(END)


@dataclass(frozen=True, slots=True)
class Sent:
    """An event with its id."""

    id: str
    event: Event = field(repr=False)
