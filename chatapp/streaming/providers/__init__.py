"""The providers that can answer."""

import functools
from typing import TYPE_CHECKING

from django.conf import settings

from billing.models import LanguageModel
from chatapp.streaming.providers.base import Provider

if TYPE_CHECKING:
    from chatapp.streaming.providers.anthropic import Claude
    from chatapp.streaming.providers.openai import OpenAI


@functools.cache
def provider() -> Provider:
    """Whoever answers in this process, with their pools of connections; made at the first turn."""
    from chatapp.streaming.providers.failover import Failover

    names = [LanguageModel.Provider.ANTHROPIC.value]
    if settings.OPENAI_API_KEY:
        names.append(LanguageModel.Provider.OPENAI.value)
    return Failover({name: made(name) for name in names})


def made(name: str) -> "Claude | OpenAI":
    """A provider with a pool of its own, for the event loop that uses it first."""
    # Their SDKs take seconds to import, which beat never needs and the worker seldom; chatapp.serve loads them for web.
    if name == LanguageModel.Provider.OPENAI:
        from chatapp.streaming.providers.openai import OpenAI

        return OpenAI()
    from chatapp.streaming.providers.anthropic import Claude

    return Claude()
