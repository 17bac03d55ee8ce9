"""OpenAI, through its own SDK over HTTP: who answers when Claude cannot begin. The only importer of it.

Chat completions, which every server that calls itself compatible speaks.
"""

import asyncio
import hashlib
from contextlib import AsyncExitStack
from typing import Any

import httpx2
import openai
import structlog
from django.conf import settings

from accounts.patience import within
from billing.pricing import Usage
from chatapp.streaming.providers.base import Accepted, Finished, Hear, Prompt, ProviderError, Said
from chatapp.streaming.providers.connections import Enough
from chatapp.streaming.providers.event_bytes import EventBytes
from chatapp.streaming.providers.wire import (
    CUT,
    Pieces,
    count,
    direct_client,
    from_wire,
    hand_over,
    is_behind_a_proxy,
    kind,
    limits,
    patience_seconds,
    printable,
    retry_after,
    timeout,
)

log = structlog.get_logger(__name__)

# What an answer counts comes right behind its end; if not, the answer is not kept from its reader for it.
LATE_COUNT_SECONDS = 2.0

# Its words for how an answer ended, in those that clients of ours know.
STOP_REASONS = {"stop": "end_turn", "length": "max_tokens", "content_filter": "refusal"}


class OpenAI:
    """Streams answers over one pool of warm connections."""

    name = "openai"

    def __init__(self) -> None:
        self._client = openai.AsyncOpenAI(
            api_key=settings.OPENAI_API_KEY,
            base_url=settings.OPENAI_BASE_URL,
            max_retries=0,
            timeout=timeout(),
            http_client=(
                openai.DefaultAioHttpClient(limits=limits())
                if is_behind_a_proxy(settings.OPENAI_BASE_URL)
                else direct_client()
            ),
        )

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def stream(self, prompt: Prompt, hear: Hear) -> None:
        async with AsyncExitStack() as call:
            response = await self._connect(prompt, call)
            request_id = printable(response.headers.get("x-request-id", ""))
            # The input is counted only at the end; until then, what can be said without asking: nothing cached.
            hear(Accepted(Usage(input_tokens=prompt.about_tokens), request_id))
            answer, feed = Answer(), EventBytes().feed

            def take(piece: bytes) -> bool:
                try:
                    events = feed(piece)
                except ValueError as error:
                    raise ProviderError("provider_cut", reported=str(error)) from error
                had_ended = answer.has_ended
                for data in events:
                    text = answer.read(data)
                    if text:
                        hear(Said(text))
                    if answer.is_complete:
                        raise Enough
                if answer.has_ended and not had_ended:
                    patience.reschedule(asyncio.get_running_loop().time() + LATE_COUNT_SECONDS)
                return answer.has_begun

            try:
                async with asyncio.timeout(None) as patience:
                    await hand_over(response, take)
            except CUT as error:
                if not answer.has_ended:
                    raise ProviderError("provider_cut", reported=type(error).__name__) from error
        hear(answer.finish(prompt))

    async def _connect(self, prompt: Prompt, call: AsyncExitStack) -> httpx2.Response:
        """The response, its body still to come; leaving `call` closes it."""
        messages: Any = [
            {"role": "developer", "content": prompt.system},
            *({"role": role, "content": text} for role, text in prompt.messages),
        ]
        asking = self._client.chat.completions.with_streaming_response.create(
            model=prompt.model,
            max_completion_tokens=prompt.max_tokens,
            messages=messages,
            # 64 characters at most.
            safety_identifier=hashlib.sha256(prompt.person.encode()).hexdigest()[:64],
            stream=True,
            stream_options={"include_usage": True},
        )
        try:
            async with within(patience_seconds(prompt)):
                response = await call.enter_async_context(asking)
                return response.http_response
        except openai.APIStatusError as error:
            raise told(error) from error
        except (openai.APIError, *CUT) as error:
            raise ProviderError("provider_unavailable", reported=type(error).__name__) from error


class Answer:
    """Reads one stream's chunks in their order and keeps what they count."""

    def __init__(self) -> None:
        self._usage: Usage | None = None
        self._finish_reason = ""
        self._said = Pieces().add
        self.has_begun = False
        """Whether it has said a word."""
        self.is_complete = False
        """Whether it has ended and is counted, as far as it ever will be."""

    @property
    def has_ended(self) -> bool:
        """Whether all that it says has come."""
        return bool(self._finish_reason)

    def read(self, data: bytes) -> str:
        """The text that a chunk adds. ProviderError if it tells of an error, or is malformed."""
        if data.startswith(b"[DONE]"):
            self.is_complete = True
            return ""
        try:
            return self._meaning(from_wire(data))
        except (ValueError, LookupError, AttributeError, TypeError) as error:
            # Not JSON, or JSON without the fields of a chunk.
            reported = f"malformed chunk: {type(error).__name__}"
            raise ProviderError("provider_cut", reported=reported) from error

    def _meaning(self, chunk: dict[str, Any]) -> str:
        if error := chunk.get("error"):
            raise in_stream(error)
        text = ""
        if choices := chunk.get("choices"):
            choice = choices[0]
            if reason := choice.get("finish_reason"):
                self._finish_reason = printable(str(reason))
            text = choice["delta"].get("content") or ""
            if not isinstance(text, str):
                raise ValueError("content is not text")
            text = self._said(text)
            self.has_begun |= text != ""
        if (usage := chunk.get("usage")) is not None:
            self._usage = usage_of(usage)
            # Some count with each chunk: the last count is that of the end.
            self.is_complete = self.has_ended
        return text

    def finish(self, prompt: Prompt) -> Finished:
        """The answer's end; a stream that ended without saying why was cut."""
        if not self._finish_reason:
            raise ProviderError("provider_cut", reported="the stream ended without a finish_reason")
        stop_reason = STOP_REASONS.get(self._finish_reason, self._finish_reason)
        counted = self._usage is not None
        return Finished(stop_reason, self._usage or Usage(input_tokens=prompt.about_tokens), counted)


def usage_of(reported: dict[str, Any]) -> Usage:
    """Its `prompt_tokens` include what was read from the cache, ours do not; writing to the cache costs nothing."""
    details = reported.get("prompt_tokens_details") or {}
    cached = count(details.get("cached_tokens") or 0)
    prompt = count(reported["prompt_tokens"])
    return Usage(
        input_tokens=max(0, prompt - cached),
        cache_read_tokens=min(cached, prompt),
        output_tokens=count(reported["completion_tokens"]),
    )


def told(error: openai.APIStatusError) -> ProviderError:
    """An error that was reported before the stream began."""
    code = kind(error.code) or kind(error.type)
    reported = f"{error.status_code} {code}".strip()
    log.warning("provider error", status=error.status_code, type=code, request_id=error.request_id)
    wait = retry_after(error.response.headers)
    match error.status_code:
        case 429 if code == "insufficient_quota":
            return ProviderError("provider_rejected", reported=reported)
        case 429:
            return ProviderError("rate_limited", retry_after=wait, reported=reported)
        case 413:
            return ProviderError("context_too_long", reported=reported)
        case 400 if code == "context_length_exceeded":
            return ProviderError("context_too_long", reported=reported)
        case status if 400 <= status < 500:
            return ProviderError("provider_rejected", reported=reported)
    return ProviderError("provider_unavailable", retry_after=wait, reported=reported)


def in_stream(said: Any) -> ProviderError:
    """An error that was reported within the stream."""
    said = said if isinstance(said, dict) else {}
    code = kind(said.get("code")) or kind(said.get("type"))
    log.warning("provider error", status=200, type=code)
    if code == "context_length_exceeded":
        return ProviderError("context_too_long", reported=f"200 {code}")
    if "rate_limit" in code:
        return ProviderError("rate_limited", reported=f"200 {code}")
    return ProviderError("provider_unavailable", reported=f"200 {code}")
