"""Answers that were paid for: turns with their usage, charged at their price as the engine does it."""

import uuid
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone

from accounts.models import User
from billing import pricing
from billing.models import Price
from billing.pricing import Usage
from chatapp.conversations.models import Conversation, Turn
from tests.billing.books import close_turn, open_turn, unguarded

USAGE = Usage(input_tokens=1_000, output_tokens=500)


def price_of(model: str, **changes: Any) -> Price:
    """The price in force, or a new one that differs from it in `changes`."""
    price = Price.objects.now_for(model)
    if changes:
        price.pk, price._state.adding = None, True
        price.effective_from = timezone.now()
        for name, value in changes.items():
            setattr(price, name, value)
        price.save()
    return price


def model_like(model_id: str) -> str:
    """A model of one test's own, at the same price, whose prices can be changed for good: it is not on sale."""
    price = Price.objects.select_related("model").filter(model=model_id).earliest("effective_from")
    model = price.model
    model.pk, model.on_sale, model._state.adding = f"model-{uuid.uuid4().hex}", False, True
    model.save()
    price.pk, price.model, price._state.adding = None, model, True
    price.save()
    return model.pk


def answered(
    user: User,
    *,
    usage: Usage = USAGE,
    model: str = "claude-sonnet-5-5",
    price: Price | None = None,
    conversation: Conversation | None = None,
    held: int | None = None,
    at: datetime | None = None,
    **columns: Any,
) -> uuid.UUID:
    """An answer that is charged for `usage`, as far as was held. Its turn's id, which `at` only the turn remembers."""
    price = price or price_of(model)
    due = pricing.charge(usage, price)
    turn = open_turn(user, due if held is None else held)
    close_turn(turn, due)
    if at is not None:
        columns |= {"created_at": at - timedelta(seconds=9), "ended_at": at}
    with unguarded("conversations_turn"):
        Turn.objects.filter(pk=turn).update(
            model=model,
            price=price,
            conversation=conversation,
            cost=pricing.cost(usage, price),
            **Turn.usage_columns(usage),
            **columns,
        )
    return turn


def chat(user: User, title: str = "Bread") -> Conversation:
    return Conversation.objects.create(user=user, title=title)
