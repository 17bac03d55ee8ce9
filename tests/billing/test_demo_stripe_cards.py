"""The demo Stripe's promotion codes, invoices of single payments, saved cards and payments without the buyer."""

from typing import Any

import pytest
import stripe

from tests.billing.own_stripe import Endpoint, Own, order

CODES: Any = {"allow_promotion_codes": True}


@pytest.fixture
def alice(own: Own) -> stripe.Customer:
    return own.client.v1.customers.create({"email": "alice@example.org", "name": "Alice"})


@pytest.fixture
def card(own: Own, alice: stripe.Customer) -> str:
    """Alice's saved card."""
    return str(own.demo.add_card(alice.id)["id"])


# --- Promotion codes


def test_half_of_the_price(own: Own) -> None:
    session = own.client.v1.checkout.sessions.create(order(**CODES))
    url = str(session.url)
    assert "Promotion code" in own.demo.page(url)
    assert own.demo.act(url, "code", code=" half ") == f"/c/pay/{session.id}"
    page = own.demo.page(url)
    assert "Pay $2.50" in page
    assert "−$2.50" in page

    assert own.demo.act(url, "pay") == f"http://shop.test/back?id={session.id}"

    paid = own.client.v1.checkout.sessions.retrieve(
        session.id, {"expand": ["payment_intent", "line_items", "discounts.promotion_code"]}
    )
    assert (paid.payment_status, paid.amount_subtotal, paid.amount_total) == ("paid", 500, 250)
    assert paid.total_details is not None
    assert paid.total_details.amount_discount == 250
    assert isinstance(paid.payment_intent, stripe.PaymentIntent)
    assert (paid.payment_intent.amount, paid.payment_intent.amount_received) == (250, 250)
    assert paid.line_items is not None
    assert paid.line_items.data[0].amount_total == 250
    assert paid.discounts is not None
    assert isinstance(paid.discounts[0].promotion_code, stripe.PromotionCode)
    assert paid.discounts[0].promotion_code.code == "HALF"


def test_all_of_the_price(own: Own, endpoint: Endpoint) -> None:
    session = own.client.v1.checkout.sessions.create(order(**CODES))
    own.demo.pay(str(session.url), code="FREE")
    done = own.client.v1.checkout.sessions.retrieve(session.id)
    assert (done.status, done.payment_status, done.amount_total) == ("complete", "no_payment_required", 0)
    assert done.payment_intent is None
    assert own.client.v1.payment_intents.list().data == []
    own.demo.idle()
    assert endpoint.types() == ["checkout.session.completed"]


def test_a_code_can_be_taken_back(own: Own) -> None:
    session = own.client.v1.checkout.sessions.create(order(**CODES))
    for code in ("FREE", ""):
        own.demo.act(str(session.url), "code", code=code)
    found = own.client.v1.checkout.sessions.retrieve(session.id)
    assert (found.amount_total, found.discounts) == (500, [])


@pytest.mark.parametrize(("changes", "code"), [(CODES, "NONE"), ({}, "FREE")])
def test_a_code_that_is_none(own: Own, changes: Any, code: str) -> None:
    session = own.client.v1.checkout.sessions.create(order(**changes))
    with pytest.raises(ValueError, match="no promotion code"):
        own.demo.pay(str(session.url), code=code)
    found = own.client.v1.checkout.sessions.retrieve(session.id)
    assert (found.status, found.amount_total) == ("open", 500)


# --- Invoices of single payments


def test_a_payment_with_an_invoice(own: Own, endpoint: Endpoint) -> None:
    paid = own.buy(invoice_creation={"enabled": True})
    invoice = own.client.v1.invoices.retrieve(str(paid.invoice), {"expand": ["payments", "customer"]})
    assert (invoice.status, invoice.amount_paid, invoice.billing_reason) == ("paid", 500, "manual")
    assert invoice.parent is None
    assert invoice.customer_email == "buyer@example.org"
    assert isinstance(invoice.customer, stripe.Customer)
    assert paid.customer == invoice.customer.id, "an invoice needs a customer, who was made"
    assert invoice.payments is not None
    assert invoice.payments.data[0].payment.payment_intent == paid.payment_intent
    for url in (invoice.hosted_invoice_url, invoice.invoice_pdf):
        assert "A &lt;b&gt;pack&lt;/b&gt;" in own.demo.page(str(url))
    own.demo.idle()
    assert {"invoice.created", "invoice.finalized", "invoice.paid"} <= set(endpoint.types())


def test_no_invoice_unless_asked_for(own: Own) -> None:
    assert own.buy().invoice is None
    assert own.buy().customer is None
    assert own.client.v1.invoices.list().data == []


# --- Saved cards


def test_a_card_is_kept_for_later(own: Own, alice: stripe.Customer) -> None:
    kept: Any = {"metadata": {"order": "1"}, "setup_future_usage": "off_session"}
    paid = own.buy(customer=alice.id, customer_email=None, payment_intent_data=kept)
    intent = own.client.v1.payment_intents.retrieve(str(paid.payment_intent))
    assert intent.setup_future_usage == "off_session"
    (method,) = own.client.v1.customers.payment_methods.list(alice.id).data
    assert method.id == intent.payment_method
    assert own.client.v1.payment_methods.list({"customer": alice.id, "type": "card"}).data[0].id == method.id
    found = own.client.v1.payment_methods.retrieve(method.id)
    assert found.card is not None
    assert (found.customer, found.card.brand, found.card.last4) == (alice.id, "visa", "4242")

    customers = own.client.v1.customers
    changed = customers.update(
        alice.id, {"invoice_settings": {"default_payment_method": method.id}, "metadata": {"user": "1"}}
    )
    assert changed.invoice_settings is not None
    assert changed.invoice_settings.default_payment_method == method.id
    assert changed.to_dict()["metadata"] == {"user": "1"}

    own.client.v1.payment_methods.detach(method.id)
    assert own.client.v1.payment_methods.list({"customer": alice.id}).data == []
    settings = customers.retrieve(alice.id).invoice_settings
    assert settings is not None
    assert settings.default_payment_method is None


def test_a_card_is_not_kept_unless_asked_for(own: Own, alice: stripe.Customer) -> None:
    own.buy(customer=alice.id, customer_email=None)
    assert own.client.v1.payment_methods.list({"customer": alice.id}).data == []


def test_anothers_card_is_not_taken(own: Own, card: str) -> None:
    bob = own.client.v1.customers.create({"email": "bob@example.org"})
    with pytest.raises(stripe.InvalidRequestError, match="does not belong"):
        own.client.v1.customers.update(bob.id, {"invoice_settings": {"default_payment_method": card}})
    with pytest.raises(stripe.InvalidRequestError, match="does not belong"):
        own.client.v1.payment_intents.create(top_up(bob.id, card))


# --- Payments without the buyer


def top_up(customer: str, card: str) -> Any:
    return {
        "customer": customer,
        "payment_method": card,
        "amount": 1000,
        "currency": "usd",
        "off_session": True,
        "confirm": True,
        "description": "Credits",
        "metadata": {"order": "order-2"},
    }


def test_a_card_is_charged_while_the_buyer_is_away(
    own: Own, alice: stripe.Customer, card: str, endpoint: Endpoint
) -> None:
    key: Any = {"idempotency_key": "top-up"}
    intent = own.client.v1.payment_intents.create(top_up(alice.id, card), key)
    assert (intent.status, intent.amount_received, intent.customer) == ("succeeded", 1000, alice.id)
    assert intent.to_dict()["metadata"] == {"order": "order-2"}
    assert own.client.v1.charges.retrieve(str(intent.latest_charge)).description == "Credits"
    assert own.client.v1.payment_intents.create(top_up(alice.id, card), key).id == intent.id
    assert len(own.client.v1.payment_intents.list({"customer": alice.id}).data) == 1
    own.demo.idle()
    assert len(endpoint.about("payment_intent.succeeded")) == 1


@pytest.mark.parametrize("code", ["authentication_required", "card_declined"])
def test_a_card_is_refused_while_the_buyer_is_away(
    own: Own, alice: stripe.Customer, card: str, endpoint: Endpoint, code: str
) -> None:
    own.demo.off_session(code)
    key: Any = {"idempotency_key": "top-up"}
    with pytest.raises(stripe.CardError) as refused:
        own.client.v1.payment_intents.create(top_up(alice.id, card), key)
    assert (refused.value.http_status, refused.value.code) == (402, code)
    assert refused.value.error is not None
    intent = refused.value.error.payment_intent
    assert intent is not None
    assert intent.status == "requires_payment_method"
    error = own.client.v1.payment_intents.retrieve(intent.id).last_payment_error
    assert error is not None
    assert error.code == code
    own.demo.idle()
    (told,) = endpoint.about("payment_intent.payment_failed")
    assert (told.id, told.metadata["order"]) == (intent.id, "order-2")

    own.demo.off_session("succeeded")
    with pytest.raises(stripe.CardError):
        own.client.v1.payment_intents.create(top_up(alice.id, card), key)
    assert own.client.v1.payment_intents.create(top_up(alice.id, card)).status == "succeeded"
    assert own.client.v1.payment_intents.cancel(intent.id).status == "canceled"


def test_an_answer_that_is_lost_is_had_by_its_key(own: Own, alice: stripe.Customer, card: str) -> None:
    own.demo.api_faults(lose_answer=True, path="/v1/payment_intents")
    key: Any = {"idempotency_key": "top-up"}
    with pytest.raises(stripe.APIConnectionError):
        own.client.v1.payment_intents.create(top_up(alice.id, card), key)
    intent = own.client.v1.payment_intents.create(top_up(alice.id, card), key)
    assert [row.id for row in own.client.v1.payment_intents.list({"customer": alice.id}).data] == [intent.id]


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"amount": ""}, "amount"),
        ({"amount": 49}, "amount"),
        ({"customer": ""}, "customer"),
        ({"customer": "cus_none"}, "customer"),
        ({"payment_method": "pm_none"}, "payment_method"),
        ({"confirm": False}, "confirm"),
        ({"payment_method": ""}, None),
        ({"note": "x"}, "note"),
    ],
)
def test_a_wrong_payment_is_refused(
    own: Own, alice: stripe.Customer, card: str, changes: Any, param: str | None
) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refused:
        own.client.v1.payment_intents.create({**top_up(alice.id, card), **changes})
    assert refused.value.param == param
    assert own.client.v1.payment_intents.list().data == []
