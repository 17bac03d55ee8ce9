"""Payments that are made while the person is away, with a card that they let Stripe keep."""

from dataclasses import dataclass
from typing import Any

from billing.credits import to_credits
from billing.models import Customer, Order
from billing.stripe_gateway.client import ask, client, our_id


@dataclass(frozen=True, slots=True)
class Payment:
    """A payment as it is at Stripe now. `order_id` is the one we gave it, or empty; `failure` is Stripe's word."""

    id: str
    status: str
    order_id: str
    amount_received: int
    currency: str
    failure: str
    receipt: str

    @property
    def is_paid(self) -> bool:
        return self.status == "succeeded"

    @property
    def is_on_its_way(self) -> bool:
        return self.status == "processing"


def charge_off_session(order: Order, customer: Customer) -> str:
    """Take an order's price with its stored payment method; the payment's id. PaymentRefused if the bank says no.

    Asking again for the same order, for a day after, gives the same answer and takes nothing twice.
    """
    order_id = str(order.id)
    params: Any = {
        "amount": order.amount_cents,
        "currency": order.currency,
        "customer": customer.stripe_id,
        "payment_method": order.stripe_payment_method,
        "off_session": True,
        "confirm": True,
        "description": f"Automatic top-up: {to_credits(order.credits_microcredits).normalize():,f} credits",
        "metadata": {"order": order_id},
    }
    return ask(
        lambda: client().v1.payment_intents.create(params, {"idempotency_key": f"topup:{order_id}"})
    ).id


def retrieve_payment(payment_id: str) -> Payment:
    """The payment as Stripe has it now; PaymentUnavailable if it cannot be had."""
    params: Any = {"expand": ["latest_charge"]}
    return payment_in(ask(lambda: client().v1.payment_intents.retrieve(payment_id, params)).to_dict())


def payment_for(order: Order, customer: Customer) -> Payment | None:
    """What became of an order whose answer was lost: its payment, or None if Stripe never heard of it."""
    params: Any = {
        "customer": customer.stripe_id,
        # Clocks differ.
        "created": {"gte": int(order.created_at.timestamp()) - 3600},
        "limit": 100,
        "expand": ["data.latest_charge"],
    }
    rows = ask(lambda: list(client().v1.payment_intents.list(params).auto_paging_iter()))
    payments = (payment_in(row.to_dict()) for row in rows)
    return next((payment for payment in payments if payment.order_id == str(order.id)), None)


def payment_in(found: dict[str, Any]) -> Payment:
    """A payment from its object."""
    error = found.get("last_payment_error") or {}
    return Payment(
        id=found["id"],
        status=found.get("status") or "",
        order_id=our_id(found.get("metadata"), "order"),
        amount_received=found.get("amount_received") or 0,
        currency=found.get("currency") or "",
        failure=error.get("code") or "",
        receipt=_receipt(found.get("latest_charge")),
    )


def _receipt(charge: Any) -> str:
    # Where nobody asked to have the charge in full, its id stands there.
    return charge.get("receipt_url") or "" if isinstance(charge, dict) else ""
