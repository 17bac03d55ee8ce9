"""A whole answer at once, for what the house itself asks: in the worker, which has no event loop of its own."""

import asyncio
from dataclasses import dataclass

from billing.pricing import Usage
from chatapp.streaming.providers import made
from chatapp.streaming.providers.base import Accepted, Delta, Finished, Prompt, ProviderError, Said


@dataclass(slots=True)
class Whole:
    """What came of asking: an answer, or an `error` and what was said before it.

    `usage` is what is known of it: None if the provider never accepted the request; of an answer that broke off, the
    input, and not `counted`.
    """

    text: str = ""
    usage: Usage | None = None
    counted: bool = False
    request_id: str = ""
    error: ProviderError | None = None

    def hear(self, delta: Delta) -> None:
        """Fill in what the provider says."""
        match delta:
            case Accepted(usage, request_id):
                self.usage, self.request_id = usage, request_id
            case Said(text):
                self.text += text
            case Finished(stop_reason, usage, counted):
                self.usage, self.counted = usage, counted
                if stop_reason == "refusal":
                    raise ProviderError("refused")


def whole_answer(prompt: Prompt, *, patience_seconds: float) -> Whole:
    """What the prompt's provider answers within so many seconds."""
    return asyncio.run(_answer(prompt, patience_seconds))


async def _answer(prompt: Prompt, patience_seconds: float) -> Whole:
    # Its connections belong to this event loop, so they are made for this answer and closed after it.
    provider = made(prompt.provider)
    whole = Whole()
    try:
        async with asyncio.timeout(patience_seconds):
            await provider.stream(prompt, whole.hear)
    except ProviderError as error:
        whole.error = error
    except TimeoutError:
        whole.error = ProviderError("provider_cut", reported="longer than it may take")
    finally:
        await provider.aclose()
    return whole
