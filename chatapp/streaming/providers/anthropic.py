"""Claude, through Anthropic's own SDK over HTTP. The only importer of it."""

from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any

import anthropic
import structlog
from django.conf import settings

from accounts.patience import within
from billing.pricing import Usage
from chatapp.streaming.providers.base import (
    Accepted,
    Delta,
    Finished,
    Hear,
    Prompt,
    ProviderError,
    Said,
    Thought,
)
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

# How a 400 says that prompt and answer do not fit the context: alone, or together.
TOO_LONG = ("prompt is too long", "exceed context limit")


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
            # Through a proxy it costs twice as much for each event, with the SDK's default four times.
            http_client=(
                anthropic.DefaultAioHttpClient(limits=limits())
                if is_behind_a_proxy(settings.ANTHROPIC_BASE_URL)
                else direct_client()
            ),
        )

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def stream(self, prompt: Prompt, hear: Hear) -> None:
        async with AsyncExitStack() as call:
            response = await self._connect(prompt, call)
            answer = Answer(request_id=printable(response.headers.get("request-id", "")))
            feed = EventBytes().feed

            def take(piece: bytes) -> bool:
                try:
                    events = feed(piece)
                except ValueError as error:
                    raise ProviderError("provider_cut", reported=str(error)) from error
                for data in events:
                    delta = answer.read(data)
                    if delta is not None:
                        hear(delta)
                    if answer.is_complete:
                        raise Enough
                return answer.has_begun

            try:
                await hand_over(response.http_response, take)
            except CUT as error:
                raise ProviderError("provider_cut", reported=type(error).__name__) from error
            if not answer.is_complete:
                raise ProviderError("provider_cut", reported="the stream ended without message_stop")

    async def _connect(self, prompt: Prompt, call: AsyncExitStack) -> anthropic.AsyncAPIResponse[Any]:
        """The response, its body still to come; leaving `call` closes it."""
        messages: Any = [{"role": role, "content": text} for role, text in prompt.messages]
        thinking: Any = (
            {"type": "adaptive", "display": "summarized"} if prompt.thinks else anthropic.NOT_GIVEN
        )
        asking = self._client.messages.with_streaming_response.create(
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
        try:
            async with within(patience_seconds(prompt)):
                return await call.enter_async_context(asking)
        except anthropic.APIStatusError as error:
            headers = error.response.headers
            raise told(error.status_code, error.type, error.message, headers, error.request_id) from error
        except (anthropic.APIError, *CUT) as error:
            raise ProviderError("provider_unavailable", reported=type(error).__name__) from error


class Answer:
    """Reads one stream's events in their order and keeps its usage."""

    def __init__(self, *, request_id: str) -> None:
        self._request_id = request_id
        self._usage = Usage()
        self._stop_reason = ""
        self._counted = False
        self._said = Pieces().add
        self._thought = Pieces().add
        self.has_begun = False
        """Whether it has said or thought a word."""
        self.is_complete = False
        """Whether it has come to its end: what follows is none of it, and what breaks then harms nobody."""

    def read(self, data: bytes) -> Delta | None:
        """What an event says, by its data, if anything; events of types we do not know say nothing.

        ProviderError if it tells of an error, or is malformed.
        """
        try:
            return self._meaning(from_wire(data))
        except (ValueError, LookupError, AttributeError, TypeError) as error:
            # Not JSON, or JSON without the fields of its type.
            reported = f"malformed event: {type(error).__name__}"
            raise ProviderError("provider_cut", reported=reported) from error

    def _meaning(self, event: dict[str, Any]) -> Delta | None:
        match event["type"]:
            case "content_block_delta":
                self.has_begun = True
                delta = event["delta"]
                match delta["type"]:
                    case "text_delta":
                        return Said(self._said(delta["text"]))
                    case "thinking_delta":
                        return Thought(self._thought(delta["thinking"]))
            case "message_start":
                self._usage = input_usage(event["message"].get("usage"))
                return Accepted(self._usage, self._request_id)
            case "message_delta":
                stop_reason = event["delta"].get("stop_reason")
                if isinstance(stop_reason, str):
                    self._stop_reason = printable(stop_reason)
                usage = event.get("usage") or {}
                self._usage = with_totals(self._usage, usage)
                self._counted |= usage.get("output_tokens") is not None
            case "message_stop":
                if not self._stop_reason:
                    raise ProviderError("provider_cut", reported="message_stop without a stop_reason")
                self.is_complete = True
                return Finished(self._stop_reason, self._usage, self._counted)
            case "error":
                error = event["error"]
                raise told(200, error.get("type"), error.get("message"), {}, self._request_id)
        return None


def input_usage(reported: dict[str, Any] | None) -> Usage:
    """`message_start`: exact input and cache numbers; its output is a placeholder and is left out."""
    reported = reported or {}
    written = _number(reported, "cache_creation_input_tokens", 0)
    kinds = reported.get("cache_creation") or {}
    written_1h = min(written, _number(kinds, "ephemeral_1h_input_tokens", 0))
    return Usage(
        input_tokens=_number(reported, "input_tokens", 0),
        cache_read_tokens=_number(reported, "cache_read_input_tokens", 0),
        cache_write_5m_tokens=written - written_1h,
        cache_write_1h_tokens=written_1h,
    )


def with_totals(before: Usage, reported: dict[str, Any]) -> Usage:
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


def _number(reported: dict[str, Any], name: str, before: int) -> int:
    """A count as reported, or as it was known before where nothing is reported."""
    tokens = reported.get(name)
    return before if tokens is None else count(tokens)


def told(
    status: int, said: Any, message: Any, headers: Mapping[str, str], request_id: str | None
) -> ProviderError:
    """An error that Claude reported, by status before the stream or (status 200) by type within it."""
    error_type = kind(said)
    reported = f"{status} {error_type}".strip()
    log.warning("provider error", status=status, type=error_type, request_id=request_id)
    wait = retry_after(headers)
    match status, error_type:
        case (429, _) | (200, "rate_limit_error"):
            return ProviderError("rate_limited", retry_after=wait, reported=reported)
        case (529, _) | (_, "overloaded_error"):
            return ProviderError("overloaded", retry_after=wait, reported=reported)
        case (413, _) | (_, "request_too_large"):
            return ProviderError("context_too_long", reported=reported)
        case (400, _) if any(words in str(message) for words in TOO_LONG):
            return ProviderError("context_too_long", reported=reported)
        case (200, "invalid_request_error" | "authentication_error" | "permission_error" | "not_found_error"):
            return ProviderError("provider_rejected", reported=reported)
        case (status, _) if 400 <= status < 500:
            return ProviderError("provider_rejected", reported=reported)
    return ProviderError("provider_unavailable", retry_after=wait, reported=reported)
