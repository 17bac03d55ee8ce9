"""What the house asks a model by itself, and pays: who is asked, and what it cost."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from uuid import UUID

from django.db import connection

from billing import pricing
from billing.models import LanguageModel, Price
from billing.pricing import Usage
from chatapp.conversations.models import Turn
from chatapp.streaming.models import HouseUsage
from chatapp.streaming.providers.base import Prompt
from chatapp.streaming.providers.whole import Whole, whole_answer
from chatapp.streaming.turns import tokens_in

# A worker's task may take five minutes.
LONGEST_SECONDS = 120.0


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
    by: Writer,
    turn: Turn,
    purpose: HouseUsage.Purpose,
    *,
    system: str,
    text: str,
    max_tokens: int,
    patience_seconds: float = LONGEST_SECONDS,
) -> str:
    """What the writer answers; ProviderError if it does not come to its end in time.

    Its cost is recorded, as far as it is known: of an answer that broke off, the provider's count of the input and ours
    of what was said.
    """
    prompt = Prompt(
        model=by.model.id,
        system=system,
        messages=(("user", text),),
        max_tokens=min(max_tokens, by.model.max_output_tokens),
        thinks=False,
        person=str(turn.pk),
        provider=by.model.provider,
        goes_on=False,
    )
    whole = whole_answer(prompt, patience_seconds=patience_seconds)
    if whole.usage is not None:
        _record(by, turn, purpose, whole, whole.usage)
    if whole.error is not None:
        raise whole.error
    return whole.text.strip()


def _record(by: Writer, turn: Turn, purpose: HouseUsage.Purpose, whole: Whole, usage: Usage) -> None:
    if not whole.counted:
        usage = replace(usage, output_tokens=tokens_in(whole.text))
    HouseUsage.objects.create(
        purpose=purpose,
        user_id=turn.user_id,
        conversation_id=turn.conversation_id,
        model=by.model,
        price=by.price,
        provider_request=whole.request_id[:100],
        cost=pricing.cost(usage, by.price),
        **Turn.usage_columns(usage),
    )
