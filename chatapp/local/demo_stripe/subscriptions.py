"""Subscriptions: begun on the hosted page, renewed each period, changed, not paid for, ended, taken up again."""

import copy

from chatapp.local.demo_stripe import billing_objects, cards, invoices
from chatapp.local.demo_stripe.objects import Json, now
from chatapp.local.demo_stripe.periods import end_of
from chatapp.local.demo_stripe.refusals import Refusal, no_such
from chatapp.local.demo_stripe.shop import Shop

# What the card does when it is charged without the buyer, as an outcome of charging an invoice.
OUTCOMES = {"succeeded": "paid", "authentication_required": "action_required"}
ENDED = ("canceled", "incomplete_expired")


def begin(shop: Shop, session: Json, items: list[Json], plan: Json) -> Json:
    """Paid for by card on the hosted page: active at once, with its first invoice."""
    customer = session["customer"]
    method = cards.add(shop, customer)
    subscription = billing_objects.subscription(
        customer=customer, currency=session["currency"], payment_method=method["id"], **plan
    )
    start = subscription["billing_cycle_anchor"]
    subscription["items"]["data"] = [
        billing_objects.subscription_item(
            subscription=subscription["id"],
            price=item["price"],
            quantity=item["quantity"],
            start=start,
            end=_period_end(shop, item["price"], start, start),
        )
        for item in items
    ]
    subscription["items"]["total_count"] = len(items)
    shop.records.subscriptions[subscription["id"]] = subscription
    session["subscription"] = subscription["id"]
    shop.emit("customer.subscription.created", subscription)
    invoice = _invoice(
        shop, subscription, "subscription_create", discounts=[item["amount_discount"] for item in items]
    )
    session["invoice"] = invoice["id"]
    invoices.collect(shop, invoice, method, outcome="paid")
    _wait_for_the_end(shop, subscription)
    return subscription


def renew(shop: Shop, id: str, *, outcome: str | None = None) -> Json:
    """The next period begins now, whenever it was to begin: its dates follow those of the one before.

    Without an `outcome` (`paid`, `failed` or `action_required`) the card does what `/demo/cards` says.
    """
    subscription = living(shop, id)
    if subscription["cancel_at_period_end"]:
        return end(shop, id)
    before = copy.deepcopy(subscription)
    for item in subscription["items"]["data"]:
        start = item["current_period_end"]
        item["current_period_start"] = start
        item["current_period_end"] = _period_end(
            shop, item["price"], start, subscription["billing_cycle_anchor"]
        )
    invoice = _invoice(shop, subscription, "subscription_cycle", before=before)
    _collect(shop, subscription, invoice, outcome)
    _tell_of_update(shop, subscription, before)
    _wait_for_the_end(shop, subscription)
    return subscription


def pay_invoice(shop: Shop, invoice_id: str, *, outcome: str = "paid") -> Json:
    """Charge an open invoice once more; the subscription that waited for it is active again."""
    invoice = shop.find("invoice", invoice_id)
    id = invoice["parent"] and invoice["parent"]["subscription_details"]["subscription"]
    if not id:
        invoices.collect(shop, invoice, None, outcome=outcome)
        return invoice
    subscription = shop.find("subscription", id)
    before = copy.deepcopy(subscription)
    if subscription["status"] in ENDED:
        invoices.collect(shop, invoice, None, outcome=outcome)
    else:
        _collect(shop, subscription, invoice, outcome)
    _tell_of_update(shop, subscription, before)
    return invoice


def change(
    shop: Shop,
    id: str,
    *,
    prices: dict[str, Json],
    now_anchored: bool,
    metadata: dict[str, str],
    cancel_at_period_end: bool | None = None,
    default_payment_method: str | None = None,
    fail_whole: bool = False,
) -> Json:
    """Another price for items, by the item's id. `now_anchored` begins a new period at once and charges it whole;
    without it the new price counts from the next period on. Nothing is prorated.

    `fail_whole`: if the card is refused, nothing is changed (Refusal 402).
    """
    subscription = living(shop, id)
    if now_anchored and fail_whole and shop.off_session != "succeeded":
        raise Refusal(402, "Your card was declined.", type="card_error", code=shop.off_session)
    if default_payment_method:
        cards.owned(shop, default_payment_method, subscription["customer"], param="default_payment_method")
    before = copy.deepcopy(subscription)
    items = {item["id"]: item for item in subscription["items"]["data"]}
    for item_id, price in prices.items():
        items[item_id]["price"] = price
    subscription["metadata"] = {
        name: value for name, value in {**subscription["metadata"], **metadata}.items() if value
    }
    if default_payment_method:
        subscription["default_payment_method"] = default_payment_method
    if cancel_at_period_end is not None:
        _cancel_at_period_end(subscription, cancel_at_period_end)
    if now_anchored:
        subscription["billing_cycle_anchor"] = now()
        for item in subscription["items"]["data"]:
            item["current_period_start"] = now()
            item["current_period_end"] = _period_end(shop, item["price"], now(), now())
        if subscription["cancel_at_period_end"]:
            _cancel_at_period_end(subscription, True)
        invoice = _invoice(shop, subscription, "subscription_update")
        _collect(shop, subscription, invoice, None)
        _wait_for_the_end(shop, subscription)
    _tell_of_update(shop, subscription, before)
    return subscription


def cancel_at_period_end(shop: Shop, id: str, wanted: bool) -> Json:
    """Let it run out, or not after all."""
    return change(shop, id, prices={}, now_anchored=False, metadata={}, cancel_at_period_end=wanted)


def end(shop: Shop, id: str, *, reason: str = "cancellation_requested") -> Json:
    """Cancel at once."""
    subscription = living(shop, id)
    subscription.update(status="canceled", ended_at=now(), canceled_at=subscription["canceled_at"] or now())
    subscription["cancellation_details"]["reason"] = reason
    shop.emit("customer.subscription.deleted", subscription)
    return subscription


def pause(shop: Shop, id: str) -> Json:
    """No more periods until it is resumed."""
    subscription = living(shop, id)
    before = copy.deepcopy(subscription)
    subscription["status"] = "paused"
    shop.emit("customer.subscription.paused", subscription)
    _tell_of_update(shop, subscription, before)
    return subscription


def resume(shop: Shop, id: str) -> Json:
    """Take up again what was paused, or was to run out."""
    subscription = living(shop, id)
    if subscription["status"] != "paused":
        return cancel_at_period_end(shop, id, False)
    before = copy.deepcopy(subscription)
    subscription["status"] = "active"
    shop.emit("customer.subscription.resumed", subscription)
    _tell_of_update(shop, subscription, before)
    _wait_for_the_end(shop, subscription)
    return subscription


def living(shop: Shop, id: str) -> Json:
    """The subscription, if it has not ended: Stripe then no longer knows it for changes."""
    subscription = shop.find("subscription", id)
    if subscription["status"] in ENDED:
        raise no_such("subscription", id)
    return subscription


def go_on(shop: Shop) -> None:
    """Periods that a run before this one began."""
    for subscription in shop.records.subscriptions.values():
        if subscription["status"] not in ENDED:
            _wait_for_the_end(shop, subscription)


def _period_end(shop: Shop, price: Json, start: int, anchor: int) -> int:
    if shop.period_seconds is not None:
        return start + shop.period_seconds
    recurring = price["recurring"]
    return end_of(start, recurring["interval"], recurring["interval_count"], anchor=anchor)


def _invoice(
    shop: Shop,
    subscription: Json,
    reason: str,
    *,
    discounts: list[int] | None = None,
    before: Json | None = None,
) -> Json:
    """For the current period of every item. The invoice itself looks back on the period before."""
    items = subscription["items"]["data"]
    lines = [
        billing_objects.invoice_line(
            price=item["price"],
            description=f"{item['quantity']} × {shop.find('product', item['price']['product'])['name']}",
            quantity=item["quantity"],
            amount=item["price"]["unit_amount"] * item["quantity"],
            discount=discount,
            start=item["current_period_start"],
            end=item["current_period_end"],
            subscription_item=item,
        )
        for item, discount in zip(items, discounts or [0] * len(items), strict=True)
    ]
    start = before["items"]["data"][0]["current_period_start"] if before else now()
    return invoices.issue(
        shop,
        customer=subscription["customer"],
        billing_reason=reason,
        lines=lines,
        start=start,
        end=items[0]["current_period_start"],
        subscription=subscription,
    )


def _collect(shop: Shop, subscription: Json, invoice: Json, outcome: str | None) -> None:
    method = shop.find("payment_method", subscription["default_payment_method"])
    kept = method["customer"] is not None
    outcome = outcome or OUTCOMES.get(shop.off_session, "failed")
    invoices.collect(shop, invoice, method if kept else None, outcome=outcome)
    if subscription["status"] != "paused":
        subscription["status"] = "active" if invoice["status"] == "paid" else "past_due"


def _cancel_at_period_end(subscription: Json, wanted: bool) -> None:
    end = subscription["items"]["data"][0]["current_period_end"]
    subscription.update(
        cancel_at_period_end=wanted, cancel_at=end if wanted else None, canceled_at=now() if wanted else None
    )
    subscription["cancellation_details"]["reason"] = "cancellation_requested" if wanted else None


def _tell_of_update(shop: Shop, subscription: Json, before: Json) -> None:
    previous = {name: value for name, value in before.items() if value != subscription[name]}
    if previous:
        shop.emit("customer.subscription.updated", subscription, previous=previous)


def _wait_for_the_end(shop: Shop, subscription: Json) -> None:
    due = subscription["items"]["data"][0]["current_period_end"]
    shop.at(due, _renew_when_due, subscription["id"])


def _renew_when_due(shop: Shop, id: str) -> None:
    subscription = shop.records.subscriptions.get(id)
    if not subscription or subscription["status"] in {*ENDED, "paused"}:
        return
    if subscription["items"]["data"][0]["current_period_end"] <= now():
        renew(shop, id)
