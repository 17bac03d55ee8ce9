"""Another provider when the first cannot begin; never once it has said something."""

from collections.abc import Mapping
from dataclasses import replace

import structlog

from chatapp.streaming.providers.base import (
    Asked,
    Delta,
    Finished,
    Hear,
    Prompt,
    Provider,
    ProviderError,
    Said,
    Thought,
)
from chatapp.streaming.providers.breaker import Breaker

log = structlog.get_logger(__name__)

# What is not the request's fault: another provider may do better.
WORTH_ANOTHER = {"rate_limited", "overloaded", "provider_unavailable"}
# Of whom this is all that is heard does not work; what refuses a request for what it says, lives.
NO_SIGN_OF_LIFE = WORTH_ANOTHER | {"provider_cut"}


class Failover:
    """Asks the provider of the prompt's model, and that of its fallback if the first cannot begin."""

    name = ""

    def __init__(self, providers: Mapping[str, Provider]) -> None:
        self._providers = providers
        self._breakers = {name: Breaker() for name in providers}

    async def stream(self, prompt: Prompt, hear: Hear) -> None:
        refused: ProviderError | None = None
        choices = [choice for choice in _choices(prompt) if choice.provider in self._providers]
        if not choices:
            raise ProviderError("provider_unavailable", reported=f"{prompt.provider} has no key")
        for choice in choices:
            breaker = self._breakers[choice.provider]
            is_last = choice is choices[-1]
            if not is_last and not breaker.lets_through():
                continue
            hear(Asked(choice.model, choice.provider))
            listening = _UntilItBegins(hear, breaker)
            try:
                await self._providers[choice.provider].stream(choice, listening)
                return
            except ProviderError as error:
                if listening.began:
                    raise
                if error.code in NO_SIGN_OF_LIFE:
                    breaker.failed(error.retry_after)
                else:
                    breaker.succeeded()
                if error.code not in WORTH_ANOTHER:
                    raise
                # What became of the model that the person chose is what they are told, unless it was left alone.
                refused = refused or error
                if not is_last:
                    log.warning("failing over", provider=choice.provider, code=error.code)
        if refused is not None:
            raise refused


class _UntilItBegins:
    """Passes on what is heard, and notes that something was."""

    def __init__(self, hear: Hear, breaker: Breaker) -> None:
        self._hear = hear
        self._breaker = breaker
        self.began = False

    def __call__(self, delta: Delta) -> None:
        if not self.began and isinstance(delta, Said | Thought | Finished):
            self.began = True
            self._breaker.succeeded()
        self._hear(delta)


def _choices(prompt: Prompt) -> list[Prompt]:
    """The prompt as it goes to each in turn."""
    if prompt.fallback is None:
        return [prompt]
    second = replace(
        prompt,
        model=prompt.fallback.model,
        provider=prompt.fallback.provider,
        thinks=prompt.fallback.thinks,
        fallback=None,
    )
    return [prompt, second]
