"""What the providers' SDKs have in common: both speak through httpx2, and break in the same ways."""

import re
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import httpx2
from django.conf import settings

from chatapp.streaming.providers.base import Prompt
from chatapp.streaming.providers.connections import Body, Take, Transport

# Reading a long prompt takes a provider a while before it answers at all: a second for each so many tokens.
PROMPT_TOKENS_PER_SECOND = 10_000

# What a provider asks to wait beyond this is not worth telling a person.
LONGEST_RETRY_SECONDS = 86_400

# Kept warm for the next turns.
IDLE_CONNECTIONS = 100

# How a connection breaks in mid-answer; the SDKs pass these on as they are.
CUT = (httpx2.HTTPError, aiohttp.ClientError, ConnectionError, TimeoutError)


def limits() -> httpx2.Limits:
    """A connection for each turn that may run in this process."""
    return httpx2.Limits(
        max_connections=settings.TURNS_PER_PROCESS, max_keepalive_connections=IDLE_CONNECTIONS
    )


def is_behind_a_proxy(url: str) -> bool:
    """Whether the environment (HTTPS_PROXY, ALL_PROXY, NO_PROXY and so on) has a proxy for this address."""
    address = urlsplit(url)
    return bool({address.scheme, "all"} & getproxies().keys()) and not proxy_bypass(address.hostname or "")


def direct_client() -> httpx2.AsyncClient:
    """A client whose responses `hand_over` passes on as they arrive."""
    return httpx2.AsyncClient(
        # What is packed would have to be unpacked, piece by piece.
        headers={"Accept-Encoding": "identity"},
        transport=Transport(kept=IDLE_CONNECTIONS),
        follow_redirects=True,
    )


async def hand_over(response: httpx2.Response, take: Take) -> None:
    """Call `take` with each piece of a response's body until its end; one of CUT if it breaks."""
    body = response.extensions.get("body")
    if isinstance(body, Body) and "content-encoding" not in response.headers:
        await body.hand_over(take)
    else:
        async for piece in response.aiter_bytes():
            take(piece)


def timeout() -> httpx2.Timeout:
    """A stall is silence on the socket: providers ping while they think."""
    return httpx2.Timeout(settings.TURN_STALL_SECONDS, connect=settings.TURN_CONNECT_SECONDS)


def patience_seconds(prompt: Prompt) -> float:
    """How long a provider may take to accept a request."""
    return settings.TURN_CONNECT_SECONDS + prompt.bound_tokens / PROMPT_TOKENS_PER_SECOND


def printable(text: str) -> str:
    """`text` without what PostgreSQL or UTF-8 cannot carry: NUL, and halves of surrogate pairs."""
    if "\x00" in text:
        text = text.replace("\x00", "")
    return text if text.isascii() else text.encode("utf-8", "ignore").decode()


def kind(word: Any) -> str:
    """A provider's name for what went wrong; empty if it is more than a name, because it may quote the prompt."""
    return word if isinstance(word, str) and re.fullmatch(r"[A-Za-z0-9_.-]{1,60}", word) else ""


def count(tokens: Any) -> int:
    """A number of tokens that can be charged: ValueError for anything but a sane count."""
    if not isinstance(tokens, int) or not 0 <= tokens <= 2_000_000_000:
        raise ValueError("a token count is not a count")
    return tokens


def retry_after(headers: Any) -> float | None:
    """Seconds, if the provider names a sane number of them."""
    try:
        seconds = float(headers.get("retry-after", ""))
    except ValueError:
        return None
    return seconds if 0 <= seconds <= LONGEST_RETRY_SECONDS else None
