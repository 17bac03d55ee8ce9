"""The usage endpoint: what was used, per day, model or conversation."""

from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Literal
from uuid import UUID

from django.db.models import Count, F, Sum
from django.db.models.functions import TruncDate
from django.http import HttpRequest
from ninja import Field, Query, Router, Schema

from accounts.models import User
from billing.credits import as_string
from chatapp.db import in_db
from chatapp.problems import invalid
from chatapp.streaming.models import UsageRecord

router = Router(tags=["turns"])

# Before there was anything to use; beyond it lies the edge of what dates can be.
EARLIEST_DAY = date(2000, 1, 1)


class Span(Schema):
    """Whole days in UTC, both included; the last 30 when left out."""

    from_: date | None = Field(
        None, alias="from", ge=EARLIEST_DAY, description="The first day; 29 days before `to` when left out."
    )
    to: date | None = Field(None, ge=EARLIEST_DAY, description="The last day; today when left out.")
    group: Literal["day", "model", "conversation"] = Field("day", description="What is added up.")


class UsedOut(Schema):
    """What was used on a day, of a model, or in a conversation (null once deleted): the one that was grouped by."""

    day: date | None = None
    model: str | None = None
    conversation: UUID | None = None
    turns: int
    input_tokens: int
    output_tokens: int
    cache_read_input_tokens: int
    cache_creation_input_tokens: int
    charged: str


class UsagePage(Schema):
    from_: date = Field(alias="from")
    to: date
    group: str
    items: list[UsedOut]
    next: None


@router.get("usage", response=UsagePage, by_alias=True, exclude_unset=True)
async def usage(request: HttpRequest, span: Query[Span]) -> dict[str, Any]:
    """Tokens and credits per day, model or conversation."""
    to = span.to or datetime.now(UTC).date()
    begin = span.from_ or to - timedelta(days=29)
    if begin > to:
        raise invalid(**{"from": "The first day is after the last."})
    items = await in_db(_usage, request.auth, begin, to, span.group)  # type: ignore[attr-defined]
    return {"from": begin, "to": to, "group": span.group, "items": items, "next": None}


def _usage(user: User, begin: date, to: date, group: str) -> list[dict[str, Any]]:
    records = UsageRecord.objects.filter(
        user=user,
        ended_at__gte=datetime.combine(begin, time.min, UTC),
        ended_at__lte=datetime.combine(to, time.max, UTC),
    )
    keys: dict[str, Any] = {
        "day": TruncDate("ended_at"),
        "model": F("model_id"),
        "conversation": F("conversation_id"),
    }
    grouped = (
        records.order_by()
        .values(key=keys[group])
        .annotate(
            turns=Count("pk"),
            input=Sum("input_tokens"),
            output=Sum("output_tokens"),
            read=Sum("cache_read_tokens"),
            written=Sum(F("cache_write_5m_tokens") + F("cache_write_1h_tokens")),
            credits=Sum("charged"),
        )
        .order_by("key")
    )
    return [
        {
            group: row["key"],
            "turns": row["turns"],
            "input_tokens": row["input"],
            "output_tokens": row["output"],
            "cache_read_input_tokens": row["read"],
            "cache_creation_input_tokens": row["written"],
            "charged": as_string(row["credits"]),
        }
        for row in grouped
    ]
