"""The providers that can answer."""

import functools

from chatapp.streaming.providers.base import Provider


@functools.cache
def provider() -> Provider:
    """The one provider of this process, with its pool of connections; made at the first turn."""
    # Its SDK takes two seconds to import, which the worker and beat never need; chatapp.serve loads it for web.
    from chatapp.streaming.providers.anthropic import Claude

    return Claude()
