"""The demo Stripe's prices, subscriptions and their invoices, as the real SDK sees them."""

import time
from datetime import UTC, datetime
from typing import Any

import pytest
import stripe

from chatapp.local.demo_stripe.periods import end_of
from tests.billing.own_stripe import Endpoint, Own, order


@pytest.fixture
def alice(own: Own) -> stripe.Customer:
    return own.client.v1.customers.create({"email": "alice@example.org", "name": "Alice"})


@pytest.fixture
def monthly(own: Own) -> stripe.Price:
    """$20.00 each month."""
    product = own.client.v1.products.create({"name": "Plus <b>plan</b>"})
    return own.client.v1.prices.create(price(product.id, lookup_key="plus"))


@pytest.fixture
def subscription(own: Own, alice: stripe.Customer, monthly: stripe.Price) -> stripe.Subscription:
    """Alice's, paid for the first month."""
    session = own.buy(**subscribing(alice, monthly))
    return own.client.v1.subscriptions.retrieve(str(session.subscription))


def price(product: str, **changes: Any) -> Any:
    params = {
        "product": product,
        "currency": "usd",
        "unit_amount": 2000,
        "recurring": {"interval": "month"},
        "metadata": {"plan": "1"},
    }
    return {**params, **changes}


def subscribing(customer: stripe.Customer, price: stripe.Price, **changes: Any) -> Any:
    return {
        "mode": "subscription",
        "customer": customer.id,
        "customer_email": None,
        "payment_intent_data": None,
        "line_items": [{"price": price.id, "quantity": 1}],
        "subscription_data": {"metadata": {"user": "1"}},
        **changes,
    }


def item_of(subscription: stripe.Subscription) -> stripe.SubscriptionItem:
    # As an attribute it would be the method of a dict.
    item: stripe.SubscriptionItem = subscription["items"].data[0]
    return item


def now_is(own: Own, subscription: stripe.Subscription) -> stripe.Subscription:
    return own.client.v1.subscriptions.retrieve(subscription.id)


def latest_invoice(own: Own, subscription: stripe.Subscription) -> stripe.Invoice:
    found = now_is(own, subscription).latest_invoice
    return own.client.v1.invoices.retrieve(str(found), {"expand": ["payments"]})


def news(own: Own, endpoint: Endpoint) -> set[str]:
    """The types of events about subscriptions and invoices since the last call."""
    own.demo.idle()
    types = {type for type in endpoint.types() if type.startswith(("customer.subscription", "invoice."))}
    endpoint.received.clear()
    return types


# --- Products and prices


def test_prices_are_made_and_found(own: Own, monthly: stripe.Price) -> None:
    prices = own.client.v1.prices
    found = prices.retrieve(monthly.id, {"expand": ["product"]})
    assert found.recurring is not None
    assert (found.type, found.unit_amount, found.recurring.interval) == ("recurring", 2000, "month")
    assert isinstance(found.product, stripe.Product)
    assert found.product.name == "Plus <b>plan</b>"
    assert [row.id for row in prices.list({"lookup_keys": ["plus"]}).data] == [monthly.id]
    assert prices.list({"lookup_keys": ["other"]}).data == []

    with pytest.raises(stripe.InvalidRequestError, match="already uses that lookup key"):
        prices.create(price(found.product.id, lookup_key="plus"))
    other = prices.create(price(found.product.id, lookup_key="plus", transfer_lookup_key=True))
    assert [row.id for row in prices.list({"lookup_keys": ["plus"]}).data] == [other.id]
    assert prices.update(monthly.id, {"active": False}).active is False
    assert [row.id for row in prices.list({"active": True}).data] == [other.id]
    assert own.client.v1.products.update(found.product.id, {"name": "Pro"}).name == "Pro"


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"unit_amount": ""}, "unit_amount"),
        ({"product": "prod_none"}, "product"),
        ({"recurring": {"interval": "fortnight"}}, "recurring[interval]"),
        ({"tiers": "x"}, "tiers"),
    ],
)
def test_a_wrong_price_is_refused(own: Own, monthly: stripe.Price, changes: Any, param: str) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refused:
        own.client.v1.prices.create({**price(str(monthly.product)), **changes})
    assert refused.value.param == param


def test_a_month_is_a_calendar_month() -> None:
    def at(*date: int) -> int:
        return int(datetime(*date, 12, 30, tzinfo=UTC).timestamp())  # type: ignore[misc, arg-type]

    first = at(2027, 1, 31)
    assert end_of(first, "month", 1, anchor=first) == at(2027, 2, 28)
    assert end_of(at(2027, 2, 28), "month", 1, anchor=first) == at(2027, 3, 31)
    assert end_of(at(2027, 12, 31), "month", 2, anchor=first) == at(2028, 2, 29)
    assert end_of(at(2028, 2, 29), "year", 1, anchor=at(2028, 2, 29)) == at(2029, 2, 28)
    assert end_of(first, "week", 2, anchor=first) == at(2027, 2, 14)


# --- A subscription begins


def test_a_subscription_begins(
    own: Own, alice: stripe.Customer, monthly: stripe.Price, endpoint: Endpoint
) -> None:
    session = own.client.v1.checkout.sessions.create(order(**subscribing(alice, monthly)))
    page = own.demo.page(str(session.url))
    assert "Subscribe for $20.00 per month" in page
    assert "Pay by bank" not in page
    assert "Plus &lt;b&gt;plan" in page
    own.demo.pay(str(session.url))

    done = own.client.v1.checkout.sessions.retrieve(session.id, {"expand": ["subscription"]})
    assert (done.status, done.payment_status, done.payment_intent) == ("complete", "paid", None)
    subscription = done.subscription
    assert isinstance(subscription, stripe.Subscription)
    assert (subscription.status, subscription.customer) == ("active", alice.id)
    assert subscription.metadata.to_dict() == {"user": "1"}
    item = item_of(subscription)
    assert item.price.id == monthly.id
    assert abs(item.current_period_start - time.time()) < 60
    assert 28 <= (item.current_period_end - item.current_period_start) / (24 * 60 * 60) <= 31

    invoice = own.client.v1.invoices.retrieve(str(subscription.latest_invoice), {"expand": ["payments"]})
    assert invoice.id == done.invoice
    assert (invoice.status, invoice.billing_reason) == ("paid", "subscription_create")
    assert (invoice.amount_paid, invoice.amount_due, invoice.amount_remaining) == (2000, 2000, 0)
    assert invoice.parent is not None
    assert invoice.parent.subscription_details is not None
    assert invoice.parent.subscription_details.subscription == subscription.id
    assert invoice.parent.subscription_details.metadata is not None
    assert invoice.parent.subscription_details.metadata.to_dict() == {"user": "1"}
    (line,) = invoice.lines.data
    assert line.pricing is not None
    assert line.pricing.price_details is not None
    assert line.pricing.price_details.price == monthly.id
    assert (line.period.start, line.period.end) == (item.current_period_start, item.current_period_end)

    assert invoice.payments is not None
    intent = str(invoice.payments.data[0].payment.payment_intent)
    assert own.client.v1.payment_intents.retrieve(intent).amount_received == 2000
    of_intent: Any = {"payment": {"type": "payment_intent", "payment_intent": intent}}
    (payment,) = own.client.v1.invoice_payments.list(of_intent).data
    assert (payment.invoice, payment.status, payment.amount_paid) == (invoice.id, "paid", 2000)
    assert own.client.v1.refunds.create({"payment_intent": intent}).amount == 2000
    assert news(own, endpoint) == {
        "customer.subscription.created",
        "invoice.created",
        "invoice.finalized",
        "invoice.paid",
        "invoice.payment_succeeded",
    }


def test_the_first_month_can_be_free(own: Own, alice: stripe.Customer, monthly: stripe.Price) -> None:
    asked = order(**subscribing(alice, monthly, allow_promotion_codes=True))
    session = own.client.v1.checkout.sessions.create(asked)
    own.demo.pay(str(session.url), code="FREE")
    done = own.client.v1.checkout.sessions.retrieve(session.id, {"expand": ["invoice.payments"]})
    assert done.payment_status == "no_payment_required"
    assert isinstance(done.invoice, stripe.Invoice)
    assert (done.invoice.status, done.invoice.subtotal, done.invoice.amount_paid) == ("paid", 2000, 0)
    assert done.invoice.payments is not None
    assert done.invoice.payments.data == []
    own.demo.renew(str(done.subscription))
    assert own.client.v1.invoices.list({"limit": 1}).data[0].amount_paid == 2000


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"mode": "payment", "subscription_data": None}, "line_items"),
        ({"line_items": [{"price": "price_none"}]}, "line_items[0][price]"),
        ({"payment_intent_data": {"metadata": {"a": "b"}}}, "payment_intent_data"),
        ({"invoice_creation": {"enabled": True}}, "invoice_creation"),
    ],
)
def test_a_wrong_subscription_is_refused(
    own: Own, alice: stripe.Customer, monthly: stripe.Price, changes: Any, param: str
) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refused:
        own.client.v1.checkout.sessions.create(order(**subscribing(alice, monthly, **changes)))
    assert refused.value.param == param


# --- It goes on


def test_the_next_period_is_paid(own: Own, subscription: stripe.Subscription, endpoint: Endpoint) -> None:
    first = item_of(subscription)
    news(own, endpoint)
    own.demo.renew(subscription.id)
    second = item_of(now_is(own, subscription))
    assert second.current_period_start == first.current_period_end
    invoice = latest_invoice(own, subscription)
    assert (invoice.billing_reason, invoice.status) == ("subscription_cycle", "paid")
    assert invoice.lines.data[0].period.start == second.current_period_start
    assert news(own, endpoint) == {
        "customer.subscription.updated",
        "invoice.created",
        "invoice.finalized",
        "invoice.paid",
        "invoice.payment_succeeded",
    }
    listed = own.client.v1.invoices.list({"subscription": subscription.id, "limit": 1, "status": "paid"})
    reasons = [row.billing_reason for row in listed.auto_paging_iter()]
    assert reasons == ["subscription_cycle", "subscription_create"]
    assert own.client.v1.invoices.list({"created": {"gte": int(time.time()) + 60}}).data == []
    assert own.client.v1.invoices.list({"customer": "cus_none"}).data == []


@pytest.mark.parametrize(
    ("outcome", "told"),
    [
        ("failed", {"invoice.payment_failed"}),
        ("action_required", {"invoice.payment_failed", "invoice.payment_action_required"}),
    ],
)
def test_a_period_is_not_paid_at_first(
    own: Own, subscription: stripe.Subscription, endpoint: Endpoint, outcome: str, told: set[str]
) -> None:
    news(own, endpoint)
    own.demo.renew(subscription.id, outcome=outcome)
    assert now_is(own, subscription).status == "past_due"
    invoice = latest_invoice(own, subscription)
    assert (invoice.status, invoice.attempt_count, invoice.amount_paid) == ("open", 1, 0)
    assert news(own, endpoint) == told | {
        "customer.subscription.updated",
        "invoice.created",
        "invoice.finalized",
    }

    own.demo.pay_invoice(invoice.id, outcome="failed")
    assert latest_invoice(own, subscription).attempt_count == 2
    assert news(own, endpoint) == {"invoice.payment_failed"}

    assert "Pay $20.00" in own.demo.page(str(invoice.hosted_invoice_url))
    own.demo.act(str(invoice.hosted_invoice_url), "pay")
    assert now_is(own, subscription).status == "active"
    paid = latest_invoice(own, subscription)
    assert (paid.id, paid.status, paid.attempt_count) == (invoice.id, "paid", 3)
    assert paid.payments is not None
    assert [row.status for row in paid.payments.data] == ["paid"]
    assert news(own, endpoint) == {
        "customer.subscription.updated",
        "invoice.paid",
        "invoice.payment_succeeded",
    }
    with pytest.raises(ValueError, match="is paid"):
        own.demo.pay_invoice(invoice.id)


def test_a_renewal_meets_the_card_as_it_is(own: Own, subscription: stripe.Subscription) -> None:
    own.demo.off_session("card_declined")
    own.demo.renew(subscription.id)
    assert now_is(own, subscription).status == "past_due"
    own.demo.cancel(subscription.id, reason="payment_failed")
    ended = now_is(own, subscription)
    assert ended.cancellation_details is not None
    assert (ended.status, ended.cancellation_details.reason) == ("canceled", "payment_failed")


def test_without_a_card_a_renewal_is_not_paid(own: Own, subscription: stripe.Subscription) -> None:
    own.client.v1.payment_methods.detach(str(subscription.default_payment_method))
    own.demo.renew(subscription.id)
    assert now_is(own, subscription).status == "past_due"
    invoice = latest_invoice(own, subscription)
    assert invoice.status == "open"
    own.demo.add_card(str(subscription.customer))
    own.demo.pay_invoice(invoice.id)
    assert now_is(own, subscription).status == "active"


# --- It changes


@pytest.fixture
def yearly(own: Own, monthly: stripe.Price) -> stripe.Price:
    """$200.00 each year."""
    return own.client.v1.prices.create(
        price(str(monthly.product), unit_amount=20_000, recurring={"interval": "year"})
    )


def to(item: stripe.SubscriptionItem, price: stripe.Price, **changes: Any) -> Any:
    return {
        "items": [{"id": item.id, "price": price.id}],
        "billing_cycle_anchor": "now",
        "proration_behavior": "none",
        **changes,
    }


def test_a_plan_is_changed_at_once(
    own: Own, subscription: stripe.Subscription, yearly: stripe.Price, endpoint: Endpoint
) -> None:
    news(own, endpoint)
    params = to(item_of(subscription), yearly, metadata={"plan": "yearly"})
    changed = own.client.v1.subscriptions.update(subscription.id, params)
    item = item_of(changed)
    assert item.price.id == yearly.id
    assert (item.current_period_end - item.current_period_start) / (24 * 60 * 60) in {365, 366}
    assert changed.metadata.to_dict() == {"user": "1", "plan": "yearly"}
    invoice = latest_invoice(own, subscription)
    assert (invoice.billing_reason, invoice.amount_paid) == ("subscription_update", 20_000)
    own.demo.idle()
    (event,) = [event for event in endpoint.received if event.type == "customer.subscription.updated"]
    before = event.data.previous_attributes
    assert before is not None
    assert before["items"]["data"][0]["price"]["id"] != yearly.id


def test_a_plan_is_changed_from_the_next_period_on(
    own: Own, subscription: stripe.Subscription, yearly: stripe.Price
) -> None:
    before = latest_invoice(own, subscription)
    own.demo.change_plan(subscription.id, yearly.id, now=False)
    assert item_of(now_is(own, subscription)).current_period_end == item_of(subscription).current_period_end
    assert latest_invoice(own, subscription).id == before.id
    own.demo.renew(subscription.id)
    assert latest_invoice(own, subscription).amount_paid == 20_000


def test_a_change_that_cannot_be_paid(
    own: Own, subscription: stripe.Subscription, yearly: stripe.Price
) -> None:
    own.demo.off_session("card_declined")
    whole = to(item_of(subscription), yearly, payment_behavior="error_if_incomplete")
    with pytest.raises(stripe.CardError):
        own.client.v1.subscriptions.update(subscription.id, whole)
    assert item_of(now_is(own, subscription)).price.id != yearly.id

    changed = own.client.v1.subscriptions.update(subscription.id, to(item_of(subscription), yearly))
    assert (changed.status, item_of(changed).price.id) == ("past_due", yearly.id)
    assert latest_invoice(own, subscription).status == "open"


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"items": [{"id": "si_none", "price": "price"}]}, "items[0][price]"),
        ({"proration_behavior": "always_invoice"}, "proration_behavior"),
        ({"billing_cycle_anchor": "never"}, "billing_cycle_anchor"),
        ({"coupon": "x"}, "coupon"),
    ],
)
def test_a_wrong_change_is_refused(
    own: Own, subscription: stripe.Subscription, yearly: stripe.Price, changes: Any, param: str
) -> None:
    params = to(item_of(subscription), yearly, **changes)
    with pytest.raises(stripe.InvalidRequestError) as refused:
        own.client.v1.subscriptions.update(subscription.id, params)
    assert refused.value.param == param


# --- It ends


def test_it_runs_out_or_is_taken_up_again(
    own: Own, subscription: stripe.Subscription, endpoint: Endpoint
) -> None:
    news(own, endpoint)
    subscriptions = own.client.v1.subscriptions
    ending = subscriptions.update(subscription.id, {"cancel_at_period_end": True})
    assert (ending.status, ending.cancel_at) == ("active", item_of(subscription).current_period_end)
    own.demo.resume(subscription.id)
    again = now_is(own, subscription)
    assert (again.cancel_at_period_end, again.cancel_at, again.canceled_at) == (False, None, None)
    assert news(own, endpoint) == {"customer.subscription.updated"}

    own.demo.cancel(subscription.id, at_period_end=True)
    own.demo.renew(subscription.id)
    ended = now_is(own, subscription)
    assert ended.status == "canceled"
    assert ended.ended_at is not None
    assert latest_invoice(own, subscription).billing_reason == "subscription_create"
    assert news(own, endpoint) == {"customer.subscription.updated", "customer.subscription.deleted"}


def test_it_is_canceled_at_once(own: Own, subscription: stripe.Subscription, alice: stripe.Customer) -> None:
    subscriptions = own.client.v1.subscriptions
    assert [row.id for row in subscriptions.list({"customer": alice.id}).data] == [subscription.id]
    assert subscriptions.cancel(subscription.id).status == "canceled"
    assert subscriptions.list({"customer": alice.id}).data == []
    assert len(subscriptions.list({"customer": alice.id, "status": "all"}).data) == 1
    for act in (subscriptions.cancel, lambda id: subscriptions.update(id, {"cancel_at_period_end": True})):
        with pytest.raises(stripe.InvalidRequestError, match="No such subscription"):
            act(subscription.id)


def test_it_is_paused_and_resumed(own: Own, subscription: stripe.Subscription, endpoint: Endpoint) -> None:
    news(own, endpoint)
    own.demo.pause(subscription.id)
    assert now_is(own, subscription).status == "paused"
    own.demo.resume(subscription.id)
    assert now_is(own, subscription).status == "active"
    assert news(own, endpoint) == {
        "customer.subscription.paused",
        "customer.subscription.resumed",
        "customer.subscription.updated",
    }
