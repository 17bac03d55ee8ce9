"""Another provider answers when the first cannot begin; what served the answer is recorded, and priced as such."""

from collections.abc import Iterator
from decimal import Decimal

import pytest

from accounts.models import User
from billing import ledger, pricing
from billing.credits import to_microcredits
from billing.pricing import Usage
from chatapp import failures
from chatapp.conversations.models import Turn
from chatapp.streaming.models import UsageRecord
from chatapp.streaming.providers.base import (
    Accepted,
    Asked,
    Delta,
    Fallback,
    Finished,
    Hear,
    Prompt,
    ProviderError,
    Said,
)
from chatapp.streaming.providers.breaker import FAILURES, LONGEST_REST_SECONDS, REST_SECONDS, Breaker
from chatapp.streaming.providers.failover import Failover
from tests.conftest import SignIn
from tests.stack import Stack, Web
from tests.streaming.openai_server import DemoOpenAI, Reply
from tests.streaming.reading import TURNS, ask, refusal, text_of

PROMPT = Prompt(
    "claude-sonnet-5-5",
    "Be brief.",
    (("user", "hello"),),
    4096,
    False,
    "someone",
    fallback=Fallback("gpt-5.4", "openai"),
)


class Scripted:
    """A provider that says what it is told to, and counts how often it was asked."""

    def __init__(self, name: str, *script: Delta | ProviderError) -> None:
        self.name = name
        self.script = script
        self.asked: list[Prompt] = []

    async def stream(self, prompt: Prompt, hear: Hear) -> None:
        self.asked.append(prompt)
        for step in self.script:
            if isinstance(step, ProviderError):
                raise step
            hear(step)


GOOD = (Accepted(Usage(input_tokens=3), "r"), Said("hi"), Finished("end_turn", Usage(output_tokens=1)))


async def told(failover: Failover, prompt: Prompt = PROMPT) -> list[Delta]:
    heard: list[Delta] = []
    await failover.stream(prompt, heard.append)
    return heard


@pytest.mark.parametrize("code", ["rate_limited", "overloaded", "provider_unavailable"])
async def test_the_fallback_answers_when_the_first_cannot_begin(code: str) -> None:
    first, second = Scripted("anthropic", ProviderError(code)), Scripted("openai", *GOOD)
    deltas = await told(Failover({"anthropic": first, "openai": second}))
    assert deltas == [Asked("claude-sonnet-5-5", "anthropic"), Asked("gpt-5.4", "openai"), *GOOD]
    assert (second.asked[0].model, second.asked[0].messages) == ("gpt-5.4", PROMPT.messages)


async def test_also_when_it_was_accepted_but_nothing_was_said() -> None:
    first = Scripted("anthropic", GOOD[0], ProviderError("overloaded"))
    assert Said("hi") in await told(Failover({"anthropic": first, "openai": Scripted("openai", *GOOD)}))


async def test_never_once_something_was_said() -> None:
    first = Scripted("anthropic", *GOOD[:2], ProviderError("overloaded"))
    second = Scripted("openai", *GOOD)
    with pytest.raises(ProviderError, match="overloaded"):
        await told(Failover({"anthropic": first, "openai": second}))
    assert second.asked == []


@pytest.mark.parametrize("code", ["provider_rejected", "context_too_long", "refused"])
async def test_never_when_the_request_was_at_fault(code: str) -> None:
    second = Scripted("openai", *GOOD)
    with pytest.raises(ProviderError, match=code):
        await told(Failover({"anthropic": Scripted("anthropic", ProviderError(code)), "openai": second}))
    assert second.asked == []


async def test_when_nobody_can_the_chosen_one_is_told_of() -> None:
    first = Scripted("anthropic", ProviderError("rate_limited", retry_after=7))
    second = Scripted("openai", ProviderError("provider_unavailable"))
    with pytest.raises(ProviderError) as caught:
        await told(Failover({"anthropic": first, "openai": second}))
    assert (caught.value.code, caught.value.retry_after) == ("rate_limited", 7)


def test_a_failure_is_told_in_words_that_are_true_of_whoever_was_asked() -> None:
    assert [code for code, failure in failures.FAILURES.items() if "Claude" in failure.message] == []


async def test_who_keeps_failing_is_left_alone_and_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = Scripted("anthropic", ProviderError("overloaded")), Scripted("openai", *GOOD)
    failover = Failover({"anthropic": first, "openai": second})
    clock = [0.0]
    failover._breakers["anthropic"] = Breaker(lambda: clock[0])
    for _ in range(FAILURES + 5):
        await told(failover)
    assert len(first.asked) == FAILURES
    clock[0] += REST_SECONDS
    first.script = GOOD
    assert (await told(failover))[0] == Asked("claude-sonnet-5-5", "anthropic")
    assert (await told(failover))[0] == Asked("claude-sonnet-5-5", "anthropic")


async def test_who_breaks_off_before_a_word_is_left_alone_in_the_end() -> None:
    first, second = Scripted("anthropic", GOOD[0], ProviderError("provider_cut")), Scripted("openai", *GOOD)
    failover = Failover({"anthropic": first, "openai": second})
    for _ in range(FAILURES):
        with pytest.raises(ProviderError, match="provider_cut"):
            await told(failover)
    assert second.asked == []
    assert (await told(failover))[0] == Asked("gpt-5.4", "openai")


async def test_who_refuses_a_request_for_what_it_says_is_there_again() -> None:
    first, second = Scripted("anthropic", ProviderError("overloaded")), Scripted("openai", *GOOD)
    failover = Failover({"anthropic": first, "openai": second})
    clock = [0.0]
    failover._breakers["anthropic"] = Breaker(lambda: clock[0])
    for _ in range(FAILURES):
        await told(failover)
    clock[0] += REST_SECONDS
    first.script = (ProviderError("provider_rejected"),)
    with pytest.raises(ProviderError, match="provider_rejected"):
        await told(failover)
    first.script = GOOD
    assert (await told(failover))[0] == Asked("claude-sonnet-5-5", "anthropic")


async def test_without_a_fallback_nobody_is_left_alone() -> None:
    first = Scripted("anthropic", ProviderError("overloaded"))
    failover = Failover({"anthropic": first})
    for _ in range(FAILURES + 2):
        with pytest.raises(ProviderError):
            await told(failover)
    assert len(first.asked) == FAILURES + 2


def test_after_its_rest_one_tries_and_the_others_wait() -> None:
    clock = [0.0]
    breaker = Breaker(lambda: clock[0])
    for _ in range(FAILURES):
        breaker.failed()
    assert not breaker.lets_through()
    clock[0] += REST_SECONDS
    assert [breaker.lets_through(), breaker.lets_through()] == [True, False]
    breaker.failed()
    assert not breaker.lets_through()
    clock[0] += REST_SECONDS
    assert breaker.lets_through()
    breaker.succeeded()
    assert [breaker.lets_through(), breaker.lets_through()] == [True, True]


@pytest.mark.parametrize(
    ("asked", "left_alone"),
    [(LONGEST_REST_SECONDS - 1, LONGEST_REST_SECONDS - 1), (86_400, LONGEST_REST_SECONDS)],
)
def test_a_provider_that_says_how_long_is_left_alone_so_long_within_reason(
    asked: float, left_alone: float
) -> None:
    clock = [0.0]
    breaker = Breaker(lambda: clock[0])
    for _ in range(FAILURES):
        breaker.failed(retry_after=asked)
    clock[0] += left_alone - 0.1
    assert not breaker.lets_through()
    clock[0] += 0.1
    assert breaker.lets_through()


# --- The whole way ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def _openai() -> Iterator[DemoOpenAI]:
    with DemoOpenAI() as running:
        yield running


@pytest.fixture(scope="module")
def _web(_running_stack: Stack, _openai: DemoOpenAI) -> Iterator[Web]:
    env = {"OPENAI_API_KEY": "sk-openai", "OPENAI_BASE_URL": _openai.url}
    with _running_stack.lasting_web(env) as web:
        yield web


@pytest.fixture
def openai(_openai: DemoOpenAI) -> DemoOpenAI:
    """It has been asked nothing yet, and answers as usual."""
    _openai.reply = Reply()
    _openai.asked.clear()
    return _openai


@pytest.fixture
def web(stack: Stack, _web: Web, openai: DemoOpenAI) -> Web:
    return _web


def test_an_answer_of_the_fallback_is_recorded_and_priced_as_its(
    stack: Stack, web: Web, openai: DemoOpenAI, alice: User, sign_in: SignIn
) -> None:
    client = sign_in(alice, url=web.url)
    before = ledger.wallet_of(alice).balance
    events = ask(client, "[[demo: status 529]] hello")
    done = events[-1]
    assert (done["type"], done["status"], text_of(events)) == ("done", "completed", "Hello")
    assert (events[0]["model"], done["served_by"]) == ("claude-sonnet-5-5", "gpt-5.4")
    turn = Turn.objects.select_related("price", "fallback_price").get(pk=events[0]["turn"])
    assert (turn.model_id, turn.served_by_id, turn.provider) == ("claude-sonnet-5-5", "gpt-5.4", "openai")
    assert turn.fallback_price is not None
    assert turn.fallback_price.model_id == "gpt-5.4"
    usage = Usage(input_tokens=36, cache_read_tokens=64, output_tokens=7)
    assert turn.charged == pricing.charge(usage, turn.fallback_price)
    assert to_microcredits(Decimal(done["charged"])) == turn.charged
    wallet = ledger.wallet_of(alice)
    assert (wallet.balance, wallet.held) == (before - turn.charged, 0)
    told = client.get(f"{TURNS}/{turn.pk}").json()
    assert (told["model"], told["served_by"], told["served_by_name"]) == (
        *("claude-sonnet-5-5", "gpt-5.4"),
        "GPT-5.4",
    )
    stack.wait_until(lambda: UsageRecord.objects.filter(turn=turn).exists(), "usage is recorded")
    assert UsageRecord.objects.get(turn=turn).model_id == "gpt-5.4"


def test_both_are_held_for(web: Web, alice: User, sign_in: SignIn) -> None:
    events = ask(sign_in(alice, url=web.url), "hello")
    turn = Turn.objects.select_related("price", "fallback_price").get(pk=events[0]["turn"])
    assert turn.fallback_price is not None
    worst = max(
        pricing.worst_case(prompt_tokens=0, max_tokens=turn.max_tokens, price=price)
        for price in (turn.price, turn.fallback_price)
    )
    assert turn.held >= worst
    assert (turn.served_by_id, turn.provider) == ("claude-sonnet-5-5", "anthropic")
    assert turn.charged == pricing.charge(turn.usage, turn.price)


def test_a_failure_in_mid_answer_stays_one(
    web: Web, openai: DemoOpenAI, alice: User, sign_in: SignIn
) -> None:
    events = ask(sign_in(alice, url=web.url), "[[demo: error overloaded_error after=3]] hello")
    assert (events[-1]["type"], events[-1]["code"]) == ("error", "overloaded")
    assert openai.asked == []


def test_when_both_fail_nothing_is_charged(
    web: Web, openai: DemoOpenAI, alice: User, sign_in: SignIn
) -> None:
    openai.reply = Reply(status=500, error={"message": "m"})
    events = ask(sign_in(alice, url=web.url), "[[demo: status 429 retry_after=7]] hello")
    ending = events[-1]
    assert (ending["code"], ending["retry_after"], ending["charged"]) == ("rate_limited", 7, "0.000000")
    assert len(openai.asked) == 1


def test_without_its_key_openai_is_neither_asked_nor_on_offer(
    stack: Stack, alice: User, sign_in: SignIn
) -> None:
    client = sign_in(alice)
    assert ask(client, "[[demo: status 529]] hello")[-1]["code"] == "overloaded"
    assert refusal(client, text="hello", model="gpt-5.4")[0] == 400
