"""What the turn engine asks of a provider and what it gets, whoever the provider is."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from billing.pricing import Usage


@dataclass(frozen=True, slots=True)
class Prompt:
    """One request to a model. `messages` are (role, text) pairs that end with the person's."""

    model: str
    system: str
    messages: tuple[tuple[str, str], ...]
    max_tokens: int
    thinks: bool
    person: str
    """An opaque id of whoever asks; never an address or a name."""
    provider: str = "anthropic"
    fallback: "Fallback | None" = None
    goes_on: bool = True
    """Whether another prompt will begin like this one: then it is worth writing to the provider's cache."""

    @property
    def size_bytes(self) -> int:
        """All its text in UTF-8."""
        return len(self.system.encode()) + sum(len(text.encode()) for _, text in self.messages)

    @property
    def bound_tokens(self) -> int:
        """More tokens than the prompt can have: a token is at least a byte, and roles cost a few each."""
        return self.size_bytes + TOKENS_PER_MESSAGE * (len(self.messages) + 1)

    @property
    def about_tokens(self) -> int:
        """About how many tokens the prompt has, where nobody counts them: four bytes each."""
        return math.ceil(self.bound_tokens / 4)


TOKENS_PER_MESSAGE = 16


@dataclass(frozen=True, slots=True)
class Fallback:
    """Who answers when the model that was asked for cannot begin."""

    model: str
    provider: str
    thinks: bool = False


@dataclass(frozen=True, slots=True)
class Asked:
    """Which model is being asked now, and through whom; told before anything of its answer."""

    model: str
    provider: str


@dataclass(frozen=True, slots=True)
class Accepted:
    """The provider began to answer; `usage` has the exact input and no output yet."""

    usage: Usage
    request_id: str


@dataclass(frozen=True, slots=True)
class Thought:
    text: str


@dataclass(frozen=True, slots=True)
class Said:
    text: str


@dataclass(frozen=True, slots=True)
class Finished:
    """The provider's own last word; without it an answer is cut. `counted` tells whether it told the output."""

    stop_reason: str
    usage: Usage
    counted: bool = True


Delta = Asked | Accepted | Thought | Said | Finished
Hear = Callable[[Delta], None]


class ProviderError(Exception):
    """A provider did not give an answer to its end. `code` is among those of `failures.FAILURES`."""

    def __init__(self, code: str, *, retry_after: float | None = None, reported: str = "") -> None:
        super().__init__(reported or code)
        self.code = code
        self.retry_after = retry_after


class Provider(Protocol):
    """Streams one answer."""

    name: str

    async def stream(self, prompt: Prompt, hear: Hear) -> None:
        """Call `hear` with Accepted, then any number of Thought and Said, then Finished; or ProviderError at any point.

        It is called as the bytes arrive, between two steps of the event loop, so it must be quick and not wait. What
        it raises ends the call and comes out here. Cancelling closes the connection upstream. Whoever chooses between
        several providers tells with Asked which of them the rest comes from.
        """
        ...
