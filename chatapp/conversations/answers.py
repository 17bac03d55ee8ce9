"""What billing may ask of the chat: which answer a charge was for. See `billing.answers`."""

from collections.abc import Collection
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from uuid import UUID

from django.db.models import Count, F, Q, QuerySet, Sum
from django.db.models.functions import Coalesce, TruncDate

from accounts.models import User
from billing.answers import Answer, DayOfModel
from chatapp.conversations.models import Conversation, Turn

# No turn lasts so long, so one that ended on a day was opened within so much before it: what the index knows.
LONGEST_TURN = timedelta(days=1)


class TurnBook:
    """The turns as billing's AnswerBook."""

    def answers(self, user: User, ids: Collection[UUID]) -> dict[UUID, Answer]:
        turns = Turn.objects.of(user).filter(pk__in=ids)
        named = turns.select_related("model", "served_by", "price", "fallback_price", "conversation")
        return {turn.pk: _answer(turn) for turn in named}

    def ids(self, user: User, *, model: str | None, conversation: UUID | None) -> QuerySet[Any, UUID]:
        turns = Turn.objects.of(user)
        if model is not None:
            turns = turns.filter(Q(served_by=model) | Q(served_by=None, model=model))
        if conversation is not None:
            turns = turns.filter(conversation=conversation)
        return turns.values_list("pk", flat=True)

    def conversations(self, user: User, *, limit: int) -> list[tuple[UUID, str]]:
        latest = Conversation.objects.of(user).order_by("-updated_at", "-id")
        return [(conversation.pk, str(conversation)) for conversation in latest[:limit]]

    def title(self, user: User, conversation: UUID) -> str | None:
        found = Conversation.objects.of(user).filter(pk=conversation).first()
        return None if found is None else str(found)

    def models(self, user: User) -> list[str]:
        charged = Turn.objects.of(user).filter(charged__gt=0).order_by()
        return list(charged.values_list(Coalesce("served_by", "model"), flat=True).distinct())

    def per_day(self, user: User, first: date, last: date) -> list[DayOfModel]:
        begin, end = datetime.combine(first, time.min, UTC), datetime.combine(last, time.max, UTC)
        charged = Turn.objects.of(user).filter(
            ended_at__range=(begin, end), created_at__range=(begin - LONGEST_TURN, end), charged__gt=0
        )
        rows = (
            charged.order_by()
            .values(day=TruncDate("ended_at"), answered_by=Coalesce("served_by", "model"))
            .annotate(
                answers=Count("pk"),
                prompt=Sum(
                    F("input_tokens")
                    + F("cache_read_tokens")
                    + F("cache_write_5m_tokens")
                    + F("cache_write_1h_tokens")
                ),
                output=Sum("output_tokens"),
                paid=Sum("charged"),
            )
            .order_by("day", "answered_by")
        )
        columns = ("day", "answered_by", "answers", "prompt", "output", "paid")
        return [DayOfModel(*row) for row in rows.values_list(*columns)]


def _answer(turn: Turn) -> Answer:
    # Another provider's model may have answered: then it is that one which was paid for.
    model = turn.served_by or turn.model
    return Answer(
        model=model.pk,
        model_name=model.name,
        conversation=turn.conversation_id,
        title=str(turn.conversation) if turn.conversation else "",
        usage=turn.usage,
        price=turn.price_of(model.pk),
        estimated=turn.estimated,
    )
