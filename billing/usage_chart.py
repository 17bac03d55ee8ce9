"""What a person's answers came to per day and model, drawn on the server: pages may not style themselves inline."""

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, date, timedelta
from decimal import Decimal

from django.utils import timezone

from accounts.models import User
from billing import answers
from billing.credits import MICROCREDITS_PER_CREDIT, to_credits
from billing.models import Account, LanguageModel

LAST_DAYS = 30
# css/billing.css has so many colours; of two models that share one, the names tell them apart.
COLOURS = 8
# In the drawing's own units: it is stretched to the width that there is.
DAY_WIDTH, BAR_WIDTH, HEIGHT = 10, 7, 100
LEAST_HEIGHT = Decimal("0.8")


@dataclass(frozen=True, slots=True)
class Period:
    """Days of UTC, both included. `month` is "2026-11", or empty for the last days."""

    first: date
    last: date
    month: str

    @property
    def name(self) -> str:
        return f"{self.first:%B %Y}" if self.month else f"Last {LAST_DAYS} days"


@dataclass(slots=True)
class Total:
    """One model's answers of the period; `charged` in microcredits."""

    name: str
    colour: int
    answers: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0
    charged: int = 0


@dataclass(frozen=True, slots=True)
class Piece:
    """One model's part of one day's bar, in the drawing's units."""

    name: str
    colour: int
    charged: int
    x: int
    y: Decimal
    height: Decimal


@dataclass(slots=True)
class Day:
    """One day: its bar, and in the order of the chart's models what each came to (None for nothing)."""

    day: date
    charged: int = 0
    cells: list[int | None] = field(default_factory=list)
    pieces: list[Piece] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Chart:
    """Bars for each day, and totals for each model. `top` is what the chart's height stands for, in credits."""

    period: Period
    days: list[Day]
    totals: list[Total]
    top: Decimal

    @property
    def charged(self) -> int:
        return sum(total.charged for total in self.totals)

    @property
    def answers(self) -> int:
        return sum(total.answers for total in self.totals)

    @property
    def prompt_tokens(self) -> int:
        return sum(total.prompt_tokens for total in self.totals)

    @property
    def output_tokens(self) -> int:
        return sum(total.output_tokens for total in self.totals)

    @property
    def half(self) -> Decimal:
        return self.top / 2

    @property
    def width(self) -> int:
        return len(self.days) * DAY_WIDTH

    @property
    def days_with_use(self) -> list[Day]:
        return [day for day in self.days if day.charged]


def periods(wallet: Account) -> list[Period]:
    """What can be chosen: the last days, and each month since the wallet was opened, newest first."""
    today = _today()
    month = today.replace(day=1)
    opened = wallet.created_at.astimezone(UTC).date().replace(day=1)
    found = [Period(today - timedelta(days=LAST_DAYS - 1), today, "")]
    while month >= opened:
        following = (month + timedelta(days=31)).replace(day=1)
        found.append(Period(month, following - timedelta(days=1), f"{month:%Y-%m}"))
        month = (month - timedelta(days=1)).replace(day=1)
    return found


def chart(user: User, period: Period) -> Chart:
    """What `user` was charged for answers on the days of `period`."""
    rows = answers.book().per_day(user, period.first, period.last)
    totals = _totals({row.model for row in rows})
    charged: dict[date, dict[str, int]] = defaultdict(dict)
    for row in rows:
        total = totals[row.model]
        total.answers += row.answers
        total.prompt_tokens += row.prompt_tokens
        total.output_tokens += row.output_tokens
        total.charged += row.charged
        charged[row.day][row.model] = row.charged
    top = _round_figure(max((sum(models.values()) for models in charged.values()), default=0))
    length = (period.last - period.first).days + 1
    return Chart(
        period=period,
        days=[
            _day(period.first + timedelta(days=index), index, charged, totals, top) for index in range(length)
        ],
        totals=list(totals.values()),
        top=to_credits(top),
    )


def _totals(used: set[str]) -> dict[str, Total]:
    """A line for each model that was used, in the catalogue's order, which also gives it its colour."""
    catalogue = LanguageModel.objects.values_list("pk", "name")
    return {
        model: Total(name=name, colour=position % COLOURS + 1)
        for position, (model, name) in enumerate(catalogue)
        if model in used
    }


def _day(
    day: date, index: int, charged: dict[date, dict[str, int]], totals: dict[str, Total], top: int
) -> Day:
    models = charged.get(day, {})
    drawn = Day(day, charged=sum(models.values()), cells=[models.get(model) for model in totals])
    y = Decimal(HEIGHT)
    for model, total in totals.items():
        if model in models:
            # Anything at all is seen.
            height = max((Decimal(models[model]) / top * HEIGHT).quantize(Decimal("0.01")), LEAST_HEIGHT)
            y -= height
            drawn.pieces.append(
                Piece(total.name, total.colour, models[model], index * DAY_WIDTH, max(y, Decimal(0)), height)
            )
    return drawn


def _round_figure(most: int) -> int:
    """The smallest of 1, 2, 4, 6, 8, 10, 20 … hundredths of a credit that is not below `most` microcredits."""
    step = MICROCREDITS_PER_CREDIT // 100
    while True:
        for factor in (1, 2, 4, 6, 8):
            if step * factor >= most:
                return step * factor
        step *= 10


def _today() -> date:
    return timezone.now().astimezone(UTC).date()
