"""Stripe's own invoices and receipts: where a person can read theirs."""

from urllib.parse import urlsplit

import structlog
from django.conf import settings

from billing.errors import PaymentUnavailable
from billing.models import Order, Subscription
from billing.stripe_gateway import retrieve_session
from billing.stripe_gateway.payments import retrieve_payment
from billing.stripe_gateway.subscriptions import retrieve_invoice, retrieve_subscription

log = structlog.get_logger(__name__)


def page_of(order: Order) -> str:
    """The URL of the invoice of a paid order, or else of its receipt; PaymentUnavailable if it cannot be had.

    Stripe is asked each time, since its links expire.
    """
    return _trusted(_page_at_stripe(order))


def page_of_unpaid(subscription: Subscription) -> str:
    """The URL at which a person pays what is due for their subscription."""
    latest = retrieve_subscription(subscription.stripe_id).latest_invoice
    return _trusted(retrieve_invoice(latest).page if latest else "")


def _page_at_stripe(order: Order) -> str:
    invoice = order.stripe_invoice
    if not invoice and order.stripe_session:
        # It was not there yet when the payment was told of.
        invoice = retrieve_session(order.stripe_session).invoice
        Order.objects.filter(pk=order.pk, stripe_invoice=None).update(stripe_invoice=invoice or None)
    if invoice:
        return retrieve_invoice(invoice).page
    if order.stripe_payment_intent:
        return retrieve_payment(order.stripe_payment_intent).receipt
    return ""


def _trusted(url: str) -> str:
    """`url` if it leads to Stripe, or to what stands in for it."""
    parts, stripe = urlsplit(url), urlsplit(settings.STRIPE_API_BASE)
    host = parts.hostname or ""
    if parts.scheme == "https" and (host == "stripe.com" or host.endswith(".stripe.com")):
        return url
    if (parts.scheme, parts.netloc) == (stripe.scheme, stripe.netloc):
        return url
    if url:
        log.error("link of Stripe's leads elsewhere", host=host)
    raise PaymentUnavailable("Stripe has no invoice or receipt for this payment yet. Try again later.")
