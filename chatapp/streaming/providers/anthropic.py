"""Claude, through Anthropic's own SDK over HTTP. The only importer of it."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import anthropic
import structlog
from django.conf import settings

from billing.pricing import Usage
from chatapp.streaming.providers.base import Accepted, Delta, Finished, Prompt, ProviderError, Said, Thought
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


class Claude:
    """Streams answers over one pool of warm connections."""

    name = "anthropic"

    def __init__(self) -> None:
        self._client = anthropic.AsyncAnthropic(
            api_key=settings.ANTHROPIC_API_KEY,
            base_url=settings.ANTHROPIC_BASE_URL,
            # The SDK's retries obey retry-after without a cap; the person is told instead and decides.
            max_retries=0,
            timeout=timeout(),
            # Half the CPU per event of the default transport.
            http_client=anthropic.DefaultAioHttpClient(limits=limits()),
        )

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def stream(self, prompt: Prompt) -> AsyncGenerator[Delta, None]:
        async with await self._connect(prompt) as events:
            answer = Answer(request_id=printable(events.response.headers.get("request-id", "")))
            iterator = aiter(events)
            while True:
                try:
                    delta = answer.read(await anext(iterator))
                except StopAsyncIteration:
                    break
                except anthropic.APIStatusError as error:
                    raise told(error) from error
                except CUT as error:
                    raise ProviderError("provider_cut", reported=type(error).__name__) from error
                except (ValueError, AttributeError, TypeError) as error:
                    # Not JSON, or JSON without the fields of its type.
                    reported = f"malformed event: {type(error).__name__}"
                    raise ProviderError("provider_cut", reported=reported) from error
                except anthropic.APIError as error:
                    raise ProviderError("provider_cut", reported=type(error).__name__) from error
                if delta is not None:
                    yield delta
        yield answer.finish()

    async def _connect(self, prompt: Prompt) -> anthropic.AsyncStream[Any]:
        messages: Any = [{"role": role, "content": text} for role, text in prompt.messages]
        thinking: Any = (
            {"type": "adaptive", "display": "summarized"} if prompt.thinks else anthropic.NOT_GIVEN
        )
        try:
            async with asyncio.timeout(patience_seconds(prompt)):
                return await self._client.messages.create(
                    model=prompt.model,
                    max_tokens=prompt.max_tokens,
                    system=prompt.system,
                    messages=messages,
                    # The next turn of this conversation reads all of this for a tenth or less of its price.
                    cache_control={"type": "ephemeral"} if prompt.goes_on else anthropic.omit,
                    metadata={"user_id": prompt.person},
                    thinking=thinking,
                    stream=True,
                )
        except anthropic.APIStatusError as error:
            raise told(error) from error
        except (anthropic.APIError, *CUT) as error:
            raise ProviderError("provider_unavailable", reported=type(error).__name__) from error


class Answer:
    """Reads one stream's events in their order and keeps its usage."""

    def __init__(self, *, request_id: str) -> None:
        self._request_id = request_id
        self._usage = Usage()
        self._stop_reason = ""
        self._counted = False
        self._stopped = False

    def read(self, event: Any) -> Delta | None:
        """What an event means to a reader, if anything; events of types we do not know mean nothing."""
        match event.type:
            case "content_block_delta":
                match event.delta.type:
                    case "text_delta":
                        return Said(printable(event.delta.text))
                    case "thinking_delta":
                        return Thought(printable(event.delta.thinking))
            case "message_start":
                self._usage = input_usage(getattr(event.message, "usage", None))
                return Accepted(self._usage, self._request_id)
            case "message_delta":
                if isinstance(event.delta.stop_reason, str):
                    self._stop_reason = printable(event.delta.stop_reason)
                self._usage = with_totals(self._usage, getattr(event, "usage", None))
                self._counted |= getattr(getattr(event, "usage", None), "output_tokens", None) is not None
            case "message_stop":
                self._stopped = True
        return None

    def finish(self) -> Finished:
        """The answer's end; a stream that ended without saying so was cut, however politely."""
        if not self._stopped or not self._stop_reason:
            raise ProviderError("provider_cut", reported="the stream ended without message_stop")
        return Finished(self._stop_reason, self._usage, self._counted)


def input_usage(reported: Any) -> Usage:
    """`message_start`: exact input and cache numbers; its output is a placeholder and is left out."""
    written = _number(reported, "cache_creation_input_tokens", 0)
    written_1h = min(
        written, _number(getattr(reported, "cache_creation", None), "ephemeral_1h_input_tokens", 0)
    )
    return Usage(
        input_tokens=_number(reported, "input_tokens", 0),
        cache_read_tokens=_number(reported, "cache_read_input_tokens", 0),
        cache_write_5m_tokens=written - written_1h,
        cache_write_1h_tokens=written_1h,
    )


def with_totals(before: Usage, reported: Any) -> Usage:
    """`message_delta`: totals so far, which replace what was known and are never added to it.

    It may repeat the input and cache numbers, without the split of cache writes: what `message_start` gave as
    written for an hour stays so, as far as the total allows.
    """
    written_before = before.cache_write_5m_tokens + before.cache_write_1h_tokens
    written = _number(reported, "cache_creation_input_tokens", written_before)
    written_1h = min(before.cache_write_1h_tokens, written)
    return Usage(
        input_tokens=_number(reported, "input_tokens", before.input_tokens),
        output_tokens=_number(reported, "output_tokens", before.output_tokens),
        cache_read_tokens=_number(reported, "cache_read_input_tokens", before.cache_read_tokens),
        cache_write_5m_tokens=written - written_1h,
        cache_write_1h_tokens=written_1h,
    )


def _number(reported: Any, name: str, before: int) -> int:
    """A count as reported, or as it was known before where nothing is reported."""
    tokens = getattr(reported, name, None)
    return before if tokens is None else count(tokens)


def told(error: anthropic.APIStatusError) -> ProviderError:
    """An error that Claude reported, by status before the stream or (status 200) by type within it."""
    name = kind(error.type)
    reported = f"{error.status_code} {name}"
    log.warning("provider error", status=error.status_code, type=name, request_id=error.request_id)
    match error.status_code, name:
        case (429, _) | (200, "rate_limit_error"):
            return ProviderError(
                "rate_limited", retry_after=retry_after(error.response.headers), reported=reported
            )
        case (529, _) | (_, "overloaded_error"):
            return ProviderError(
                "overloaded", retry_after=retry_after(error.response.headers), reported=reported
            )
        case (413, _) | (_, "request_too_large"):
            return ProviderError("context_too_long", reported=reported)
        case (400, _) if "prompt is too long" in str(error.message):
            return ProviderError("context_too_long", reported=reported)
        case (200, "invalid_request_error" | "authentication_error" | "permission_error" | "not_found_error"):
            return ProviderError("provider_rejected", reported=reported)
        case (status, _) if 400 <= status < 500:
            return ProviderError("provider_rejected", reported=reported)
    return ProviderError(
        "provider_unavailable", retry_after=retry_after(error.response.headers), reported=reported
    )
