"""A whole answer at once, for what the house itself asks: in the worker, which has no event loop of its own."""

import asyncio
from contextlib import aclosing
from dataclasses import dataclass

from billing.pricing import Usage
from chatapp.streaming.providers import made
from chatapp.streaming.providers.base import Accepted, Finished, Prompt, ProviderError, Said


@dataclass(frozen=True, slots=True)
class Whole:
    text: str
    usage: Usage
    request_id: str


def whole_answer(prompt: Prompt, *, patience_seconds: float) -> Whole:
    """What the prompt's provider answers; ProviderError if it does not come to its end in time."""
    return asyncio.run(_answer(prompt, patience_seconds))


async def _answer(prompt: Prompt, patience_seconds: float) -> Whole:
    # Its connections belong to this event loop, so they are made for this answer and closed after it.
    provider = made(prompt.provider)
    text: list[str] = []
    request_id = ""
    try:
        async with asyncio.timeout(patience_seconds), aclosing(provider.stream(prompt)) as deltas:
            async for delta in deltas:
                match delta:
                    case Accepted(_, request_id):
                        pass
                    case Said(piece):
                        text.append(piece)
                    case Finished("refusal"):
                        raise ProviderError("refused")
                    case Finished(_, usage):
                        return Whole("".join(text), usage, request_id)
    except TimeoutError as error:
        raise ProviderError("provider_cut", reported="longer than it may take") from error
    finally:
        await provider.aclose()
    raise ProviderError("provider_cut", reported="no end")
