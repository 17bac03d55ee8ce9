"""Invoices: of subscriptions, which are charged on their own, and of payments that asked for one."""

from chatapp.local.demo_stripe import billing_objects, cards, payments
from chatapp.local.demo_stripe.objects import Json, now
from chatapp.local.demo_stripe.refusals import Refusal
from chatapp.local.demo_stripe.shop import Shop

OUTCOMES = ("paid", "failed", "action_required")
RETRY_SECONDS = 3 * 24 * 60 * 60


def issue(
    shop: Shop,
    *,
    customer: str,
    billing_reason: str,
    lines: list[Json],
    start: int,
    end: int,
    subscription: Json | None = None,
    metadata: dict[str, str] | None = None,
) -> Json:
    """A finalized invoice that is not paid yet."""
    number = 1 + sum(known["customer"] == customer for known in shop.records.invoices.values())
    invoice = billing_objects.invoice(
        public_url=shop.public_url,
        customer=shop.find("customer", customer),
        number=number,
        billing_reason=billing_reason,
        lines=lines,
        subscription=subscription,
        start=start,
        end=end,
        metadata=metadata or {},
    )
    shop.records.invoices[invoice["id"]] = invoice
    if subscription:
        subscription["latest_invoice"] = invoice["id"]
    shop.emit("invoice.created", invoice)
    invoice.update(status="open", effective_at=now())
    invoice["status_transitions"]["finalized_at"] = now()
    shop.emit("invoice.finalized", invoice)
    return invoice


def collect(shop: Shop, invoice: Json, method: Json | None, *, outcome: str) -> None:
    """Charge an open invoice: `paid`, `failed` (the card is declined) or `action_required`.

    A customer without a card fails whatever the outcome was to be.
    """
    if invoice["status"] != "open":
        raise Refusal(400, f"Invoice {invoice['id']} is {invoice['status']}.")
    if outcome not in OUTCOMES:
        raise Refusal(400, f"The outcome is one of {', '.join(OUTCOMES)}.")
    invoice.update(attempted=True, attempt_count=invoice["attempt_count"] + 1)
    if invoice["amount_due"] == 0:
        _paid(shop, invoice)
        return
    method = method or cards.default_of(shop, invoice["customer"])
    if method is None:
        invoice["next_payment_attempt"] = now() + RETRY_SECONDS
        shop.emit("invoice.payment_failed", invoice)
        return
    payment = _payment_of(shop, invoice, method)
    intent = shop.find("payment_intent", payment["payment"]["payment_intent"])
    intent.update(payment_method=method["id"], payment_method_types=[method["type"]])
    if outcome == "paid":
        payments.receive(shop, intent)
        payment.update(status="paid", amount_paid=invoice["amount_due"])
        payment["status_transitions"]["paid_at"] = now()
        shop.emit("payment_intent.succeeded", intent)
        shop.emit("invoice_payment.paid", payment)
        _paid(shop, invoice)
        return
    invoice["next_payment_attempt"] = now() + RETRY_SECONDS
    if outcome == "failed":
        payments.decline(shop, intent)
    else:
        intent.update(status="requires_action", next_action={"type": "use_stripe_sdk", "use_stripe_sdk": {}})
        shop.emit("payment_intent.requires_action", intent)
        shop.emit("invoice.payment_action_required", invoice)
    shop.emit("invoice.payment_failed", invoice)


def bill_checkout(shop: Shop, session: Json, items: list[Json], intent: Json | None) -> None:
    """The invoice, paid already, of a Checkout session that was opened with `invoice_creation`."""
    lines = [
        billing_objects.invoice_line(
            price=item["price"],
            description=item["description"],
            quantity=item["quantity"],
            amount=item["amount_subtotal"],
            discount=item["amount_discount"],
            start=now(),
            end=now(),
            subscription_item=None,
        )
        for item in items
    ]
    invoice = issue(
        shop, customer=session["customer"], billing_reason="manual", lines=lines, start=now(), end=now()
    )
    session["invoice"] = invoice["id"]
    invoice.update(attempted=True, attempt_count=1)
    if intent:
        payment = _bind(shop, invoice, intent["id"])
        payment.update(status="paid", amount_paid=invoice["amount_due"])
        payment["status_transitions"]["paid_at"] = now()
        shop.emit("invoice_payment.paid", payment)
    _paid(shop, invoice)


def payments_of(shop: Shop, invoice: str) -> list[Json]:
    return [row for row in shop.records.invoice_payments.values() if row["invoice"] == invoice]


def _payment_of(shop: Shop, invoice: Json, method: Json) -> Json:
    for payment in payments_of(shop, invoice["id"]):
        return payment
    intent = payments.open_intent(
        shop,
        amount=invoice["amount_due"],
        currency=invoice["currency"],
        customer=invoice["customer"],
        metadata={},
        payment_method=method,
        description=f"Invoice {invoice['number']}",
        setup_future_usage="off_session",
    )
    return _bind(shop, invoice, intent["id"])


def _bind(shop: Shop, invoice: Json, intent: str) -> Json:
    payment = billing_objects.invoice_payment(invoice=invoice, payment_intent=intent)
    shop.records.invoice_payments[payment["id"]] = payment
    return payment


def _paid(shop: Shop, invoice: Json) -> None:
    invoice.update(
        status="paid",
        amount_paid=invoice["amount_due"],
        amount_remaining=0,
        next_payment_attempt=None,
    )
    invoice["status_transitions"]["paid_at"] = now()
    shop.emit("invoice.paid", invoice)
    shop.emit("invoice.payment_succeeded", invoice)
