"""The life of a Checkout session, from its opening to what the bank says days later."""

from typing import Any

from chatapp.local.demo_stripe import (
    cards,
    invoices,
    money_objects,
    objects,
    payments,
    promotions,
    subscriptions,
)
from chatapp.local.demo_stripe.objects import Json, now
from chatapp.local.demo_stripe.refusals import Refusal
from chatapp.local.demo_stripe.shop import Shop


def open_session(shop: Shop, *, items: list[Json], plan: Json, expires_at: int, **facts: Any) -> Json:
    """`plan` is what is made once it is paid: facts of the payment intent, or of the subscription."""
    id = objects.new_id("cs_test_", 58)
    session = objects.checkout_session(
        id=id,
        url=f"{shop.public_url}/c/pay/{id}",
        amount=sum(item["amount_total"] for item in items),
        currency=items[0]["currency"],
        expires_at=expires_at,
        **facts,
    )
    shop.records.sessions[id] = session
    shop.records.line_items[id] = items
    shop.records.session_plans[id] = plan
    shop.at(expires_at, _expire_when_due, id)
    return session


def expire(shop: Shop, id: str) -> Json:
    session = shop.find("session", id)
    if session["status"] != "open":
        raise Refusal(
            400,
            f'Only Checkout Sessions with a status in ["open"] can be expired. '
            f"This Checkout Session has a status of `{session['status']}`.",
        )
    session.update(status="expired", url=None)
    shop.emit("checkout.session.expired", session)
    return session


def go_on(shop: Shop) -> None:
    """Deadlines of a run before this one."""
    for session in shop.records.sessions.values():
        if session["status"] == "open":
            shop.at(session["expires_at"], _expire_when_due, session["id"])
    for id, payment in shop.records.bank_payments.items():
        shop.at(payment["at"], _settle_when_due, id)


# --- What the person on the hosted page does -------------------------------------------------------------


def apply_code(shop: Shop, id: str, typed: str) -> Json:
    session = _being_paid(shop, id)
    promotions.apply(session, shop.records.line_items[id], typed)
    return session


def pay(shop: Shop, id: str) -> Json:
    """By card, or with nothing to pay after a promotion code: done at once."""
    session = _being_paid(shop, id)
    _know_the_customer(shop, session)
    if session["mode"] == "subscription":
        subscriptions.begin(shop, session, shop.records.line_items[id], shop.records.session_plans[id])
        intent = None
    elif session["amount_total"]:
        intent = _intent(shop, session, "card")
        payments.receive(shop, intent)
        _save_card(shop, intent)
    else:
        intent = None
    _complete(shop, session, "paid" if session["amount_total"] else "no_payment_required")
    if intent:
        shop.emit("payment_intent.succeeded", intent)
    _bill(shop, session, intent)
    shop.emit("checkout.session.completed", session)
    return session


def pay_by_bank(shop: Shop, id: str, *, outcome: str) -> Json:
    """A delayed method: the session completes unpaid; the bank says `succeeded` or `failed` later."""
    session = _being_paid(shop, id)
    if session["mode"] != "payment" or not session["amount_total"]:
        raise Refusal(400, "This Checkout Session cannot be paid by bank.")
    _know_the_customer(shop, session)
    intent = _intent(shop, session, "us_bank_account")
    intent["status"] = "processing"
    _complete(shop, session, "unpaid")
    due = now() + shop.bank_seconds
    shop.records.bank_payments[id] = {"at": due, "outcome": outcome}
    shop.at(due, _settle_when_due, id)
    shop.emit("payment_intent.processing", intent)
    shop.emit("checkout.session.completed", session)
    return session


def decline(shop: Shop, id: str) -> str:
    """The card is refused: the session stays open. Returns what the person is told."""
    session = _being_paid(shop, id)
    if session["mode"] == "payment" and session["amount_total"]:
        payments.decline(shop, _intent(shop, session, "card"))
    return "Your card was declined. Try another way to pay."


def settle(shop: Shop, id: str, *, outcome: str) -> Json:
    """What the bank said about a delayed payment."""
    session = shop.find("session", id)
    if shop.records.bank_payments.pop(id, None) is None:
        raise Refusal(400, f"No payment by bank is waiting for session {id}.")
    intent = shop.find("payment_intent", session["payment_intent"])
    if outcome == "succeeded":
        payments.receive(shop, intent)
        session["payment_status"] = "paid"
        shop.emit("payment_intent.succeeded", intent)
        _bill(shop, session, intent)
        shop.emit("checkout.session.async_payment_succeeded", session)
    else:
        intent["status"] = "requires_payment_method"
        intent["last_payment_error"] = objects.payment_error(
            "payment_intent_payment_attempt_failed", None, "The bank refused the debit."
        )
        shop.emit("payment_intent.payment_failed", intent)
        shop.emit("checkout.session.async_payment_failed", session)
    return session


def _being_paid(shop: Shop, id: str) -> Json:
    session = shop.find("session", id)
    if session["status"] != "open":
        raise Refusal(400, f"This Checkout Session is {session['status']}.")
    return session


def _know_the_customer(shop: Shop, session: Json) -> None:
    """An invoice, a subscription and a card to keep all belong to a customer: made now if there is none."""
    plan = shop.records.session_plans[session["id"]]
    invoice = session["invoice_creation"]
    required = session["mode"] == "subscription" or plan.get("setup_future_usage") or invoice["enabled"]
    if session["customer"] or not (required or session["customer_creation"] == "always"):
        return
    made = objects.customer(email=session["customer_email"], name="Demo Person", metadata={})
    shop.records.customers[made["id"]] = made
    session["customer"] = made["id"]
    shop.emit("customer.created", made)


def _intent(shop: Shop, session: Json, type: str) -> Json:
    method = money_objects.payment_method(type=type, email=_email(shop, session))
    shop.records.payment_methods[method["id"]] = method
    intent = shop.records.payment_intents.get(session["payment_intent"] or "")
    if intent is None:
        intent = payments.open_intent(
            shop,
            amount=session["amount_total"],
            currency=session["currency"],
            customer=session["customer"],
            payment_method=method,
            **shop.records.session_plans[session["id"]],
        )
        session["payment_intent"] = intent["id"]
    intent.update(
        amount=session["amount_total"],
        customer=session["customer"],
        last_payment_error=None,
        payment_method=method["id"],
        payment_method_types=[type],
    )
    return intent


def _save_card(shop: Shop, intent: Json) -> None:
    if intent["setup_future_usage"]:
        cards.attach(shop, shop.find("payment_method", intent["payment_method"]), intent["customer"])


def _bill(shop: Shop, session: Json, intent: Json | None) -> None:
    """The invoice of a payment that asked for one."""
    if session["mode"] == "payment" and session["invoice_creation"]["enabled"]:
        invoices.bill_checkout(shop, session, shop.records.line_items[session["id"]], intent)


def _email(shop: Shop, session: Json) -> str | None:
    if session["customer"]:
        return shop.find("customer", session["customer"])["email"]
    email: str | None = session["customer_email"]
    return email


def _complete(shop: Shop, session: Json, payment_status: str) -> None:
    session.update(
        status="complete",
        payment_status=payment_status,
        url=None,
        customer_details={
            "email": _email(shop, session),
            "name": "Demo Person",
            "phone": None,
            "tax_exempt": "none",
        },
    )


# --- Time ------------------------------------------------------------------------------------------------


def _expire_when_due(shop: Shop, id: str) -> None:
    session = shop.records.sessions.get(id)
    if session and session["status"] == "open":
        expire(shop, id)


def _settle_when_due(shop: Shop, id: str) -> None:
    if id in shop.records.bank_payments and id in shop.records.sessions:
        settle(shop, id, outcome=shop.records.bank_payments[id]["outcome"])
