"""What Stripe has taken in a time: all of it, page by page, and single ones that may not be there.

Stripe lists by when something was begun; what takes long to be paid was begun before the time that is asked for.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Any, TypeVar

import stripe

from billing.errors import RequestRefused
from billing.stripe_gateway.checkout import Session, retrieve_session, session_in
from billing.stripe_gateway.client import ask, client, our_id
from billing.stripe_gateway.payments import Payment, payment_in, retrieve_payment
from billing.stripe_gateway.reversals import Reversal, retrieve_dispute, retrieve_refund

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class PaidInvoice:
    """An invoice of a subscription that is paid. `plan_checkout_id` is the one we gave the subscription, or empty."""

    id: str
    subscription: str
    customer: str
    plan_checkout_id: str
    amount_paid: int
    currency: str


def paid_sessions(since: datetime) -> list[Session]:
    """The Checkout sessions begun since then that are paid; those that began a subscription are not among them."""
    params: Any = {**_begun(since), "status": "complete"}
    found = ask(
        lambda: [
            session_in(row.to_dict()) for row in client().v1.checkout.sessions.list(params).auto_paging_iter()
        ]
    )
    return [session for session in found if session.is_paid and not session.subscription]


def paid_payments(since: datetime) -> list[Payment]:
    """The payments begun since then that went through and that we gave an order."""
    params: Any = _begun(since)
    found = ask(
        lambda: [
            payment_in(row.to_dict()) for row in client().v1.payment_intents.list(params).auto_paging_iter()
        ]
    )
    return [payment for payment in found if payment.is_paid and payment.order_id]


def paid_invoices(since: datetime) -> list[PaidInvoice]:
    """The invoices of subscriptions drawn up since then that are paid."""
    params: Any = {**_begun(since), "status": "paid"}
    found = ask(
        lambda: [_invoice(row.to_dict()) for row in client().v1.invoices.list(params).auto_paging_iter()]
    )
    return [invoice for invoice in found if invoice.subscription]


def session_or_none(session_id: str) -> Session | None:
    """A session; None if Stripe has none of this id."""
    return _or_none(lambda: retrieve_session(session_id))


def payment_or_none(payment_id: str) -> Payment | None:
    """A payment; None if Stripe has none of this id."""
    return _or_none(lambda: retrieve_payment(payment_id))


def invoice_or_none(invoice_id: str) -> PaidInvoice | None:
    """An invoice that is paid; None if Stripe has none of this id, or if it is not."""
    found = _or_none(lambda: ask(lambda: client().v1.invoices.retrieve(invoice_id)).to_dict())
    return _invoice(found) if found and found.get("status") == "paid" else None


def reversal_or_none(kind: str, reversal_id: str) -> Reversal | None:
    """A refund or a dispute; None if Stripe has none of this id."""
    retrieve = retrieve_refund if kind == "refund" else retrieve_dispute
    return _or_none(lambda: retrieve(reversal_id))


def _begun(since: datetime) -> dict[str, Any]:
    return {"created": {"gte": int(since.timestamp())}, "limit": 100}


def _invoice(found: dict[str, Any]) -> PaidInvoice:
    parent = (found.get("parent") or {}).get("subscription_details") or {}
    return PaidInvoice(
        id=found["id"],
        subscription=parent.get("subscription") or "",
        customer=found.get("customer") or "",
        plan_checkout_id=our_id(parent.get("metadata"), "plan_checkout"),
        amount_paid=found.get("amount_paid") or 0,
        currency=found.get("currency") or "",
    )


def _or_none(retrieve: Callable[[], T]) -> T | None:
    try:
        return retrieve()
    except RequestRefused as refused:
        # Any other refusal, such as of a key that was revoked, says nothing about what is there.
        cause = refused.__cause__
        if isinstance(cause, stripe.InvalidRequestError) and cause.http_status == HTTPStatus.NOT_FOUND:
            return None
        raise
