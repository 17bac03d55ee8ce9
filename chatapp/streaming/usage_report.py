"""What some records of usage come to, added up by PostgreSQL; per day, model and user it stands in chatapp/money.py."""

from dataclasses import dataclass

from django.db.models import Count, QuerySet, Sum
from django.db.models.functions import Coalesce

from chatapp.streaming.models import UsageRecord


@dataclass(frozen=True, slots=True)
class Sums:
    """Turns, tokens and microcredits."""

    turns: int
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_5m_tokens: int
    cache_write_1h_tokens: int
    charged: int
    cost: int

    @property
    def margin(self) -> int:
        return self.charged - self.cost


def total(records: QuerySet[UsageRecord]) -> Sums:
    """Everything in `records`."""
    names = [name for name in Sums.__slots__ if name != "turns"]
    return Sums(
        **records.order_by().aggregate(turns=Count("pk"), **{name: Coalesce(Sum(name), 0) for name in names})
    )
