"""Checkout: Stripe's pages on which a person pays once, or subscribes."""

from dataclasses import dataclass
from typing import Any

from billing.credits import to_credits
from billing.errors import PaymentUnavailable, RequestRefused
from billing.models import Customer, Order, PlanCheckout
from billing.models.plans import CHECKOUT_LASTS
from billing.stripe_gateway.client import ask, client, our_id


@dataclass(frozen=True, slots=True)
class Session:
    """A Checkout session as it is at Stripe now.

    `status` is open, complete or expired; `payment_status` is paid, unpaid or no_payment_required. `order_id`
    is the one that we gave it, or empty: a session that we did not open, as of a Payment Link, has none. The same
    goes for `plan_checkout_id`. `payment_method` and `card` are there if Stripe keeps what was paid with for later.
    """

    id: str
    status: str
    payment_status: str
    order_id: str
    payment_intent: str
    amount_total: int
    currency: str
    amount_subtotal: int | None = None
    plan_checkout_id: str = ""
    subscription: str = ""
    invoice: str = ""
    payment_method: str = ""
    card: str = ""

    @property
    def is_paid(self) -> bool:
        # A promotion code can take the whole price away: then nothing is owed and the goods are still due.
        # Of a session that is open or has expired, nothing was ordered.
        return self.status == "complete" and self.payment_status in {"paid", "no_payment_required"}


def create_checkout(
    order: Order, *, customer: Customer | None, email: str, success_url: str, cancel_url: str
) -> tuple[str, str]:
    """Open a hosted payment page for a stored order: (session id, its URL). PaymentUnavailable if that fails.

    Without a `customer` the page is filled in with `email`.

    Asking again for the same order and customer, at once or after a lost answer, gives the same session. `success_url`
    is sent with `{CHECKOUT_SESSION_ID}` in it, which Stripe fills in.
    """
    order_id = str(order.id)
    # Refunds and disputes are told of payments, not of sessions: this leads them back to the order.
    payment: dict[str, Any] = {"metadata": {"order": order_id}}
    if order.keeps_card:
        payment["setup_future_usage"] = "off_session"
    params: Any = {
        "mode": "payment",
        "client_reference_id": order_id,
        **({"customer": customer.stripe_id} if customer else {"customer_email": email}),
        "metadata": {"order": order_id},
        "payment_intent_data": payment,
        "invoice_creation": {"enabled": True},
        "allow_promotion_codes": True,
        "line_items": [
            {
                "quantity": 1,
                "price_data": {
                    "currency": order.currency,
                    "unit_amount": order.amount_cents,
                    "product_data": {
                        "name": f"{to_credits(order.credits_microcredits).normalize():,f} credits"
                    },
                },
            }
        ],
        "success_url": success_url,
        "cancel_url": cancel_url,
        "expires_at": int((order.created_at + CHECKOUT_LASTS).timestamp()),
    }
    return _open(params, key=f"checkout:{order_id}:{customer.stripe_id if customer else ''}")


def create_plan_checkout(
    visit: PlanCheckout, *, customer: Customer, success_url: str, cancel_url: str
) -> tuple[str, str]:
    """The same for a plan whose price Stripe knows: who pays there has a subscription."""
    visit_id = str(visit.id)
    params: Any = {
        "mode": "subscription",
        "client_reference_id": visit_id,
        "customer": customer.stripe_id,
        "metadata": {"plan_checkout": visit_id},
        # What Stripe tells of the subscription and its invoices leads back to who began it.
        "subscription_data": {"metadata": {"plan_checkout": visit_id}},
        "allow_promotion_codes": True,
        "line_items": [{"quantity": 1, "price": visit.plan.stripe_price}],
        "success_url": success_url,
        "cancel_url": cancel_url,
        "expires_at": int((visit.created_at + CHECKOUT_LASTS).timestamp()),
    }
    return _open(params, key=f"subscribe:{visit_id}:{customer.stripe_id}")


def retrieve_session(session_id: str) -> Session:
    """The session as Stripe has it now; PaymentUnavailable if it cannot be had."""
    if not session_id:
        raise PaymentUnavailable("Stripe did not say which checkout this is.")
    params: Any = {"expand": ["payment_intent.payment_method"]}
    found = ask(lambda: client().v1.checkout.sessions.retrieve(session_id, params)).to_dict()
    if found.get("id") != session_id:
        raise PaymentUnavailable("Stripe answered with another checkout than was asked for.")
    return session_in(found)


def close_session(session_id: str) -> Session:
    """Close a page on which nobody has paid yet: the session as it is then, paid or not, and never open.

    PaymentUnavailable if Stripe leaves it open, or cannot say; NotThere if it does not know it.
    """
    try:
        ask(lambda: client().v1.checkout.sessions.expire(session_id))
    except RequestRefused:
        # As it does with what was over already; but also when it does not take our key.
        session = retrieve_session(session_id)
        if session.status == "open":
            raise
        return session
    return retrieve_session(session_id)


def session_in(found: dict[str, Any]) -> Session:
    """A session from its object."""
    payment = _expanded(found.get("payment_intent"))
    is_kept = payment.get("setup_future_usage") == "off_session"
    kept = _expanded(payment.get("payment_method")) if is_kept else {}
    return Session(
        id=found["id"],
        status=found.get("status") or "",
        payment_status=found.get("payment_status") or "",
        order_id=_named(found, "order"),
        payment_intent=payment.get("id") or "",
        amount_total=found.get("amount_total") or 0,
        currency=found.get("currency") or "",
        amount_subtotal=found.get("amount_subtotal"),
        plan_checkout_id=_named(found, "plan_checkout"),
        subscription=found.get("subscription") or "",
        invoice=found.get("invoice") or "",
        payment_method=kept.get("id") or "",
        card=card_label(kept),
    )


def card_label(method: dict[str, Any]) -> str:
    """What its owner knows a payment method by, such as "Visa 4242"; empty for none."""
    kind = str(method.get("type") or "")
    details = method.get(kind) or {}
    name = details.get("brand") or details.get("bank_name") or kind.replace("_", " ")
    return f"{str(name).title()} {details.get('last4') or ''}".strip()[:60]


def _expanded(found: Any) -> dict[str, Any]:
    """An object that we asked to have in full; where a key may not read it, Stripe leaves its id."""
    return {"id": found} if isinstance(found, str) else found or {}


def _open(params: Any, *, key: str) -> tuple[str, str]:
    made = ask(lambda: client().v1.checkout.sessions.create(params, {"idempotency_key": key}))
    if not made.url:
        raise PaymentUnavailable("This checkout is over. Choose once more.")
    return made.id, made.url


def _named(session: dict[str, Any], kind: str) -> str:
    # Whoever follows a Payment Link can set its client_reference_id in the URL, and so name an order while
    # paying for something cheaper. Metadata only we can set.
    named = our_id(session.get("metadata"), kind)
    return named if named == session.get("client_reference_id") else ""
