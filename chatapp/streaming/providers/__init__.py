"""The providers that can answer."""

import functools

from chatapp.streaming.providers.anthropic import Claude
from chatapp.streaming.providers.base import Provider


@functools.cache
def provider() -> Provider:
    """The one provider of this process, with its pool of connections; made at the first turn."""
    return Claude()
