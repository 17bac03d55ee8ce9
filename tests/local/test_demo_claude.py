"""The demo Claude keeps the promises of Anthropic's API, seen through Anthropic's own SDK."""

import asyncio
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import aiohttp
import anthropic
import httpx2
import pytest
import pytest_asyncio
from anthropic import AsyncAnthropic, DefaultAioHttpClient

from chatapp.local.demo_claude import DemoClaude, tokens
from chatapp.streaming import prompts

MODEL = "claude-sonnet-5-5"
OLD_MODEL = "claude-haiku-4-5"
KEY = {"x-api-key": "any", "anthropic-version": "2026-10-21"}


@pytest.fixture(scope="module")
def running() -> Iterator[DemoClaude]:
    with DemoClaude("pace 0") as demo:
        yield demo


@pytest.fixture
def demo(running: DemoClaude) -> DemoClaude:
    running.reset()
    return running


@pytest_asyncio.fixture
async def claude(demo: DemoClaude) -> AsyncIterator[AsyncAnthropic]:
    # Reading the certificates of the world takes longer than most tests; there are none to check.
    transport = DefaultAioHttpClient(verify=False)
    async with AsyncAnthropic(
        base_url=demo.url, api_key="any", max_retries=0, http_client=transport
    ) as client:
        yield client


def request(text: str = "Hello", **changes: Any) -> dict[str, Any]:
    """A request body; `changes` with the value None leave a field out."""
    body = {"model": MODEL, "max_tokens": 1_000, "messages": [{"role": "user", "content": text}]} | changes
    return {name: value for name, value in body.items() if value is not None}


async def streamed(claude: AsyncAnthropic, text: str = "Hello", **changes: Any) -> list[Any]:
    """Every event of a stream."""
    async with await claude.messages.create(**request(text, **changes), stream=True) as stream:
        return [event async for event in stream]


def text_of(events: list[Any]) -> str:
    return "".join(deltas_of(events, "text_delta", "text"))


def deltas_of(events: list[Any], kind: str, key: str) -> list[str]:
    return [
        getattr(event.delta, key)
        for event in events
        if event.type == "content_block_delta" and event.delta.type == kind
    ]


def order_of(events: list[Any]) -> list[str]:
    """The types of events, deltas by their own, repetitions once."""
    kinds = [event.delta.type if event.type == "content_block_delta" else event.type for event in events]
    return [kind for index, kind in enumerate(kinds) if index == 0 or kind != kinds[index - 1]]


def final_usage(events: list[Any]) -> Any:
    return next(event.usage for event in events if event.type == "message_delta")


def stop_reason(events: list[Any]) -> str:
    reason: str = next(event.delta.stop_reason for event in events if event.type == "message_delta")
    return reason


class TestStream:
    async def test_events_come_in_the_order_of_the_api(self, claude: AsyncAnthropic) -> None:
        events = await streamed(claude)

        assert order_of(events) == [
            "message_start",
            "content_block_start",
            "text_delta",
            "content_block_stop",
            "message_delta",
            "message_stop",
        ]
        assert stop_reason(events) == "end_turn"

    async def test_thinking_comes_first_and_is_shown_when_it_is_to_be_summarized(
        self, claude: AsyncAnthropic
    ) -> None:
        events = await streamed(claude, thinking={"type": "adaptive", "display": "summarized"})

        assert order_of(events) == [
            "message_start",
            "content_block_start",
            "thinking_delta",
            "signature_delta",
            "content_block_stop",
            "content_block_start",
            "text_delta",
            "content_block_stop",
            "message_delta",
            "message_stop",
        ]

    async def test_thinking_that_is_not_shown_is_billed_all_the_same(self, claude: AsyncAnthropic) -> None:
        shown = await streamed(
            claude, "[[demo: say x]]", thinking={"type": "adaptive", "display": "summarized"}
        )
        hidden = await streamed(claude, "[[demo: say x]]", thinking={"type": "adaptive"})

        thought = "".join(deltas_of(shown, "thinking_delta", "thinking"))
        assert deltas_of(hidden, "thinking_delta", "thinking") == []
        assert deltas_of(hidden, "signature_delta", "signature")
        assert final_usage(hidden).output_tokens == tokens.count(thought) + 1
        assert final_usage(hidden).output_tokens_details.thinking_tokens == tokens.count(thought)

    async def test_a_model_that_always_thinks_is_billed_for_it_unasked(self, claude: AsyncAnthropic) -> None:
        events = await streamed(claude, model="claude-opus-5-5")

        assert final_usage(events).output_tokens_details.thinking_tokens > 0
        with pytest.raises(anthropic.BadRequestError, match="not supported"):
            await streamed(claude, model="claude-opus-5-5", thinking={"type": "disabled"})

    async def test_usage_is_what_was_sent(self, claude: AsyncAnthropic) -> None:
        events = await streamed(claude, "What is a tide?")

        assert final_usage(events).output_tokens == tokens.count(text_of(events))
        assert len(deltas_of(events, "text_delta", "text")) == final_usage(events).output_tokens
        start = events[0].message.usage
        assert start.output_tokens not in (0, final_usage(events).output_tokens)
        assert start.input_tokens == final_usage(events).input_tokens > 0

    async def test_an_answer_in_one_piece_is_the_streamed_one(self, claude: AsyncAnthropic) -> None:
        thinking = {"type": "adaptive", "display": "summarized"}
        events = await streamed(claude, "Explain double entry.", thinking=thinking)

        message = await claude.messages.create(**request("Explain double entry.", thinking=thinking))

        assert [block.type for block in message.content] == ["thinking", "text"]
        assert message.content[1].text == text_of(events)
        assert message.usage.output_tokens == final_usage(events).output_tokens
        assert message.stop_reason == "end_turn"

    @pytest.mark.parametrize("limit", [1, 7, 50, 200])
    async def test_max_tokens_is_obeyed_exactly(self, claude: AsyncAnthropic, limit: int) -> None:
        events = await streamed(
            claude, "Explain double entry.", max_tokens=limit, thinking={"type": "adaptive"}
        )

        assert final_usage(events).output_tokens == limit
        assert stop_reason(events) == "max_tokens"

    async def test_max_tokens_cuts_within_a_delta(self, claude: AsyncAnthropic) -> None:
        events = await streamed(claude, "[[demo: chunk 8]] [[demo: say one two three four]]", max_tokens=3)

        assert deltas_of(events, "text_delta", "text") == ["one two three"]

    async def test_no_tokens_at_all_only_warm_the_cache(self, claude: AsyncAnthropic) -> None:
        message = await claude.messages.create(**request(max_tokens=0))

        assert (message.content, message.stop_reason, message.usage.output_tokens) == ([], "max_tokens", 0)

    async def test_a_stop_sequence_ends_the_answer_before_it(self, claude: AsyncAnthropic) -> None:
        message = await claude.messages.create(
            **request("[[demo: say one, two, three]]", stop_sequences=["three", ", two"])
        )

        assert message.content[0].text == "one"
        assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", ", two")

    async def test_the_end_of_the_context_ends_the_answer(self, claude: AsyncAnthropic) -> None:
        events = await streamed(claude, "a " * 199_980 + "[[demo: tokens 100]]", model=OLD_MODEL)

        assert stop_reason(events) == "model_context_window_exceeded"
        used = final_usage(events)
        assert used.input_tokens + used.output_tokens == 200_000

    async def test_headers_name_the_request_and_the_limits(self, claude: AsyncAnthropic) -> None:
        async with await claude.messages.create(**request(), stream=True) as stream:
            headers = stream.response.headers

        assert headers["content-type"].startswith("text/event-stream")
        assert headers["request-id"].startswith("req_")
        assert int(headers["anthropic-ratelimit-requests-remaining"]) > 0

    async def test_pings_are_sent_and_never_shown(self, demo: DemoClaude, claude: AsyncAnthropic) -> None:
        demo.always("ping 0.01", "first 0.2", "say Hello there, how are you")
        async with (
            aiohttp.ClientSession(demo.url, headers=KEY) as http,
            http.post("/v1/messages", json=request(stream=True)) as response,
        ):
            raw = await response.text()

        assert raw.count("event: ping\n") >= 2
        assert text_of(await streamed(claude)) == "Hello there, how are you"


class TestWords:
    HOSTILE = (
        ["Family: 👩‍👩‍👧‍👦", "👩", "\u200d", "🚀"],
        ["e", "\u0301", "a\u0308o"],
        ["a\r", "\nb\r\n", "\n\n", "\n"],
        ["nul: ", "\x00", " and \x1b[31m"],
        ["\u2028", "\u2029", "\x85", "\ufeff"],
        ['"', "\\", "\\u0041", "</script>", "data: x\n\n"],
        ["\ud83d", "half of a pair"],
        ["", "one", ""],
    )

    @pytest.mark.parametrize("pieces", HOSTILE)
    async def test_scripted_deltas_arrive_byte_for_byte(
        self, demo: DemoClaude, claude: AsyncAnthropic, pieces: list[str]
    ) -> None:
        demo.script({"deltas": pieces})

        assert deltas_of(await streamed(claude), "text_delta", "text") == pieces

    @pytest.mark.parametrize("pieces", HOSTILE[:3])
    async def test_bytes_that_drip_make_the_same_text(
        self, demo: DemoClaude, claude: AsyncAnthropic, pieces: list[str]
    ) -> None:
        demo.script({"deltas": pieces, "drip": {"bytes": 5, "seconds": 0}})

        assert deltas_of(await streamed(claude), "text_delta", "text") == pieces

    async def test_a_prompt_can_say_what_is_to_be_said(self, claude: AsyncAnthropic) -> None:
        events = await streamed(claude, "Please [[demo: say  two spaces, *one* star\nand a line ]]now")

        assert text_of(events) == " two spaces, *one* star\nand a line "

    async def test_a_prompt_can_give_the_deltas(self, claude: AsyncAnthropic) -> None:
        events = await streamed(claude, '[[demo: deltas ["a]", "b"]]]')

        assert deltas_of(events, "text_delta", "text") == ["a]", "b"]

    async def test_the_longest_answer_in_few_deltas(self, claude: AsyncAnthropic) -> None:
        events = await streamed(claude, "[[demo: tokens 64000]] [[demo: chunk 1000]]", max_tokens=64_000)

        assert len(deltas_of(events, "text_delta", "text")) == 64
        assert final_usage(events).output_tokens == tokens.count(text_of(events)) == 64_000

    async def test_one_giant_delta(self, claude: AsyncAnthropic) -> None:
        events = await streamed(claude, "[[demo: tokens 5000]] [[demo: chunk 0]]", max_tokens=5_000)

        assert len(deltas_of(events, "text_delta", "text")) == 1

    async def test_an_empty_answer_has_no_content(self, claude: AsyncAnthropic) -> None:
        message = await claude.messages.create(**request("[[demo: empty]]"))

        assert (message.content, message.stop_reason) == ([], "end_turn")

    async def test_the_answer_of_the_picture(self, claude: AsyncAnthropic) -> None:
        question = "Explain double entry to a programmer, with a table and a few lines of Python."

        answer = text_of(await streamed(claude, question))

        assert answer.startswith("Every movement of value is **one transfer between two accounts**.")
        assert "| transfer | from | to | credits |" in answer
        assert "```python\ndef transfer(debit, credit, amount):" in answer

    async def test_other_answers_take_up_the_words_and_the_form_of_the_question(
        self, claude: AsyncAnthropic
    ) -> None:
        answer = text_of(await streamed(claude, "How do I keep bees in a city? Compare two ways in a table."))

        assert "keep bees in a city" in answer
        assert "|---|" in answer

    async def test_a_greeting_is_answered_shortly_and_not_always_alike(self, claude: AsyncAnthropic) -> None:
        first, second = [text_of(await streamed(claude, "Hi!")) for _ in range(2)]

        assert first != second
        assert tokens.count(first) < 25

    @pytest.mark.parametrize(
        ("asked", "title"),
        [
            (
                {
                    "system": "Write a title of at most six words for the conversation.",
                    "text": "how do tides work?",
                },
                "Tides work",
            ),
            (
                {"text": "Give this conversation a short title:\nUser: What is the best tea for a cold?"},
                "The best tea for a cold",
            ),
            ({"text": "Name this chat, title only.\n\nExplain double entry."}, "Double entry in one page"),
            (
                {"system": prompts.NAME, "text": prompts.opening("How do\ntides work?", "By the moon.")},
                "Tides work",
            ),
        ],
    )
    async def test_a_conversation_is_named(
        self, claude: AsyncAnthropic, asked: dict[str, str], title: str
    ) -> None:
        assert text_of(await streamed(claude, **asked)) == title

    async def test_help_lists_every_directive(self, claude: AsyncAnthropic) -> None:
        answer = text_of(await streamed(claude, "[[demo: help]]", max_tokens=4_000))

        assert "| `cut after=5 reset=false` |" in answer
        assert "| `status CODE" in answer


LONG = "Bread is a matter of time and patience. " * 80


class TestPromptCache:
    """Every token of a prompt is counted once: uncached, read or written."""

    @staticmethod
    async def usage(claude: AsyncAnthropic, *texts: str, **changes: Any) -> Any:
        """The input side of the usage for a conversation whose turns are `texts`."""
        messages = [
            {"role": ("user", "assistant")[index % 2], "content": text} for index, text in enumerate(texts)
        ]
        changes = {"cache_control": {"type": "ephemeral"}} | changes
        message = await claude.messages.create(**request(messages=messages, max_tokens=1, **changes))
        counted = await claude.messages.count_tokens(
            model=message.model,
            messages=messages,
            **({"system": changes["system"]} if "system" in changes else {}),
        )
        usage = message.usage
        assert usage.input_tokens + usage.cache_read_input_tokens + usage.cache_creation_input_tokens == (
            counted.input_tokens
        )
        return usage

    async def test_the_next_turn_reads_what_the_last_one_wrote(self, claude: AsyncAnthropic) -> None:
        first = await self.usage(claude, LONG)
        second = await self.usage(claude, LONG, "An answer.", "A question.")

        assert first.cache_creation.ephemeral_5m_input_tokens == first.cache_creation_input_tokens > 512
        assert first.cache_read_input_tokens == 0
        assert second.cache_read_input_tokens == first.cache_creation_input_tokens
        assert 0 < second.cache_creation_input_tokens < 30
        assert second.input_tokens < 10

    async def test_nothing_is_cached_unasked(self, claude: AsyncAnthropic) -> None:
        for _ in range(2):
            usage = await self.usage(claude, LONG, cache_control=None)

            assert usage.cache_read_input_tokens == usage.cache_creation_input_tokens == 0

    async def test_a_short_prompt_is_not_cached(self, claude: AsyncAnthropic) -> None:
        for _ in range(2):
            usage = await self.usage(claude, "Hello")

            assert usage.cache_read_input_tokens == usage.cache_creation_input_tokens == 0

    async def test_another_first_word_or_model_or_key_shares_nothing(
        self, demo: DemoClaude, claude: AsyncAnthropic
    ) -> None:
        await self.usage(claude, LONG)

        assert (await self.usage(claude, "So: " + LONG)).cache_read_input_tokens == 0
        assert (await self.usage(claude, LONG, model="claude-haiku-5-5")).cache_read_input_tokens == 0
        assert (await self.usage(claude.copy(api_key="other"), LONG)).cache_read_input_tokens == 0

    async def test_five_minutes_end_unless_the_prompt_is_read(
        self, demo: DemoClaude, claude: AsyncAnthropic
    ) -> None:
        await self.usage(claude, LONG)
        for _ in range(2):
            demo.advance_clock(299)
            assert (await self.usage(claude, LONG)).cache_read_input_tokens > 0

        demo.advance_clock(301)
        assert (await self.usage(claude, LONG)).cache_read_input_tokens == 0

    async def test_the_system_prompt_may_live_an_hour_while_messages_live_five_minutes(
        self, demo: DemoClaude, claude: AsyncAnthropic
    ) -> None:
        system = [{"type": "text", "text": LONG, "cache_control": {"type": "ephemeral", "ttl": "1h"}}]
        first = await self.usage(claude, LONG, system=system)
        demo.advance_clock(600)
        later = await self.usage(claude, LONG, system=system)

        split = first.cache_creation
        assert split.ephemeral_1h_input_tokens == tokens.count(LONG)
        assert split.ephemeral_5m_input_tokens > 512
        assert later.cache_read_input_tokens == split.ephemeral_1h_input_tokens
        assert later.cache_creation.ephemeral_5m_input_tokens == split.ephemeral_5m_input_tokens

    async def test_a_write_further_back_than_twenty_blocks_is_not_found(self, claude: AsyncAnthropic) -> None:
        await self.usage(claude, LONG)

        near = await self.usage(claude, LONG, *["More."] * 18)
        assert near.cache_read_input_tokens > 512
        far = await self.usage(claude.copy(api_key="other"), LONG)
        assert far.cache_read_input_tokens == 0
        far = await self.usage(claude.copy(api_key="other"), LONG, *["More."] * 20)
        assert far.cache_read_input_tokens == 0

    async def test_streams_tell_the_split_at_the_start_only(self, claude: AsyncAnthropic) -> None:
        events = await streamed(claude, LONG, cache_control={"type": "ephemeral", "ttl": "1h"})

        start, final = events[0].message.usage, final_usage(events)
        assert start.cache_creation.ephemeral_1h_input_tokens == start.cache_creation_input_tokens > 512
        assert final.cache_creation_input_tokens == start.cache_creation_input_tokens
        assert "cache_creation" not in final.to_dict()

    async def test_at_most_four_breakpoints_the_longest_lived_first(self, claude: AsyncAnthropic) -> None:
        def blocks(*ttls: str) -> list[dict[str, Any]]:
            return [
                {"type": "text", "text": "x", "cache_control": {"type": "ephemeral", "ttl": ttl}}
                for ttl in ttls
            ]

        with pytest.raises(anthropic.BadRequestError, match="maximum of 4 blocks"):
            await claude.messages.create(**request(system=blocks(*["5m"] * 5)))
        with pytest.raises(anthropic.BadRequestError, match="must not come after"):
            await claude.messages.create(**request(system=blocks("5m", "1h")))


class TestModels:
    async def test_the_list_has_limits_and_retirements(self, claude: AsyncAnthropic) -> None:
        models = {model.id: model async for model in claude.models.list(limit=3)}

        assert {MODEL, "claude-haiku-5-5", "claude-opus-5-5", "claude-fable-5-2"} <= models.keys()
        assert (models[MODEL].max_input_tokens, models[MODEL].max_tokens) == (1_000_000, 128_000)
        assert (models[OLD_MODEL].max_input_tokens, models[OLD_MODEL].max_tokens) == (200_000, 64_000)
        retiring = models["claude-sonnet-4-5"]
        assert retiring.lifecycle == "deprecated"
        assert retiring.retires_at is not None
        assert retiring.retires_at.date().isoformat() == "2026-11-30"

    async def test_one_model_by_alias(self, claude: AsyncAnthropic) -> None:
        model = await claude.models.retrieve("claude-haiku-4-5-20251001")

        assert model.id == OLD_MODEL
        assert model.capabilities is not None
        assert model.capabilities.image_input.supported

    async def test_an_unknown_model_is_not_found(self, claude: AsyncAnthropic) -> None:
        with pytest.raises(anthropic.NotFoundError, match="model: claude-9"):
            await claude.models.retrieve("claude-9")
        with pytest.raises(anthropic.NotFoundError, match="model: claude-9"):
            await streamed(claude, model="claude-9")


async def refused(demo: DemoClaude, body: object, **headers: str) -> tuple[int, str, str]:
    """Status, type and message of the error that a raw request gets."""
    data = io.BytesIO(body if isinstance(body, bytes) else json.dumps(body).encode())
    async with (
        aiohttp.ClientSession(demo.url) as http,
        http.post("/v1/messages", data=data, headers=KEY | headers) as response,
    ):
        error = await response.json()
        assert error["type"] == "error"
        assert error["request_id"] == response.headers["request-id"]
        return response.status, error["error"]["type"], error["error"]["message"]


class TestRefusals:
    @pytest.mark.parametrize(
        ("body", "message"),
        [
            (b"{", "not valid JSON"),
            (b"[" * 100_000, "not valid JSON"),
            ([], "must be a JSON object"),
            (request(model=None), "model: Field required"),
            (request(max_tokens=None), "max_tokens: Field required"),
            (request(max_tokens=-1), "max_tokens: must be greater"),
            (request(max_tokens="9"), "max_tokens: Input should be a valid integer"),
            (request(max_tokens=128_001), "max_tokens: 128001 > 128000"),
            (request(messages=None), "messages: Field required"),
            (request(messages=[]), "at least one message"),
            (request(messages=[{"role": "bot", "content": "x"}]), "messages.0.role"),
            (
                request(messages=[{"role": "assistant", "content": "x"}]),
                'first message must use the "user" role',
            ),
            (request(messages=[{"role": "user"}]), "messages.0.content: Field required"),
            (request(""), "must have non-empty content"),
            (request(" \n"), "non-whitespace text"),
            (request("\ud800"), "no low surrogate"),
            (request(messages=[{"role": "user", "content": []}]), "must have non-empty content"),
            (
                request(messages=[{"role": "user", "content": [{"type": "text", "text": ""}]}]),
                "must be non-empty",
            ),
            (request(messages=[{"role": "user", "content": "x"}] * 2 + [None]), "messages.2"),
            (request(system=[{"type": "text", "text": ""}]), "must be non-empty"),
            (request(temperature=1.0), "`temperature` is deprecated"),
            (request(top_p=0.9), "`top_p` is deprecated"),
            (request(top_k=5), "`top_k` is deprecated"),
            (request(color="red"), "color: Extra inputs are not permitted"),
            (request(metadata={"user_id": "ann@example.org"}), "appears to contain an email address"),
            (request(thinking={"type": "enabled", "budget_tokens": 2_000}), "not supported for this model"),
            (request(stop_sequences=[" "]), "stop_sequences"),
            (request(cache_control={"type": "eternal"}), "cache_control.type"),
            (request(output_config={"effort": "heroic"}), "output_config.effort"),
            (request("[[demo: explode]]"), "there is no directive 'explode'"),
            (request("[[demo: cut after=soon]]"), "'soon' does not fit"),
            (request("[[demo: drip bytes=-1]]"), "'-1' does not fit"),
            (request("[[demo: pace nan]]"), "'nan' does not fit"),
            (request('[[demo: deltas ["a"]]'), "deltas"),
        ],
    )
    async def test_a_wrong_request(self, demo: DemoClaude, body: object, message: str) -> None:
        status, kind, said = await refused(demo, body)

        assert (status, kind) == (400, "invalid_request_error")
        assert message in said

    async def test_an_answer_cannot_be_begun_for_a_new_model(
        self, demo: DemoClaude, claude: AsyncAnthropic
    ) -> None:
        messages = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}]

        with pytest.raises(anthropic.BadRequestError, match="does not support assistant message prefill"):
            await streamed(claude, messages=messages)
        assert text_of(await streamed(claude, model=OLD_MODEL, messages=messages))

    async def test_a_key_is_needed_and_either_header_carries_it(self, demo: DemoClaude) -> None:
        assert (await refused(demo, request(), **{"x-api-key": ""}))[:2] == (401, "authentication_error")
        bearer = {"x-api-key": "", "authorization": "Bearer key"}
        assert (await refused(demo, b"", **bearer))[0] == 400

    async def test_a_version_is_needed(self, demo: DemoClaude) -> None:
        status, _, message = await refused(demo, request(), **{"anthropic-version": ""})

        assert (status, message) == (400, "anthropic-version: header is required")

    async def test_only_the_right_key_when_there_is_one(self) -> None:
        with DemoClaude(api_key="right") as strict:
            async with AsyncAnthropic(base_url=strict.url, api_key="wrong", max_retries=0) as client:
                with pytest.raises(anthropic.AuthenticationError):
                    await streamed(client)
                assert await streamed(client.copy(api_key="right"), "[[demo: pace 0]]")

    async def test_a_request_of_more_than_32_mb_is_too_large(self, demo: DemoClaude) -> None:
        status, kind, _ = await refused(demo, b" " * (32 * 1024 * 1024 + 1))

        assert (status, kind) == (413, "request_too_large")

    async def test_a_prompt_beyond_the_context_is_too_long(self, claude: AsyncAnthropic) -> None:
        with pytest.raises(anthropic.BadRequestError) as caught:
            await streamed(claude, "a " * 200_000, model=OLD_MODEL)

        assert re.search(
            r"prompt is too long: 20\d{4} tokens > 200000 maximum", caught.value.api_message or ""
        )

    async def test_unknown_paths_and_methods(self, demo: DemoClaude) -> None:
        async with aiohttp.ClientSession(demo.url, headers=KEY) as http:
            async with http.get("/v1/nothing") as response:
                assert (response.status, (await response.json())["error"]["type"]) == (404, "not_found_error")
            async with http.get("/v1/messages") as response:
                assert (response.status, (await response.json())["type"]) == (405, "error")


class TestFaultsBeforeTheStream:
    @pytest.mark.parametrize(
        ("code", "raised", "kind"),
        [
            (400, anthropic.BadRequestError, "invalid_request_error"),
            (401, anthropic.AuthenticationError, "authentication_error"),
            (402, anthropic.PaymentRequiredError, "billing_error"),
            (403, anthropic.PermissionDeniedError, "permission_error"),
            (404, anthropic.NotFoundError, "not_found_error"),
            (409, anthropic.ConflictError, "conflict_error"),
            (413, anthropic.ContentTooLargeError, "request_too_large"),
            (429, anthropic.RateLimitError, "rate_limit_error"),
            (500, anthropic.InternalServerError, "api_error"),
            (503, anthropic.ServiceUnavailableError, "api_error"),
            (504, anthropic.GatewayTimeoutError, "timeout_error"),
            (529, anthropic.OverloadedError, "overloaded_error"),
        ],
    )
    async def test_every_status(
        self, claude: AsyncAnthropic, code: int, raised: type[anthropic.APIStatusError], kind: str
    ) -> None:
        with pytest.raises(raised) as caught:
            await streamed(claude, f"[[demo: status {code}]]")

        assert (caught.value.status_code, caught.value.type) == (code, kind)
        assert caught.value.request_id
        if code >= 500:
            assert isinstance(caught.value, anthropic.InternalServerError)

    async def test_a_rate_limit_says_when_to_come_back(self, claude: AsyncAnthropic) -> None:
        with pytest.raises(anthropic.RateLimitError) as caught:
            await streamed(claude, "[[demo: status 429 retry_after=7]]")

        assert caught.value.response.headers["retry-after"] == "7"

    async def test_the_sdk_tries_again_what_fails_once(
        self, demo: DemoClaude, claude: AsyncAnthropic
    ) -> None:
        demo.script("status 529 retry_after=0.001")

        assert text_of(await streamed(claude.with_options(max_retries=1)))
        assert [found.status for found in demo.requests()] == [529, 200]

    async def test_a_prompt_can_be_declared_too_long(self, claude: AsyncAnthropic) -> None:
        with pytest.raises(
            anthropic.BadRequestError, match=r"prompt is too long: \d+ tokens > 1000000 maximum"
        ):
            await streamed(claude, "[[demo: too_long]]")

    async def test_a_request_that_is_never_answered(self, demo: DemoClaude, claude: AsyncAnthropic) -> None:
        with pytest.raises(anthropic.APITimeoutError):
            await streamed(claude.with_options(timeout=0.3), "[[demo: hang]]")

        assert (await demo.until("client_closed"))[0].status is None

    async def test_a_connection_that_is_reset(self, demo: DemoClaude, claude: AsyncAnthropic) -> None:
        with pytest.raises(anthropic.APIConnectionError):
            await streamed(claude, "[[demo: drop]]")

        assert demo.requests()[0].state == "faulted"

    async def test_counting_tokens_can_fail_too(self, claude: AsyncAnthropic) -> None:
        with pytest.raises(anthropic.OverloadedError):
            await claude.messages.count_tokens(
                model=MODEL, messages=[{"role": "user", "content": "[[demo: status 529]]"}]
            )


class TestFaultsInTheMiddle:
    """What the SDK makes of each is what an application has to survive."""

    @staticmethod
    async def broken(claude: AsyncAnthropic, text: str, **changes: Any) -> tuple[str, BaseException | None]:
        """The text that arrived, and what the SDK raised after it."""
        arrived = ""
        try:
            async with await claude.messages.create(**request(text, **changes), stream=True) as stream:
                async for event in stream:
                    if event.type == "content_block_delta" and event.delta.type == "text_delta":
                        arrived += event.delta.text
        except (anthropic.APIError, httpx2.HTTPError, ValueError) as error:
            return arrived, error
        return arrived, None

    @pytest.mark.parametrize("how", ["cut after=3", "cut after=3 reset=true"])
    async def test_a_cut_connection(self, demo: DemoClaude, claude: AsyncAnthropic, how: str) -> None:
        _, error = await self.broken(claude, f"[[demo: say one two three four]] [[demo: {how}]]")

        assert isinstance(error, httpx2.ReadError | httpx2.RemoteProtocolError)
        entry = demo.requests()[0]
        assert (entry.state, entry.tokens_sent, entry.text_sent) == ("faulted", 3, "one two three")

    async def test_what_was_sent_before_an_orderly_cut_arrives(self, claude: AsyncAnthropic) -> None:
        arrived, _ = await self.broken(claude, "[[demo: say one two three four]] [[demo: cut after=3]]")

        assert arrived == "one two three"

    async def test_a_cut_over_the_default_transport(self, demo: DemoClaude) -> None:
        async with AsyncAnthropic(base_url=demo.url, api_key="any", max_retries=0) as client:
            _, error = await self.broken(client, "[[demo: cut after=3]]")

        assert isinstance(error, httpx2.RemoteProtocolError)

    @pytest.mark.parametrize("kind", ["overloaded_error", "api_error"])
    async def test_an_error_event(self, claude: AsyncAnthropic, kind: str) -> None:
        arrived, error = await self.broken(
            claude, f"[[demo: say one two three]] [[demo: error type={kind} after=2]]"
        )

        assert arrived == "one two"
        assert type(error) is anthropic.APIStatusError
        assert (error.status_code, error.type) == (200, kind)

    async def test_silence(self, demo: DemoClaude, claude: AsyncAnthropic) -> None:
        impatient = claude.with_options(timeout=httpx2.Timeout(5, read=0.5))
        demo.always("ping 0.01")

        arrived, error = await self.broken(impatient, "[[demo: say one two three]] [[demo: stall after=2]]")

        assert arrived == "one two"
        assert isinstance(error, httpx2.ReadTimeout)
        assert await demo.until("client_closed")

    async def test_silence_that_ends(self, claude: AsyncAnthropic) -> None:
        text = "[[demo: say one two three]] [[demo: stall after=2 seconds=0.01]]"

        assert await self.broken(claude, text) == ("one two three", None)

    async def test_a_clean_end_without_the_last_events_raises_nothing(self, claude: AsyncAnthropic) -> None:
        events = await streamed(claude, "[[demo: say one two three]] [[demo: end after=2]]")
        assert order_of(events)[-1] == "text_delta"

        async with claude.messages.stream(**request("[[demo: end]]")) as stream:
            assert (await stream.get_final_message()).stop_reason is None

    async def test_a_clean_end_just_before_the_very_last_event(self, claude: AsyncAnthropic) -> None:
        events = await streamed(claude, "[[demo: end before=message_stop]]")

        assert order_of(events)[-1] == "message_delta"

    async def test_garbage(self, claude: AsyncAnthropic) -> None:
        arrived, error = await self.broken(claude, "[[demo: say one two three]] [[demo: garbage after=2]]")

        assert arrived == "one two"
        assert isinstance(error, json.JSONDecodeError)

    async def test_what_does_not_exist_yet_disturbs_nobody(self, claude: AsyncAnthropic) -> None:
        events = await streamed(claude, "[[demo: say one two three]] [[demo: unknown after=1]]")

        assert text_of(events) == "one two three"
        assert {"weather_report", "aroma_delta"} <= set(order_of(events))

    async def test_faults_happen_one_after_the_other(self, claude: AsyncAnthropic) -> None:
        text = "[[demo: say one two three]] [[demo: error after=2]] [[demo: unknown after=1]]"

        arrived, error = await self.broken(claude, text)

        assert arrived == "one two"
        assert isinstance(error, anthropic.APIStatusError)

    async def test_a_fault_strikes_within_a_delta(self, claude: AsyncAnthropic) -> None:
        text = "[[demo: chunk 0]] [[demo: say one two three]] [[demo: error after=2]]"

        assert (await self.broken(claude, text))[0] == "one two"

    async def test_a_refusal_after_some_text(self, claude: AsyncAnthropic) -> None:
        async with claude.messages.stream(**request("[[demo: refusal after=4]]")) as stream:
            message = await stream.get_final_message()

        assert (message.stop_reason, message.usage.output_tokens) == ("refusal", 4)
        assert message.stop_details is not None
        assert message.stop_details.category == "general_harms"

    @pytest.mark.parametrize(
        ("directive", "reason"),
        [("window", "model_context_window_exceeded"), ("stop pause_turn", "pause_turn")],
    )
    async def test_other_reasons_to_stop(self, claude: AsyncAnthropic, directive: str, reason: str) -> None:
        assert stop_reason(await streamed(claude, f"[[demo: {directive}]]")) == reason

    async def test_any_usage_can_be_reported(self, demo: DemoClaude, claude: AsyncAnthropic) -> None:
        demo.always(
            {
                "usage": {
                    "input_tokens": 11,
                    "output_tokens": 22,
                    "cache_read_input_tokens": 33,
                    "ephemeral_5m_input_tokens": 44,
                    "ephemeral_1h_input_tokens": 55,
                }
            }
        )

        events = await streamed(claude)

        assert events[0].message.usage.cache_creation.ephemeral_1h_input_tokens == 55
        final = final_usage(events)
        assert (final.input_tokens, final.output_tokens) == (11, 22)
        assert (final.cache_read_input_tokens, final.cache_creation_input_tokens) == (33, 99)

    async def test_even_absurd_usage_can_be_reported(self, claude: AsyncAnthropic) -> None:
        assert final_usage(await streamed(claude, "[[demo: usage output_tokens=-5]]")).output_tokens == -5

    async def test_usage_in_one_event_only(self, claude: AsyncAnthropic) -> None:
        at_the_start = await streamed(claude, "[[demo: usage only=start]]")
        at_the_end = await streamed(claude, "[[demo: usage only=delta]]")

        assert at_the_start[0].message.usage.input_tokens > 0
        assert final_usage(at_the_start) is None
        assert at_the_end[0].message.usage.input_tokens == 0
        assert final_usage(at_the_end).input_tokens > 0

    async def test_faults_of_an_answer_in_one_piece(self, demo: DemoClaude, claude: AsyncAnthropic) -> None:
        with pytest.raises(anthropic.APIConnectionError):
            await claude.messages.create(**request("[[demo: cut]]"))
        with pytest.raises(anthropic.OverloadedError):
            await claude.messages.create(**request("[[demo: error]]"))
        with pytest.raises(anthropic.APITimeoutError):
            await claude.with_options(timeout=0.1).messages.create(**request("[[demo: stall]]"))


class TestDirection:
    async def test_a_cue_is_taken_by_the_next_messages_only(
        self, demo: DemoClaude, claude: AsyncAnthropic
    ) -> None:
        demo.script("say cue", times=2)

        assert [text_of(await streamed(claude)) == "cue" for _ in range(3)] == [True, True, False]

    async def test_a_cue_can_be_meant_for_one_prompt(self, demo: DemoClaude, claude: AsyncAnthropic) -> None:
        demo.script("say for bees", match="bees")

        assert text_of(await streamed(claude, "About birds?")) != "for bees"
        assert text_of(await streamed(claude, "About bees?")) == "for bees"

    async def test_the_prompt_weighs_more_than_the_cue_and_the_cue_more_than_always(
        self, demo: DemoClaude, claude: AsyncAnthropic
    ) -> None:
        demo.always("say always")
        demo.script("say cue", times=2)

        assert text_of(await streamed(claude, "[[demo: say prompt]]")) == "prompt"
        assert text_of(await streamed(claude)) == "cue"
        assert text_of(await streamed(claude)) == "always"
        demo.reset()
        assert text_of(await streamed(claude)) != "always"

    async def test_only_the_last_user_message_directs(self, claude: AsyncAnthropic) -> None:
        messages = [
            {"role": "user", "content": "[[demo: status 500]]"},
            {"role": "assistant", "content": "[[demo: status 500]]"},
            {"role": "user", "content": "Hello"},
        ]

        assert text_of(await streamed(claude, messages=messages))

    async def test_naming_a_conversation_takes_no_cue_and_follows_no_quoted_directive(
        self, demo: DemoClaude, claude: AsyncAnthropic
    ) -> None:
        demo.script("say cue")
        quoting = "Give this conversation a title:\nUser: [[demo: status 500]] What is a tide?"

        assert text_of(await streamed(claude, quoting)) == "A tide"
        assert text_of(await streamed(claude)) == "cue"
        demo.script("status 529", match="a title")
        with pytest.raises(anthropic.OverloadedError):
            await streamed(claude, quoting)

    async def test_a_wrong_script_is_refused_at_once(self, demo: DemoClaude) -> None:
        with pytest.raises(ValueError, match="there is no directive 'cutt'"):
            demo.script("cutt after=3")
        with pytest.raises(ValueError, match="does not fit"):
            demo.script({"deltas": [1, 2]})


class TestJournal:
    async def test_it_tells_what_was_asked_and_what_was_sent(
        self, demo: DemoClaude, claude: AsyncAnthropic
    ) -> None:
        await streamed(claude, "[[demo: say one two]]", metadata={"user_id": "u-1"})

        (entry,) = demo.requests()
        assert (entry.state, entry.status, entry.model) == ("completed", 200, MODEL)
        assert entry.body is not None
        assert entry.body["metadata"] == {"user_id": "u-1"}
        assert entry.headers["authorization"] == "Bearer any"
        assert entry.headers["anthropic-version"] == "2026-10-21"
        assert (entry.tokens_sent, entry.text_sent) == (2, "one two")
        assert entry.ended_at is not None
        assert entry.ended_at >= entry.started_at

    async def test_a_stream_that_is_left_is_seen_to_be_closed(
        self, demo: DemoClaude, claude: AsyncAnthropic
    ) -> None:
        async with await claude.messages.create(
            **request("[[demo: say one two three]] [[demo: stall after=2]]"), stream=True
        ) as stream:
            async for event in stream:
                if event.type == "content_block_delta" and event.delta.type == "text_delta":
                    break
            assert demo.requests()[0].state == "streaming"

        (entry,) = await demo.until("client_closed")
        assert (entry.tokens_sent, entry.text_sent) == (2, "one two")

    async def test_a_cancelled_task_is_seen_to_close(self, demo: DemoClaude, claude: AsyncAnthropic) -> None:
        task = asyncio.create_task(streamed(claude, "[[demo: stall after=2]]"))
        await demo.until("streaming")

        task.cancel()

        assert await demo.until("client_closed")
        with pytest.raises(asyncio.CancelledError):
            await task

    async def test_a_reader_that_stops_reading_holds_up_nobody_but_itself(
        self, demo: DemoClaude, claude: AsyncAnthropic
    ) -> None:
        body = json.dumps(request("[[demo: tokens 64000]]", max_tokens=64_000, stream=True)).encode()
        with socket.socket() as stuck:
            stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            connect(stuck, demo)
            stuck.sendall(raw_request(body))
            await demo.until("streaming")
            assert text_of(await streamed(claude))

        (entry,) = await demo.until("client_closed")
        assert entry.tokens_sent < 64_000

    async def test_many_streams_at_once(self, demo: DemoClaude, claude: AsyncAnthropic) -> None:
        demo.always("pace 500")

        texts = await asyncio.gather(*(streamed(claude, f"[[demo: say {n} of many]]") for n in range(100)))

        assert [text_of(events) for events in texts] == [f"{n} of many" for n in range(100)]
        assert len(demo.requests(state="completed")) == 100


def connect(client: socket.socket, demo: DemoClaude) -> None:
    host, port = demo.url.removeprefix("http://").split(":")
    client.settimeout(10)
    client.connect((host, int(port)))


def raw_request(body: bytes, version: str = "1.1") -> bytes:
    headers = "".join(f"{name}: {value}\r\n" for name, value in KEY.items())
    head = f"POST /v1/messages HTTP/{version}\r\nHost: demo\r\n{headers}Content-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


class TestOddClients:
    def exchange(self, demo: DemoClaude, data: bytes) -> bytes:
        """Everything the demo sends back until it, or the end of our sending, ends the connection."""
        with socket.socket() as client:
            connect(client, demo)
            client.sendall(data)
            received = b""
            while chunk := client.recv(65_536):
                received += chunk
            return received

    def test_http_1_0_gets_its_events_unchunked(self, demo: DemoClaude) -> None:
        body = json.dumps(request("[[demo: say one]]", stream=True)).encode()

        answer = self.exchange(demo, raw_request(body, version="1.0"))

        assert b"chunked" not in answer
        assert answer.endswith(b'event: message_stop\ndata: {"type":"message_stop"}\n\n')

    def test_nonsense_is_answered_with_400(self, demo: DemoClaude) -> None:
        assert b" 400 " in self.exchange(demo, b"\x16\x03\x01 not http\r\n\r\n").splitlines()[0]

    @pytest.mark.parametrize(
        "header",
        ["Content-Encoding: gzip", "Transfer-Encoding: chunked", "Content-Length: many", "X: " + "x" * 9_000],
    )
    def test_a_body_that_is_not_what_it_says(
        self, demo: DemoClaude, caplog: pytest.LogCaptureFixture, header: str
    ) -> None:
        head = raw_request(b"").replace(b"Content-Length: 0", header.encode() + b"\r\nConnection: close")
        if "gzip" in header:
            head = head.replace(b"Host: demo", b"Host: demo\r\nContent-Length: 8")

        assert b" 400 " in self.exchange(demo, head + b"{nothing").splitlines()[0]
        assert caplog.records == []

    def test_half_a_request_is_noted_and_forgotten(self, demo: DemoClaude) -> None:
        with socket.socket() as client:
            connect(client, demo)
            client.sendall(raw_request(b'{"model":')[:-4])
            demo.wait_for("waiting")

        assert demo.wait_for("client_closed")

    def test_a_key_that_is_not_text(self, demo: DemoClaude) -> None:
        data = raw_request(b"{}").replace(b"x-api-key: any", b"x-api-key: \xff\xfe")

        answer = self.exchange(demo, data.replace(b"Host: demo", b"Host: demo\r\nConnection: close"))

        assert b" 401 " in answer.splitlines()[0]


class TestProcess:
    """`python -m chatapp.local.demo_claude`."""

    @staticmethod
    def start(*arguments: str, directives: str = "") -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-m", "chatapp.local.demo_claude", *arguments],
            env=os.environ | {"DEMO_CLAUDE_DIRECTIVES": directives},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    async def test_it_logs_a_line_per_request_without_the_prompt_and_ends_at_once(self) -> None:
        process = self.start("--directive", "pace 0", directives="thinking off\nsay from the environment")
        assert process.stdout is not None
        url = process.stdout.readline().split()[-1]
        async with AsyncAnthropic(base_url=url, api_key="secret-key", max_retries=0) as client:
            events = await streamed(client, "My most private question")
            async with await client.messages.create(**request("[[demo: stall]]"), stream=True):
                process.send_signal(signal.SIGTERM)
                output, errors = process.communicate(timeout=60)

        assert text_of(events) == "from the environment"
        assert process.returncode == 0
        assert errors == ""
        answered, interrupted = output.splitlines()
        assert re.search(r"status=200 state=completed model=claude-sonnet-5-5 stream=true .*req_", answered)
        assert "status=200 state=client_closed" in interrupted
        assert "private" not in output
        assert "secret" not in output

    def test_it_ends_with_the_process_that_started_it(self) -> None:
        demo = DemoClaude("pace 0").start_process()
        try:
            assert demo.requests("") == []
        finally:
            demo.stop()
        with pytest.raises(ConnectionRefusedError):
            demo.requests("")

        orphan = self.start("--until-stdin-closes")
        output, errors = orphan.communicate(timeout=60)  # closes its standard input
        assert (orphan.returncode, errors) == (0, "")
        assert output.startswith("demo claude on http://127.0.0.1:")

    def test_a_port_in_use_and_a_wrong_directive_are_one_clear_line(self, demo: DemoClaude) -> None:
        port = demo.url.rpartition(":")[2]
        in_use, wrong = self.start("--port", port), self.start("--directive", "cutt")

        assert in_use.communicate(timeout=60)[1] == (
            f"demo claude: cannot listen on 127.0.0.1:{port}: Address already in use\n"
        )
        assert in_use.returncode == 1
        (line,) = wrong.communicate(timeout=60)[1].splitlines()
        assert line.startswith("demo claude: there is no directive 'cutt'")
        assert wrong.returncode == 2
