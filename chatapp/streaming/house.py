"""What the house asks a model by itself, and pays: who is asked, and what it cost."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import UUID

from django.db import connection

from billing import pricing
from billing.models import LanguageModel, Price
from chatapp.conversations.models import Turn
from chatapp.streaming.models import HouseUsage
from chatapp.streaming.providers.base import Prompt
from chatapp.streaming.providers.whole import whole_answer

# A worker's task may take five minutes.
PATIENCE_SECONDS = 120


@dataclass(frozen=True, slots=True)
class Writer:
    """The model that writes for the house, at its price."""

    model: LanguageModel
    price: Price


def writer(model_id: str) -> Writer | None:
    """The model, if it can be asked: known, with a price in force and a key of its provider, and not retired."""
    price = Price.objects.select_related("model").in_force().filter(model=model_id).first()
    return Writer(price.model, price) if price and price.model.can_be_asked else None


@contextmanager
def alone(purpose: HouseUsage.Purpose, conversation_id: UUID) -> Iterator[bool]:
    """Whether nobody else is at the same work for the same conversation; meanwhile nobody else begins it.

    PostgreSQL lets go of it when this process dies.
    """
    key = f"{purpose} {conversation_id}"
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", [key])
        first = cursor.fetchone() == (True,)
    try:
        yield first
    finally:
        if first:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_unlock(hashtextextended(%s, 0))", [key])


def ask(
    by: Writer, turn: Turn, purpose: HouseUsage.Purpose, *, system: str, text: str, max_tokens: int
) -> str:
    """What the writer answers, with its cost recorded; ProviderError, and nothing recorded, if it does not."""
    whole = whole_answer(
        Prompt(
            model=by.model.id,
            system=system,
            messages=(("user", text),),
            max_tokens=min(max_tokens, by.model.max_output_tokens),
            thinks=False,
            person=str(turn.pk),
            provider=by.model.provider,
            goes_on=False,
        ),
        patience_seconds=PATIENCE_SECONDS,
    )
    HouseUsage.objects.create(
        purpose=purpose,
        user_id=turn.user_id,
        conversation_id=turn.conversation_id,
        model=by.model,
        price=by.price,
        provider_request=whole.request_id[:100],
        cost=pricing.cost(whole.usage, by.price),
        **Turn.usage_columns(whole.usage),
    )
    return whole.text.strip()
