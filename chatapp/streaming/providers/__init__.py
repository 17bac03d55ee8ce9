"""The providers that can answer."""

import functools

from django.conf import settings

from chatapp.streaming.providers.base import Provider


@functools.cache
def provider() -> Provider:
    """Whoever answers in this process, with their pools of connections; made at the first turn."""
    # Their SDKs take seconds to import, which the worker and beat never need; chatapp.serve loads them for web.
    from chatapp.streaming.providers.anthropic import Claude
    from chatapp.streaming.providers.failover import Failover

    providers: dict[str, Provider] = {Claude.name: Claude()}
    if settings.OPENAI_API_KEY:
        from chatapp.streaming.providers.openai import OpenAI

        providers[OpenAI.name] = OpenAI()
    return Failover(providers)
