"""OpenAI, through its own SDK over HTTP: who answers when Claude cannot begin. The only importer of it.

Chat completions, which every server that calls itself compatible speaks.
"""

import hashlib
from typing import Any

import openai
import structlog
from django.conf import settings

from accounts.patience import within
from billing.pricing import Usage
from chatapp.streaming.providers.base import Accepted, Finished, Hear, Prompt, ProviderError, Said
from chatapp.streaming.providers.wire import (
    CUT,
    count,
    kind,
    limits,
    patience_seconds,
    printable,
    retry_after,
    timeout,
)

log = structlog.get_logger(__name__)

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
            http_client=openai.DefaultAioHttpClient(limits=limits()),
        )

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def stream(self, prompt: Prompt, hear: Hear) -> None:
        async with await self._connect(prompt) as chunks:
            answer = Answer()
            # The input is counted only at the end; until then, what can be said without asking: nothing cached.
            request_id = printable(chunks.response.headers.get("x-request-id", ""))
            hear(Accepted(Usage(input_tokens=prompt.about_tokens), request_id))
            iterator = aiter(chunks)
            while True:
                try:
                    text = answer.read(await anext(iterator))
                except StopAsyncIteration:
                    break
                except openai.APIStatusError as error:
                    raise told(error) from error
                except (openai.APIConnectionError, *CUT) as error:
                    raise ProviderError("provider_cut", reported=type(error).__name__) from error
                except (ValueError, AttributeError, TypeError) as error:
                    reported = f"malformed chunk: {type(error).__name__}"
                    raise ProviderError("provider_cut", reported=reported) from error
                except openai.APIError as error:
                    # An error object within the stream.
                    raise in_stream(error) from error
                if text:
                    hear(Said(printable(text)))
        hear(answer.finish(prompt))

    async def _connect(self, prompt: Prompt) -> openai.AsyncStream[Any]:
        messages: Any = [
            {"role": "developer", "content": prompt.system},
            *({"role": role, "content": text} for role, text in prompt.messages),
        ]
        try:
            async with within(patience_seconds(prompt)):
                return await self._client.chat.completions.create(
                    model=prompt.model,
                    max_completion_tokens=prompt.max_tokens,
                    messages=messages,
                    # 64 characters at most.
                    safety_identifier=hashlib.sha256(prompt.person.encode()).hexdigest()[:64],
                    stream=True,
                    stream_options={"include_usage": True},
                )
        except openai.APIStatusError as error:
            raise told(error) from error
        except (openai.APIError, *CUT) as error:
            raise ProviderError("provider_unavailable", reported=type(error).__name__) from error


class Answer:
    """Reads one stream's chunks in their order and keeps what they count."""

    def __init__(self) -> None:
        self._usage: Usage | None = None
        self._finish_reason = ""

    def read(self, chunk: Any) -> str | None:
        """The text that a chunk adds, if any."""
        if chunk.usage is not None:
            self._usage = usage_of(chunk.usage)
        if not chunk.choices:
            return None
        choice = chunk.choices[0]
        if choice.finish_reason:
            self._finish_reason = printable(str(choice.finish_reason))
        text = choice.delta.content
        if text is not None and not isinstance(text, str):
            raise ValueError("content is not text")
        return text

    def finish(self, prompt: Prompt) -> Finished:
        """The answer's end; a stream that ended without saying why was cut."""
        if not self._finish_reason:
            raise ProviderError("provider_cut", reported="the stream ended without a finish_reason")
        stop_reason = STOP_REASONS.get(self._finish_reason, self._finish_reason)
        counted = self._usage is not None
        return Finished(stop_reason, self._usage or Usage(input_tokens=prompt.about_tokens), counted)


def usage_of(reported: Any) -> Usage:
    """Its `prompt_tokens` include what was read from the cache, ours do not; writing to the cache costs nothing."""
    details = getattr(reported, "prompt_tokens_details", None)
    cached = count(getattr(details, "cached_tokens", None) or 0)
    prompt = count(reported.prompt_tokens)
    return Usage(
        input_tokens=max(0, prompt - cached),
        cache_read_tokens=min(cached, prompt),
        output_tokens=count(reported.completion_tokens),
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


def in_stream(error: openai.APIError) -> ProviderError:
    code = kind(error.code) or kind(error.type)
    log.warning("provider error", status=200, type=code)
    if code == "context_length_exceeded":
        return ProviderError("context_too_long", reported=f"200 {code}")
    if "rate_limit" in code:
        return ProviderError("rate_limited", reported=f"200 {code}")
    return ProviderError("provider_unavailable", reported=f"200 {code}")
