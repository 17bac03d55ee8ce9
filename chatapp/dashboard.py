"""What the operator sees first: the last thirty days in figures, and what stands in the books now.

Days are UTC's. Money is in microcredits until a template writes it.
"""

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from urllib.parse import urlencode

from django.db.models import Count, F, Q, QuerySet, Subquery, Sum, Value
from django.db.models.functions import Coalesce, TruncDate
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone

from accounts.demo import DEMO_EMAILS
from accounts.models import User
from billing import fulfilment
from billing.credits import as_string
from billing.models import Account, Discrepancy, MoneyBack, Order, Reconciliation, Transfer
from billing.templatetags.credits import money
from chatapp import checks, money_pages
from chatapp.checks import Concern
from chatapp.conversations.models import Turn
from chatapp.streaming.models import HouseUsage

PERIODS = {"today": 1, "7 days": 7, "30 days": 30}
DAYS = max(PERIODS.values())
_REVERSAL = Q(kind__in=[Transfer.Kind.REFUND, Transfer.Kind.DISPUTE])
FAILED = Q(state__in=[Turn.State.FAILED, Turn.State.INTERRUPTED])


@dataclass(slots=True)
class Sums:
    """What happened on one day, or on several added up. Turns count on the day they ended.

    Sign-ups are of people, who may have left since, and not of the logins that everybody knows.
    """

    signups: int = 0
    turns: int = 0
    failed: int = 0
    overruns: int = 0
    charged: int = 0
    cost: int = 0
    overrun: int = 0
    bought: int = 0
    given: int = 0
    expired: int = 0
    reversed: int = 0
    taken_cents: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    @property
    def margin(self) -> int:
        return self.charged - self.cost

    @property
    def taken(self) -> str:
        """The money that was paid, less what was paid back, in each currency."""
        return (
            " + ".join(money(cents, currency) for currency, cents in sorted(self.taken_cents.items())) or "–"
        )

    def add(self, **sums: int | None) -> None:
        for name, value in sums.items():
            setattr(self, name, getattr(self, name) + (value or 0))


@dataclass(frozen=True, slots=True)
class Standing:
    """The books and the engine at this moment; `outstanding` is what the house owes, `debts` what it is owed.

    What deleted accounts had, or owed, stays in the books and is neither: nobody can use the one or repay the other.
    """

    outstanding: int
    debts: int
    of_deleted: int
    debts_of_deleted: int
    held: int
    below_zero: int
    running: int


def fill(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Unfold's dashboard callback. Staff who may not see all of it get the plain page."""
    if money_pages.allowed(request):
        models = checks.priced_models()
        context["concerns"] = [(concern, _remedy(concern)) for concern in checks.concerns(models)]
        context["reconciled"] = last_reconciliation()
        context["sold_at_cost"] = checks.sold_at_cost(models)
        days = sums_per_day(timezone.now().astimezone(UTC).date())
        context["periods"] = {
            title: added_up(list(days.values())[-length:]) for title, length in PERIODS.items()
        }
        context["month"] = context["periods"]["30 days"]
        context["standing"] = standing()
        context["money_chart"] = _chart(days, {"charged": "--color-primary-600", "cost": "--color-base-400"})
        context["turns_chart"] = _chart(days, {"failed": "--color-red-500", "turns": "--color-primary-600"})
    return context


def _remedy(concern: Concern) -> str:
    """Where the operator can do something about it."""
    if concern.id == "chatapp.W002":
        return f"{reverse('admin:billing_price_add')}?{urlencode({'model': concern.model_id})}"
    return reverse("admin:billing_languagemodel_change", args=[concern.model_id])


def last_reconciliation() -> Reconciliation | None:
    """The last comparison with Stripe, with how many discrepancies stand open from whichever."""
    ones = Discrepancy.objects.open().order_by().annotate(one=Value(1)).values("one")
    count = ones.annotate(count=Count("pk")).values("count")
    ended = Reconciliation.objects.exclude(ended_at=None)
    return ended.annotate(open=Coalesce(Subquery(count), 0)).first()


def sums_per_day(today: date) -> dict[date, Sums]:
    """The last DAYS days, oldest first, with the days on which nothing happened."""
    days = {today - timedelta(days=ago): Sums() for ago in reversed(range(DAYS))}
    since = datetime.combine(min(days), time(), UTC)

    def per_day(rows: QuerySet[Any], at: str) -> QuerySet[Any, dict[str, Any]]:
        return rows.filter(**{f"{at}__gte": since}).order_by().annotate(day=TruncDate(at)).values("day")

    turns = (
        per_day(Turn.objects.all(), "ended_at")
        # Counted before the sums take the columns' names.
        .annotate(
            turns=Count("pk"),
            failed=Count("pk", filter=FAILED),
            overruns=Count("pk", filter=Q(overrun__gt=0)),
        )
        .annotate(**{name: Sum(name) for name in ("charged", "cost", "overrun")})
    )
    moved = per_day(Transfer.objects.all(), "created_at").annotate(
        bought=Sum("amount", filter=Q(kind=Transfer.Kind.PURCHASE)),
        given=Sum("amount", filter=Q(kind__in=[Transfer.Kind.SIGNUP, Transfer.Kind.GRANT])),
        expired=Sum("amount", filter=Q(kind=Transfer.Kind.EXPIRY)),
        # What is given back after a dispute that was won, or a refund that failed, is debited to the house.
        reversed=Sum("amount", filter=_REVERSAL & Q(debit__kind="wallet"), default=0)
        - Sum("amount", filter=_REVERSAL & ~Q(debit__kind="wallet"), default=0),
    )
    # What the house asked for itself.
    own = per_day(HouseUsage.objects.all(), "ended_at").annotate(cost=Sum("cost"))
    here = User.objects.exclude(email__in=DEMO_EMAILS)
    # Of who has left since, the day on which their wallet was opened is what is left: the day they first looked around.
    left = Account.objects.filter(kind=Account.Kind.WALLET, user=None, is_demo=False).exclude(
        credits__reason=fulfilment.PAID_BY_NOBODY
    )
    signups = [
        *per_day(here, "date_joined").annotate(signups=Count("pk")),
        *per_day(left, "created_at").annotate(signups=Count("pk")),
    ]
    for row in (*turns, *own, *moved, *signups):
        # Something of a day that began while this ran is for the next look.
        if row["day"] in days:
            days[row.pop("day")].add(**row)
    paid = per_day(Order.objects.all(), "paid_at").values("day", "currency")
    back = per_day(MoneyBack.objects.all(), "created_at").values("day", currency=F("order__currency"))
    for row in (*paid.annotate(cents=Sum("paid_cents")), *back.annotate(cents=-Sum("cents"))):
        if row["day"] in days:
            days[row["day"]].taken_cents[row["currency"]] += row["cents"]
    return days


def added_up(days: Iterable[Sums]) -> Sums:
    whole = Sums()
    for day in days:
        whole.add(**{name: getattr(day, name) for name in Sums.__slots__ if name != "taken_cents"})
        for currency, cents in day.taken_cents.items():
            whole.taken_cents[currency] += cents
    return whole


def standing() -> Standing:
    above, below, deleted = Q(balance__gt=0), Q(balance__lt=0), Q(user=None)
    wallets = Account.objects.filter(kind=Account.Kind.WALLET).aggregate(
        outstanding=Sum("balance", filter=above & ~deleted, default=0),
        debts=-Sum("balance", filter=below & ~deleted, default=0),
        of_deleted=Sum("balance", filter=above & deleted, default=0),
        debts_of_deleted=-Sum("balance", filter=below & deleted, default=0),
        held=Sum("held", default=0),
        below_zero=Count("pk", filter=below & ~deleted),
    )
    return Standing(running=Turn.objects.running().count(), **wallets)


def _chart(days: dict[date, Sums], columns: dict[str, str]) -> str:
    """Data for Unfold's bar chart, its first column in front; Chart.js reads the decimal strings of credits."""
    counts = {"turns", "failed"}
    return json.dumps(
        {
            "labels": [f"{day:%-d %b}" for day in days],
            "datasets": [
                {
                    "label": name,
                    "data": [
                        getattr(day, name) if name in counts else as_string(getattr(day, name))
                        for day in days.values()
                    ],
                    "backgroundColor": f"var({colour})",
                    "displayYAxis": position == 0,
                    "maxTicksXLimit": 6,
                }
                for position, (name, colour) in enumerate(columns.items())
            ],
        }
    )
