"""OpenAI through the real SDK over HTTP: what arrives, what it counts, and what each fault is called."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any

import pytest

from billing.pricing import Usage
from chatapp.streaming.providers import openai as module
from chatapp.streaming.providers.base import Accepted, Delta, Finished, Prompt, ProviderError, Said
from chatapp.streaming.providers.openai import OpenAI
from tests.streaming.openai_server import DemoOpenAI, Reply

PROMPT = Prompt("gpt-5.4", "Be brief.", (("user", "hello"),), 4096, False, "someone", provider="openai")


@pytest.fixture
def demo() -> Iterator[DemoOpenAI]:
    with DemoOpenAI() as running:
        yield running


@pytest.fixture
async def openai(demo: DemoOpenAI, settings: Any) -> AsyncIterator[OpenAI]:
    settings.OPENAI_API_KEY = "sk-openai"
    settings.OPENAI_BASE_URL = demo.url
    settings.TURN_CONNECT_SECONDS = 2
    settings.TURN_STALL_SECONDS = 2
    provider = OpenAI()
    yield provider
    await provider.aclose()


async def answer(openai: OpenAI) -> list[Delta]:
    heard: list[Delta] = []
    await openai.stream(PROMPT, heard.append)
    return heard


async def test_an_answer_is_accepted_said_and_counted(demo: DemoOpenAI, openai: OpenAI) -> None:
    first, *said, last = await answer(openai)
    assert isinstance(first, Accepted)
    assert first.request_id == "req_openai"
    assert said == [Said("Hel"), Said("lo")]
    assert last == Finished("end_turn", Usage(input_tokens=36, cache_read_tokens=64, output_tokens=7), True)


async def test_it_is_asked_in_its_own_words(demo: DemoOpenAI, openai: OpenAI) -> None:
    await answer(openai)
    [asked] = demo.asked
    assert asked["key"] == "Bearer sk-openai"
    assert (asked["model"], asked["max_completion_tokens"], asked["stream"]) == ("gpt-5.4", 4096, True)
    assert asked["stream_options"] == {"include_usage": True}
    assert asked["messages"] == [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": "hello"},
    ]
    assert "someone" not in str(asked)


@pytest.mark.parametrize(
    ("finish_reason", "stop_reason"),
    [("length", "max_tokens"), ("content_filter", "refusal"), ("something new", "something new")],
)
async def test_how_it_ended_is_told_in_the_words_of_clients(
    demo: DemoOpenAI, openai: OpenAI, finish_reason: str, stop_reason: str
) -> None:
    demo.reply = Reply(finish_reason=finish_reason)
    last = (await answer(openai))[-1]
    assert isinstance(last, Finished)
    assert last.stop_reason == stop_reason


async def test_what_it_does_not_count_is_not_called_counted(demo: DemoOpenAI, openai: OpenAI) -> None:
    demo.reply = Reply(usage=None)
    last = (await answer(openai))[-1]
    assert isinstance(last, Finished)
    assert not last.counted
    assert last.usage.input_tokens > 0


@pytest.mark.parametrize("counted", [True, False])
@pytest.mark.parametrize("then", ["a cut", "nothing"])
async def test_once_it_has_ended_an_answer_is_complete_whatever_comes_then(
    demo: DemoOpenAI, openai: OpenAI, then: Any, counted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not counted:
        monkeypatch.setattr(module, "LATE_COUNT_SECONDS", 0.05)
    demo.reply = replace(Reply(then=then), **({} if counted else {"usage": None}))
    last = (await answer(openai))[-1]
    assert isinstance(last, Finished)
    assert (last.stop_reason, last.counted) == ("end_turn", counted)


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (Reply(status=429, error={"code": "rate_limit_exceeded", "message": "m"}), "rate_limited"),
        (Reply(status=429, error={"code": "insufficient_quota", "message": "m"}), "provider_rejected"),
        (Reply(status=500, error={"message": "m"}), "provider_unavailable"),
        (Reply(status=503, error={"message": "m"}), "provider_unavailable"),
        (Reply(status=401, error={"message": "m"}), "provider_rejected"),
        (Reply(status=400, error={"code": "context_length_exceeded", "message": "m"}), "context_too_long"),
        (Reply(status=400, error={"message": "m"}), "provider_rejected"),
        (Reply(finish_reason=None, usage=None), "provider_cut"),
        (Reply(cut=True), "provider_cut"),
        (Reply(garbage=True), "provider_cut"),
        (Reply(error={"code": "server_error", "message": "m"}), "provider_unavailable"),
        (Reply(error={"code": "rate_limit_exceeded", "message": "m"}), "rate_limited"),
    ],
)
async def test_each_fault_has_its_code(demo: DemoOpenAI, openai: OpenAI, reply: Reply, code: str) -> None:
    demo.reply = reply
    with pytest.raises(ProviderError) as caught:
        await answer(openai)
    assert caught.value.code == code


async def test_a_server_that_is_not_there(demo: DemoOpenAI, openai: OpenAI, settings: Any) -> None:
    settings.OPENAI_BASE_URL = "http://127.0.0.1:9/v1"
    nowhere = OpenAI()
    with pytest.raises(ProviderError) as caught:
        await answer(nowhere)
    await nowhere.aclose()
    assert caught.value.code == "provider_unavailable"


async def test_counts_that_cannot_be_are_malformed(demo: DemoOpenAI, openai: OpenAI) -> None:
    demo.reply = replace(demo.reply, usage={"prompt_tokens": -1, "completion_tokens": 1, "total_tokens": 0})
    with pytest.raises(ProviderError) as caught:
        await answer(openai)
    assert caught.value.code == "provider_cut"
