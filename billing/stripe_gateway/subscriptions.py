"""Plans' prices, subscriptions and their invoices."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import stripe

from billing.errors import PaymentUnavailable, RequestRefused
from billing.models import Plan, Subscription
from billing.stripe_gateway.client import ask, client, our_id


@dataclass(frozen=True, slots=True)
class SubscriptionNow:
    """A subscription as Stripe has it now. `plan_checkout_id` is the one we gave it, or empty."""

    id: str
    status: str
    customer: str
    plan_checkout_id: str
    item: str
    price: str
    current_period_end: datetime
    ends_with_period: bool
    latest_invoice: str


@dataclass(frozen=True, slots=True)
class Line:
    """What an invoice charges for: a price for a period, before discounts."""

    price: str
    amount: int
    begins: datetime
    ends: datetime


@dataclass(frozen=True, slots=True)
class Invoice:
    """An invoice as Stripe has it now.

    `lines` are those that charge for periods; corrections of a period that is running are none of them.
    """

    id: str
    is_paid: bool
    customer: str
    subscription: str
    amount_paid: int
    amount_due: int
    currency: str
    lines: tuple[Line, ...]
    attempts: int
    payment_intent: str
    page: str


def price_of(plan: Plan) -> str:
    """Stripe's id of what a plan costs, made if Stripe does not have it; asking again makes no second one.

    The lookup key says all there is to say of a price, so whichever has it is the right one.
    """
    key = f"chatapp-plan-{plan.pk}-{plan.price_cents}-{plan.currency}-{plan.interval}"
    known = ask(lambda: client().v1.prices.list({"lookup_keys": [key], "active": True, "limit": 1})).data
    if known:
        return known[0].id
    params: Any = {
        "currency": plan.currency,
        "unit_amount": plan.price_cents,
        "recurring": {"interval": plan.interval},
        "lookup_key": key,
        "product_data": {"name": plan.name, "metadata": {"plan": str(plan.pk)}},
    }
    return ask(lambda: client().v1.prices.create(params, {"idempotency_key": key})).id


def retrieve_subscription(subscription_id: str) -> SubscriptionNow:
    """The subscription as Stripe has it now; PaymentUnavailable if it cannot be had."""
    return _subscription(ask(lambda: client().v1.subscriptions.retrieve(subscription_id)))


def change_price(subscription: Subscription, plan: Plan) -> None:
    """Begin a period of another plan at once and charge for it; PaymentRefused, and nothing changed, if that fails.

    Two clicks, or two tabs, ask from the same state of the subscription: that is the key, so one of them is done.
    """
    state = f"{int(subscription.current_period_end.timestamp())}:{subscription.refused_changes}"
    params: Any = {
        "items": [{"id": subscription.stripe_item, "price": plan.stripe_price}],
        "billing_cycle_anchor": "now",
        "proration_behavior": "none",
        "payment_behavior": "error_if_incomplete",
        "cancel_at_period_end": False,
    }
    key = f"change:{subscription.stripe_id}:{plan.pk}:{state}"
    ask(lambda: client().v1.subscriptions.update(subscription.stripe_id, params, {"idempotency_key": key}))


def end_with_period(subscription_id: str) -> None:
    """Let a subscription run out with the period that is paid."""
    params: Any = {"cancel_at_period_end": True}
    ask(lambda: client().v1.subscriptions.update(subscription_id, params))


def go_on(subscription_id: str) -> None:
    """Take back that it ends, whether with its period or, as the dashboard can have it, on a day."""
    found = ask(lambda: client().v1.subscriptions.retrieve(subscription_id))
    on_a_day = found.cancel_at and not found.cancel_at_period_end
    params: Any = {"cancel_at": ""} if on_a_day else {"cancel_at_period_end": False}
    ask(lambda: client().v1.subscriptions.update(subscription_id, params))


def cancel_subscription(subscription_id: str) -> None:
    """End it at once. RequestRefused if it has ended, or never was."""
    ask(lambda: client().v1.subscriptions.cancel(subscription_id))


def retrieve_invoice(invoice_id: str) -> Invoice:
    """The invoice as Stripe has it now; PaymentUnavailable if it cannot be had."""
    params: Any = {"expand": ["payments"]}
    found = ask(lambda: client().v1.invoices.retrieve(invoice_id, params)).to_dict()
    parent = (found.get("parent") or {}).get("subscription_details") or {}
    paid = found.get("status") == "paid"
    return Invoice(
        id=found["id"],
        is_paid=paid,
        customer=found.get("customer") or "",
        subscription=parent.get("subscription") or "",
        amount_paid=found.get("amount_paid") or 0,
        amount_due=found.get("amount_due") or 0,
        currency=found.get("currency") or "",
        lines=tuple(_line(line) for line in found["lines"]["data"] if _is_of_a_period(line)),
        attempts=found.get("attempt_count") or 0,
        payment_intent=_payment_intent(found),
        page=found.get("hosted_invoice_url") or "",
    )


def invoice_of_payment(payment_intent: str) -> str:
    """The id of the invoice that a payment pays; empty if it pays none."""
    params: Any = {"payment": {"type": "payment_intent", "payment_intent": payment_intent}, "limit": 1}
    try:
        found = ask(lambda: client().v1.invoice_payments.list(params)).data
    except RequestRefused:
        return ""
    return str(found[0].to_dict().get("invoice") or "") if found else ""


def _subscription(found: stripe.Subscription) -> SubscriptionNow:
    facts = found.to_dict()
    items = facts["items"]["data"]
    if not items:
        raise PaymentUnavailable("Stripe knows this subscription, but not of what.")
    item = items[0]
    return SubscriptionNow(
        id=facts["id"],
        status=facts["status"],
        customer=facts.get("customer") or "",
        plan_checkout_id=our_id(facts.get("metadata"), "plan_checkout"),
        item=item["id"],
        price=item["price"]["id"],
        current_period_end=_at(item["current_period_end"]),
        # The portal and the dashboard may set a date instead.
        ends_with_period=bool(facts.get("cancel_at_period_end") or facts.get("cancel_at")),
        latest_invoice=facts.get("latest_invoice") or "",
    )


def _is_of_a_period(line: dict[str, Any]) -> bool:
    item = (line.get("parent") or {}).get("subscription_item_details") or {}
    priced = (line.get("pricing") or {}).get("price_details")
    return bool(item and priced and not item.get("proration"))


def _line(line: dict[str, Any]) -> Line:
    return Line(
        price=line["pricing"]["price_details"]["price"],
        amount=line["amount"],
        begins=_at(line["period"]["start"]),
        ends=_at(line["period"]["end"]),
    )


def _payment_intent(invoice: dict[str, Any]) -> str:
    """The payment that paid it; there is none if there was nothing to pay."""
    for row in (invoice.get("payments") or {}).get("data") or []:
        if row.get("status") == "paid":
            return (row.get("payment") or {}).get("payment_intent") or ""
    return ""


def _at(timestamp: int) -> datetime:
    return datetime.fromtimestamp(timestamp, UTC)
