"""Stripe's Checkout pages that are open when somebody leaves: closed, so that nobody pays for what is gone."""

import random
from collections.abc import Callable
from datetime import timedelta
from functools import partial

import structlog
from django.db.models import Q
from django.db.models.functions import Now

from accounts.models import User
from billing import fulfilment, subscriptions
from billing.away import each_by_itself
from billing.errors import NotThere, PaymentUnavailable, RequestRefused
from billing.models import Order, PlanCheckout
from billing.models.plans import CHECKOUT_LASTS
from billing.stripe_gateway import Session
from billing.stripe_gateway.checkout import close_session

log = structlog.get_logger(__name__)

# Longer than a page lasts: Stripe's clock ends it, and ours may be ahead.
MAY_BE_OPEN = CHECKOUT_LASTS + timedelta(minutes=30)


def close_pages_of(user: User) -> None:
    """Close every Checkout page on which a person may still pay; what was paid there a moment ago is booked.

    PaymentUnavailable when one stays open, or Stripe cannot be asked: some may be closed by then, and closing them
    again does no harm.
    """
    for close in _pages_of(user):
        close()


def close_pages_of_nobody() -> None:
    """The same for people who are gone: whom staff deleted, or who opened one more page while they left.

    Stripe can take a minute to show that it is away, and is so for every page: the next round closes what is left.
    """
    pages = _pages_of(None)
    # So that a page which Stripe fails at is not before the same others in every round.
    random.shuffle(pages)
    try:
        each_by_itself(pages, _unless_refused, away=(PaymentUnavailable,))
    except PaymentUnavailable as error:
        log.warning("pages of nobody stay open", error=str(error))


def _pages_of(user: User | None) -> list[Callable[[], None]]:
    """A way to close each page that may be open."""
    may_be_open = Q(user=user, created_at__gt=Now() - MAY_BE_OPEN)
    visits = PlanCheckout.objects.filter(may_be_open, state=PlanCheckout.State.OPEN)
    orders = Order.objects.filter(may_be_open, state=Order.State.OPEN)
    return [
        *(
            partial(_close, id, subscriptions.take)
            for id in visits.values_list("stripe_session", flat=True)
            if id
        ),
        *(
            partial(_close, id, fulfilment.take)
            for id in orders.values_list("stripe_session", flat=True)
            if id
        ),
    ]


def _close(session_id: str, book: Callable[[Session], object]) -> None:
    try:
        session = close_session(session_id)
    except NotThere:
        log.warning("page that stripe does not know", session=session_id)
    else:
        book(session)


def _unless_refused(close: Callable[[], None]) -> None:
    """Stripe's answer to one page says nothing of the others."""
    try:
        close()
    except RequestRefused as error:
        log.warning("page of nobody stays open", error=str(error))
