"""What the page says a message can cost at most is never less than what the server then holds, nor much more."""

import json
import subprocess
import uuid
from decimal import Decimal
from typing import Any

import pytest
from django.db.models.functions import Now
from django.test import override_settings
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accounts.models import User
from billing import pricing
from billing.api import _price_out, models_offered
from billing.models import LanguageModel, Price
from chatapp.conversations.api import MessagePage, messages_page
from chatapp.conversations.models import Message, Turn
from chatapp.local.process import CLONE
from chatapp.streaming import turns
from chatapp.streaming.turns import Ask
from tests.billing.answering import price_of
from tests.billing.books import CREDIT, give

WORST_CASES = """
import { worstCase } from "#lib/estimate.js";
const cases = JSON.parse(process.argv[1]);
console.log(JSON.stringify(cases.map(([model, prompt, answer]) => String(worstCase(model, prompt, answer)))));
"""
HINT = """
import { promptBound, worstCase } from "#lib/estimate.js";
const { model, messages, text } = JSON.parse(process.argv[1]);
console.log(String(worstCase(model, promptBound(messages, true, text))));
"""


def in_page(script: str, given: Any) -> Any:
    """What the page's own modules make of `given`."""
    command = [CLONE / ".venv/bin/node", "--input-type=module", "-e", script, json.dumps(given, default=str)]
    told = subprocess.run(command, cwd=CLONE, capture_output=True, text=True, check=True)
    return json.loads(told.stdout)


def out(price: Price) -> dict[str, Any]:
    return {
        name: value if isinstance(value, str | None) else value.dict()
        for name, value in _price_out(price).items()
    }


def usd(least: str = "0", most: str = "1000") -> st.SearchStrategy[Decimal]:
    return st.decimals(Decimal(least), Decimal(most), places=6)


KINDS = ("input", "output", "cache_write_5m", "cache_write_1h", "cache_read")
PRICES = st.builds(
    Price,
    **{f"{kind}_usd": usd("0.000001") for kind in KINDS},
    tier_tokens=st.none() | st.integers(1, 200_000),
    **{f"tier_{kind}_usd": usd("0.000001") for kind in KINDS},
    markup=st.decimals(Decimal("0.01"), 20, places=4),
    flat_fee=st.decimals(0, 1000, places=6),
)
CASES = st.lists(
    st.tuples(PRICES, st.integers(0, 1_000_000), st.integers(0, 128_000)), min_size=20, max_size=60
)


@settings(max_examples=8, suppress_health_check=list(HealthCheck))
@given(CASES)
def test_the_page_reckons_as_the_server_does(cases: list[tuple[Price, int, int]]) -> None:
    told = in_page(WORST_CASES, [[out(price), prompt, answer] for price, prompt, answer in cases])
    for (price, prompt, answer), hint in zip(cases, map(int, told), strict=True):
        held = pricing.worst_case(prompt_tokens=prompt, max_tokens=answer, price=price)
        # Each price that the page knows is rounded up in its sixth place.
        assert held <= hint <= held + (prompt + answer) // 1_000_000 + 2


@pytest.mark.parametrize("openai_key", ["", "sk-any"])
@pytest.mark.parametrize("changes", [{}, {"flat_fee": Decimal("0.25"), "markup": Decimal("1.3333")}])
def test_the_hint_is_what_is_held_and_hardly_more(
    alice: User, openai_key: str, changes: dict[str, Any]
) -> None:
    give(alice, 100_000 * CREDIT)
    if changes:
        price_of("claude-sonnet-5-5", **changes)
    first = turns.open(alice, Ask(id=uuid.uuid4(), text="What is a hold? " * 40)).turn
    answer = Message.objects.get(pk=first.assistant_message_id)
    Message.objects.filter(pk=answer.pk).update(text="Größer 🍺 " * 500)
    Turn.objects.filter(pk=first.pk).update(state="completed", ended_at=Now())
    assert first.conversation is not None
    first.conversation.refresh_from_db()

    with override_settings(OPENAI_API_KEY=openai_key):
        model = models_offered()[0]
        assert (model.fallback is not None) == bool(openai_key)
        messages = [message.dict() for message in messages_page(first.conversation, MessagePage()).items]
        hint = in_page(HINT, {"model": model.dict(), "messages": messages, "text": "And then?"})
        turn = turns.open(
            alice, Ask(id=uuid.uuid4(), text="And then?", conversation=first.conversation_id)
        ).turn
    assert turn.held <= hint
    assert hint - turn.held < CREDIT // 5, "the instructions are counted as a round 512"


def test_a_fallback_that_cannot_answer_as_long_is_none(alice: User) -> None:
    with override_settings(OPENAI_API_KEY="sk-any"):
        before = models_offered()[0]
        assert before.fallback is not None
        LanguageModel.objects.filter(pk=before.fallback.id).update(max_output_tokens=300, answer_tokens=256)
        assert models_offered()[0].fallback is None
