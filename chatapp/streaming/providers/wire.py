"""What the providers' SDKs have in common: both speak through httpx2, and break in the same ways."""

import asyncio
import json
import math
import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import httpx2
from django.conf import settings
from pydantic_core import from_json

from chatapp.streaming.providers.base import Prompt
from chatapp.streaming.providers.connections import Body, Enough, Take, Transport

# Reading a long prompt takes a provider a while before it answers at all: a second for each so many tokens.
PROMPT_TOKENS_PER_SECOND = 10_000

# What a provider asks to wait beyond this is told as this.
LONGEST_RETRY_SECONDS = 86_400

# Behind a proxy, an answer that is complete waits so long for the end of its body: else its connection is lost.
LATE_END_SECONDS = 0.1

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
    """Call `take` with each piece of a response's body until its end, or until it has Enough.

    One of CUT if it breaks before.
    """
    body = response.extensions.get("body")
    if isinstance(body, Body) and "content-encoding" not in response.headers:
        await body.hand_over(take)
        return
    pieces = response.aiter_bytes()
    try:
        async for piece in pieces:
            take(piece)
    except Enough:
        with suppress(*CUT):
            async with asyncio.timeout(LATE_END_SECONDS):
                async for _ in pieces:
                    pass


def timeout() -> httpx2.Timeout:
    """A stall is silence on the socket: providers ping while they think."""
    return httpx2.Timeout(settings.TURN_STALL_SECONDS, connect=settings.TURN_CONNECT_SECONDS)


def patience_seconds(prompt: Prompt) -> float:
    """How long a provider may take to accept a request."""
    return settings.TURN_CONNECT_SECONDS + prompt.bound_tokens / PROMPT_TOKENS_PER_SECOND


def from_wire(data: bytes) -> Any:
    """JSON as providers send it; ValueError if it is none."""
    try:
        return from_json(data, cache_strings="keys")
    except ValueError:
        try:
            # Whoever cuts text between two halves of a surrogate pair sends JSON, though not text.
            return json.loads(data)
        except RecursionError as error:
            raise ValueError("nested beyond all measure") from error


class Pieces:
    """Makes text storable that comes in pieces: one that was cut in mid-character waits for the next."""

    def __init__(self) -> None:
        self._half = ""

    def add(self, piece: str) -> str:
        """What can be said with this piece, as `printable`."""
        if piece.isascii() and not self._half and "\x00" not in piece:  # as nearly all are
            return piece
        return printable(self._joined(piece))

    def _joined(self, piece: str) -> str:
        if piece == "":
            return ""
        half, self._half = self._half, ""
        if "\ud800" <= piece[-1] <= "\udbff":
            piece, self._half = piece[:-1], piece[-1]
        if half and piece:
            return (half + piece).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "ignore")
        return piece


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
    if type(tokens) is not int or not 0 <= tokens <= 2_000_000_000:
        raise ValueError("a token count is not a count")
    return tokens


def retry_after(headers: Mapping[str, str]) -> float | None:
    """In how many seconds the provider wants to be asked again, LONGEST_RETRY_SECONDS at most, if it tells that."""
    told = headers.get("retry-after", "")
    try:
        seconds = float(told)
    except ValueError:
        at = _date(told)
        if at is None:
            return None
        # By the provider's clock, where it tells that as well.
        now = _date(headers.get("date", "")) or datetime.now(UTC)
        seconds = max(0.0, (at - now).total_seconds())
    return min(seconds, LONGEST_RETRY_SECONDS) if 0 <= seconds < math.inf else None


def _date(told: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(told)
    except ValueError:
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)
