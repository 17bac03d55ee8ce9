"""The API's payment intents, charges, refunds and disputes."""

from chatapp.local.demo_stripe import cards, payments, refunds
from chatapp.local.demo_stripe.lists import matching, page
from chatapp.local.demo_stripe.objects import Json
from chatapp.local.demo_stripe.params import Params
from chatapp.local.demo_stripe.refusals import Refusal, invalid, missing
from chatapp.local.demo_stripe.shop import Shop

LEAST_AMOUNT = 50


def create_intent(shop: Shop, id: str, asked: Params) -> Json:
    """Only as an off-session payment that is confirmed in the same call: others belong to a page of ours."""
    amount = asked.integer("amount")
    if amount is None:
        raise missing("amount")
    currency = asked.required("currency").lower()
    customer, method = asked.text("customer"), asked.text("payment_method")
    confirm, off_session = asked.boolean("confirm"), asked.boolean("off_session")
    description, metadata = asked.text("description"), asked.metadata()
    automatic = asked.hash("automatic_payment_methods")
    if automatic:
        automatic.boolean("enabled")
        automatic.text("allow_redirects")
        automatic.no_more()
    asked.strings("payment_method_types")
    asked.text("statement_descriptor_suffix")
    asked.no_more()
    if len(currency) != 3:
        raise invalid("currency", f"Invalid currency: {currency}")
    if not (confirm and off_session):
        raise invalid(
            "confirm", "Demo Stripe only has payment intents with confirm=true and off_session=true."
        )
    if amount < LEAST_AMOUNT:
        raise Refusal(400, "Amount must be at least 50 cents.", code="amount_too_small", param="amount")
    if not customer:
        raise missing("customer")
    shop.find("customer", customer, param="customer")
    if not method:
        raise Refusal(
            400,
            "You cannot confirm this PaymentIntent because it's missing a payment method.",
            code="payment_intent_unexpected_state",
        )
    intent = payments.open_intent(
        shop,
        amount=amount,
        currency=currency,
        customer=customer,
        metadata=metadata,
        description=description,
        payment_method=cards.owned(shop, method, customer, param="payment_method"),
    )
    payments.charge_off_session(shop, intent)
    return intent


def retrieve_intent(shop: Shop, id: str, asked: Params) -> Json:
    asked.no_more()
    return shop.find("payment_intent", id)


def list_intents(shop: Shop, id: str, asked: Params) -> Json:
    rows = matching(asked, shop.records.payment_intents.values(), "customer")
    return page(asked, rows, url="/v1/payment_intents")


def cancel_intent(shop: Shop, id: str, asked: Params) -> Json:
    reason = asked.text("cancellation_reason")
    asked.no_more()
    return payments.cancel(shop, shop.find("payment_intent", id), reason)


def retrieve_charge(shop: Shop, id: str, asked: Params) -> Json:
    asked.no_more()
    return shop.find("charge", id)


def list_charges(shop: Shop, id: str, asked: Params) -> Json:
    rows = matching(asked, shop.records.charges.values(), "payment_intent", "customer")
    return page(asked, rows, url="/v1/charges")


def create_refund(shop: Shop, id: str, asked: Params) -> Json:
    charge_id, intent_id = asked.text("charge"), asked.text("payment_intent")
    amount, reason, metadata = asked.integer("amount"), asked.text("reason"), asked.metadata()
    asked.no_more()
    if charge_id:
        charge = shop.find("charge", charge_id, param="charge")
        if intent_id and charge["payment_intent"] != intent_id:
            raise invalid("payment_intent", f"Charge {charge_id} does not belong to {intent_id}.")
    elif intent_id:
        charge = payments.charge_of(shop, shop.find("payment_intent", intent_id, param="payment_intent"))
    else:
        raise Refusal(
            400,
            "One of the following params should be provided for this request: payment_intent or charge.",
        )
    return refunds.create(shop, charge, amount=amount, reason=reason, metadata=metadata)


def retrieve_refund(shop: Shop, id: str, asked: Params) -> Json:
    asked.no_more()
    return shop.find("refund", id)


def list_refunds(shop: Shop, id: str, asked: Params) -> Json:
    rows = matching(asked, shop.records.refunds.values(), "payment_intent", "charge")
    return page(asked, rows, url="/v1/refunds")


def retrieve_dispute(shop: Shop, id: str, asked: Params) -> Json:
    asked.no_more()
    return shop.find("dispute", id)


def list_disputes(shop: Shop, id: str, asked: Params) -> Json:
    rows = matching(asked, shop.records.disputes.values(), "payment_intent", "charge")
    return page(asked, rows, url="/v1/disputes")


CALLS = [
    ("POST", "/v1/payment_intents", create_intent),
    ("GET", "/v1/payment_intents", list_intents),
    ("GET", "/v1/payment_intents/{id}", retrieve_intent),
    ("POST", "/v1/payment_intents/{id}/cancel", cancel_intent),
    ("GET", "/v1/charges", list_charges),
    ("GET", "/v1/charges/{id}", retrieve_charge),
    ("POST", "/v1/refunds", create_refund),
    ("GET", "/v1/refunds", list_refunds),
    ("GET", "/v1/refunds/{id}", retrieve_refund),
    ("GET", "/v1/disputes", list_disputes),
    ("GET", "/v1/disputes/{id}", retrieve_dispute),
]
