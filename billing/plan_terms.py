"""What another plan would cost and bring, and what ending one would take away, for a person to read before they do."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from django.db.models import F, Sum
from django.db.models.functions import Now
from django.utils import timezone

from accounts.models import User
from billing import subscriptions
from billing.models import Lot, Order, Plan, Subscription


@dataclass(frozen=True, slots=True)
class CreditsLeft:
    """Microcredits that paid periods of a plan brought, which are left and can be used until `expires_at`."""

    plan: str
    microcredits: int
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Terms:
    """A subscription, and what is left of the credits of its periods that expire, the first to expire first."""

    subscription: Subscription
    left: Sequence[CreditsLeft]


@dataclass(frozen=True, slots=True)
class TermsOfChange(Terms):
    """The plan to change to, and when the period that would begin at once is over: then it is paid for again."""

    plan: Plan
    next_payment: datetime


def of_change(user: User, plan: Plan) -> TermsOfChange:
    """What changing to `plan` means now; SubscriptionRefused if it cannot be done."""
    subscription = subscriptions.to_change(user, plan)
    next_payment = plan.period_from(timezone.now().astimezone(UTC))
    return TermsOfChange(subscription, _left(user), plan, next_payment)


def of_end(user: User) -> Terms:
    """What ending the subscription with its period means; SubscriptionRefused if it cannot be done."""
    return Terms(subscriptions.going(user), _left(user))


def _left(user: User) -> list[CreditsLeft]:
    lots = Lot.objects.filter(
        account__user=user,
        transfer__order__source=Order.Source.SUBSCRIPTION,
        remaining__gt=0,
        expires_at__gt=Now(),
    )
    sums = (
        lots.values("expires_at", plan=F("transfer__order__plan__name"))
        .annotate(microcredits=Sum("remaining"))
        .order_by("expires_at", "plan")
    )
    return [CreditsLeft(**left) for left in sums]
