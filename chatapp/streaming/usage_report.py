"""What was used, added up by PostgreSQL: in all, and per day, model or user."""

import csv
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from django.db.models import Count, F, QuerySet, Sum
from django.db.models.functions import Coalesce, TruncDate

from billing.credits import as_string
from chatapp.streaming.models import UsageRecord

TOKENS = [
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_5m_tokens",
    "cache_write_1h_tokens",
]
SUMS = [*TOKENS, "charged", "cost"]
GROUPS = {"day": TruncDate("ended_at"), "model": F("model_id"), "user": F("user__email")}
# A spreadsheet would run words that begin like a formula, and people choose their own addresses.
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


@dataclass(frozen=True, slots=True)
class Sums:
    """One line of the report; money in microcredits. `key` is a date, a model's id or an e-mail address."""

    key: Any
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

    @property
    def named(self) -> str:
        """The key in words; usage outlives the person."""
        return "deleted" if self.key is None else str(self.key)


def total(records: QuerySet[UsageRecord]) -> Sums:
    """Everything in `records` as one line."""
    sums = records.order_by().aggregate(turns=Count("pk"), **{name: Coalesce(Sum(name), 0) for name in SUMS})
    return Sums(key="total", **sums)


def grouped(records: QuerySet[UsageRecord], group: str) -> Iterator[Sums]:
    """A line per day (newest first), model or user (dearest first)."""
    sums: dict[str, Any] = {f"sum_{name}": Sum(name) for name in SUMS}
    lines = (
        records.order_by()
        .annotate(key=GROUPS[group])
        .values("key")
        .annotate(turns=Count("pk"), **sums)
        .order_by("-key" if group == "day" else "-sum_charged", "key")
    )
    for line in lines.values_list("key", "turns", *sums).iterator():
        yield Sums(*line)


def as_csv(lines: Iterable[Sums], group: str) -> str:
    """The lines as a table for a spreadsheet; money in credits with six places."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow([group, "turns", *TOKENS, "charged_credits", "cost_credits", "margin_credits"])
    for line in lines:
        name = f"'{line.named}" if line.named.startswith(FORMULA) else line.named
        money = (as_string(amount) for amount in (line.charged, line.cost, line.margin))
        writer.writerow([name, line.turns, *(getattr(line, tokens) for tokens in TOKENS), *money])
    return text.getvalue()
