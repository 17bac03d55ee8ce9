"""Stripe's pages that are open when somebody leaves: closed, so that nobody pays for an account that is gone."""

from collections.abc import Callable
from datetime import timedelta
from functools import partial

import structlog
from django.db.models import Q
from django.db.models.functions import Now

from accounts.models import User
from billing import checkout, subscriptions
from billing.away import each_by_itself
from billing.errors import PaymentUnavailable, RequestRefused
from billing.models import Order, PlanCheckout
from billing.models.plans import CHECKOUT_LASTS

log = structlog.get_logger(__name__)

# Longer than a page lasts: Stripe's clock ends it, and ours may be ahead.
MAY_BE_OPEN = CHECKOUT_LASTS + timedelta(minutes=30)


def close_pages_of(user: User) -> None:
    """Close every page on which a person may still pay; what was paid there a moment ago is booked.

    PaymentUnavailable when Stripe cannot be asked: some may be closed by then, and closing them again does no harm.
    """
    for close in _pages_of(user):
        close()


def close_pages_of_nobody() -> None:
    """The same for people who are gone: whom staff deleted, or who opened one more page while they left."""
    each_by_itself(_pages_of(None), _if_stripe_answers)


def _pages_of(user: User | None) -> list[Callable[[], None]]:
    """A way to close each page that may be open."""
    may_be_open = Q(user=user, stripe_session__isnull=False, created_at__gt=Now() - MAY_BE_OPEN)
    visits = PlanCheckout.objects.filter(may_be_open, state=PlanCheckout.State.OPEN)
    orders = Order.objects.filter(may_be_open, state=Order.State.OPEN)
    return [
        *(partial(_close, subscriptions.close_page, visit.stripe_session or "") for visit in visits),
        *(partial(_close, checkout.close_page, order.stripe_session or "") for order in orders),
    ]


def _close(close_page: Callable[[str], None], session_id: str) -> None:
    try:
        close_page(session_id)
    except RequestRefused:
        log.warning("page that stripe does not know", session=session_id)


def _if_stripe_answers(close: Callable[[], None]) -> None:
    try:
        close()
    except PaymentUnavailable as error:
        log.warning("page of nobody stays open", error=str(error))
