"""The demo Stripe's charges, refunds and disputes, as the real SDK sees them."""

import time
from typing import Any

import pytest
import stripe

from tests.billing.own_stripe import Endpoint, Own, order
from tests.servers import wait_until


@pytest.fixture
def paid(own: Own) -> str:
    """The payment intent of a checkout of $5.00 that was paid by card."""
    return str(own.buy().payment_intent)


def charge_of(own: Own, intent: str) -> stripe.Charge:
    return own.client.v1.charges.retrieve(str(own.client.v1.payment_intents.retrieve(intent).latest_charge))


def news(own: Own, endpoint: Endpoint) -> list[str]:
    """The types of the events since the last call, sorted: they come in no promised order."""
    own.demo.idle()
    types = sorted(endpoint.types())
    endpoint.received.clear()
    return types


# --- Charges


def test_a_payment_becomes_a_charge(own: Own, paid: str) -> None:
    charge = charge_of(own, paid)
    assert (charge.amount, charge.amount_refunded, charge.refunded) == (500, 0, False)
    assert (charge.status, charge.paid, charge.disputed) == ("succeeded", True, False)
    assert charge.metadata.to_dict() == {"order": "order-1"}
    (listed,) = own.client.v1.charges.list({"payment_intent": paid}).data
    assert listed.id == charge.id
    assert own.client.v1.charges.list({"payment_intent": "pi_none"}).data == []
    assert "$5.00" in own.demo.page(str(charge.receipt_url))


def test_an_intent_comes_with_its_charge_if_asked(own: Own, paid: str) -> None:
    intent = own.client.v1.payment_intents.retrieve(paid, {"expand": ["latest_charge.refunds"]})
    assert isinstance(intent.latest_charge, stripe.Charge)
    assert intent.latest_charge.refunds is not None
    assert intent.latest_charge.refunds.data == []
    (row,) = own.client.v1.payment_intents.list({"expand": ["data.latest_charge"]}).data
    assert isinstance(row.latest_charge, stripe.Charge)
    with pytest.raises(stripe.InvalidRequestError, match="cannot be expanded"):
        own.client.v1.payment_intents.retrieve(paid, {"expand": ["amount"]})


def test_payments_are_listed_by_customer_and_time(own: Own) -> None:
    client = own.client.v1
    alice = client.customers.create({"email": "alice@example.org"})
    hers = own.buy(customer=alice.id, customer_email=None)
    others = own.buy()
    (found,) = client.payment_intents.list({"customer": alice.id}).data
    assert found.id == hers.payment_intent
    assert client.payment_intents.list({"created": {"gte": int(time.time()) + 60}}).data == []
    everything = client.payment_intents.list({"created": {"gte": int(time.time()) - 60}, "limit": 1})
    assert [row.id for row in everything.auto_paging_iter()] == [others.payment_intent, hers.payment_intent]
    complete = client.checkout.sessions.list(
        {"status": "complete", "created": {"gte": int(time.time()) - 60}, "limit": 1}
    )
    assert [row.id for row in complete.auto_paging_iter()] == [others.id, hers.id]
    (session,) = client.checkout.sessions.list({"payment_intent": str(hers.payment_intent)}).data
    assert session.id == hers.id


# --- Refunds


def test_a_refund_in_parts(own: Own, paid: str, endpoint: Endpoint) -> None:
    news(own, endpoint)
    refunds = own.client.v1.refunds
    first = refunds.create(
        {
            "payment_intent": paid,
            "amount": 200,
            "reason": "requested_by_customer",
            "metadata": {"operator": "7"},
        }
    )
    assert (first.status, first.amount, first.payment_intent) == ("succeeded", 200, paid)
    assert refunds.retrieve(first.id).to_dict()["metadata"] == {"operator": "7"}
    charge = charge_of(own, paid)
    assert (charge.amount_refunded, charge.refunded) == (200, False)
    assert news(own, endpoint) == ["charge.refunded", "refund.created"]

    rest = refunds.create({"charge": charge.id})
    assert rest.amount == 300
    charge = charge_of(own, paid)
    assert (charge.amount_refunded, charge.refunded) == (500, True)
    own.demo.idle()
    (told,) = endpoint.about("charge.refunded")
    assert (told.amount_refunded, told.refunded) == (500, True)
    listed = refunds.list({"payment_intent": paid, "limit": 1})
    assert [row.id for row in listed.auto_paging_iter()] == [rest.id, first.id]
    assert refunds.list({"charge": "ch_none"}).data == []
    assert refunds.list({"created": {"gte": int(time.time()) + 60}}).data == []


def test_no_more_is_refunded_than_was_paid(own: Own, paid: str) -> None:
    refunds = own.client.v1.refunds
    refunds.create({"payment_intent": paid, "amount": 200})
    with pytest.raises(
        stripe.InvalidRequestError, match=r"\(\$3.01\) is greater than unrefunded .* \(\$3.00"
    ):
        refunds.create({"payment_intent": paid, "amount": 301})
    refunds.create({"payment_intent": paid})
    with pytest.raises(stripe.InvalidRequestError) as refused:
        refunds.create({"payment_intent": paid})
    assert refused.value.code == "charge_already_refunded"


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"amount": 0}, "amount"),
        ({"amount": -1}, "amount"),
        ({"reason": "because"}, "reason"),
        ({"payment_intent": "pi_none"}, "payment_intent"),
        ({"note": "x"}, "note"),
    ],
)
def test_a_wrong_refund_is_refused(own: Own, paid: str, changes: Any, param: str) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refused:
        own.client.v1.refunds.create({"payment_intent": paid, **changes})
    assert refused.value.param == param
    assert own.client.v1.refunds.list().data == []


def test_what_was_not_paid_is_not_refunded(own: Own) -> None:
    session = own.client.v1.checkout.sessions.create(order())
    own.demo.act(str(session.url), "decline")
    intent = own.client.v1.checkout.sessions.retrieve(session.id).payment_intent
    with pytest.raises(stripe.InvalidRequestError, match="does not have a successful charge"):
        own.client.v1.refunds.create({"payment_intent": str(intent)})


def test_a_refund_is_made_once_per_key(own: Own, paid: str) -> None:
    params: Any = {"payment_intent": paid, "amount": 100}
    first = own.client.v1.refunds.create(params, {"idempotency_key": "k"})
    assert own.client.v1.refunds.create(params, {"idempotency_key": "k"}).id == first.id
    assert charge_of(own, paid).amount_refunded == 100


def test_a_refund_from_the_dashboard_can_take_its_time(own: Own, paid: str, endpoint: Endpoint) -> None:
    news(own, endpoint)
    refund = own.demo.refund(paid, amount=200, status="pending", reason="duplicate", metadata={"a": "b"})
    assert (refund["status"], refund["reason"], refund["metadata"]) == ("pending", "duplicate", {"a": "b"})
    assert charge_of(own, paid).amount_refunded == 200
    assert news(own, endpoint) == ["charge.refunded", "refund.created"]

    own.demo.refund_becomes(refund["id"], "succeeded")
    assert own.client.v1.refunds.retrieve(refund["id"]).status == "succeeded"
    assert news(own, endpoint) == ["refund.updated"]

    own.demo.refund_becomes(refund["id"], "failed", failure_reason="lost_or_stolen_card")
    failed = own.client.v1.refunds.retrieve(refund["id"])
    assert (failed.status, failed.failure_reason) == ("failed", "lost_or_stolen_card")
    assert charge_of(own, paid).amount_refunded == 0
    assert news(own, endpoint) == ["refund.failed", "refund.updated"]
    with pytest.raises(ValueError, match="is failed and cannot become succeeded"):
        own.demo.refund_becomes(refund["id"], "succeeded")


@pytest.mark.parametrize("status", ["pending", "failed", "canceled"])
def test_refunds_by_the_api_come_out_as_told(own: Own, paid: str, status: str) -> None:
    own.demo.refunds_become(status)
    assert own.client.v1.refunds.create({"payment_intent": paid}).status == status
    assert charge_of(own, paid).refunded is (status == "pending")
    own.demo.reset()
    if status != "pending":
        assert own.client.v1.refunds.create({"payment_intent": paid}).status == "succeeded"


def test_a_bank_takes_time_to_give_back(own: Own) -> None:
    own.demo.bank_answers_after(0)
    session = own.client.v1.checkout.sessions.create(order())
    own.demo.act(str(session.url), "bank")

    def intent() -> stripe.PaymentIntent:
        found = own.client.v1.checkout.sessions.retrieve(session.id, {"expand": ["payment_intent"]})
        assert isinstance(found.payment_intent, stripe.PaymentIntent)
        return found.payment_intent

    wait_until(lambda: intent().status == "succeeded", "the bank has paid")
    own.demo.bank_answers_after(3600)
    refund = own.client.v1.refunds.create({"payment_intent": intent().id})
    assert (refund.status, refund.pending_reason) == ("pending", "processing")


# --- Disputes


def test_a_dispute_is_lost(own: Own, paid: str, endpoint: Endpoint) -> None:
    news(own, endpoint)
    made = own.demo.dispute(paid)
    assert news(own, endpoint) == ["charge.dispute.created", "charge.dispute.funds_withdrawn"]
    dispute = own.client.v1.disputes.retrieve(made["id"])
    assert (dispute.status, dispute.amount, dispute.payment_intent) == ("needs_response", 500, paid)
    assert [row.amount for row in dispute.balance_transactions] == [-500]
    assert charge_of(own, paid).disputed
    with pytest.raises(stripe.InvalidRequestError) as refused:
        own.client.v1.refunds.create({"payment_intent": paid})
    assert refused.value.code == "charge_disputed"

    own.demo.dispute_becomes(dispute.id, "under_review")
    assert news(own, endpoint) == ["charge.dispute.updated"]
    own.demo.dispute_becomes(dispute.id, "lost")
    assert news(own, endpoint) == ["charge.dispute.closed"]
    assert own.client.v1.disputes.retrieve(dispute.id).status == "lost"


def test_a_dispute_over_a_part_is_won(own: Own, paid: str, endpoint: Endpoint) -> None:
    made = own.demo.dispute(paid, amount=150, reason="product_not_received")
    news(own, endpoint)
    won = own.demo.dispute_becomes(made["id"], "won")
    assert news(own, endpoint) == ["charge.dispute.closed", "charge.dispute.funds_reinstated"]
    assert [row["amount"] for row in won["balance_transactions"]] == [-150, 150]
    with pytest.raises(ValueError, match="cannot become lost"):
        own.demo.dispute_becomes(made["id"], "lost")


def test_a_warning_takes_nothing_until_it_is_a_dispute(own: Own, paid: str, endpoint: Endpoint) -> None:
    news(own, endpoint)
    warned = own.demo.dispute(paid, status="warning_needs_response")
    assert news(own, endpoint) == ["charge.dispute.created"]
    own.demo.dispute_becomes(warned["id"], "warning_closed")
    assert news(own, endpoint) == ["charge.dispute.closed"]
    again = own.demo.dispute(paid, status="warning_needs_response")
    assert again["balance_transactions"] == []
    news(own, endpoint)
    own.demo.dispute_becomes(again["id"], "needs_response")
    assert news(own, endpoint) == ["charge.dispute.funds_withdrawn", "charge.dispute.updated"]
    listed = own.client.v1.disputes.list({"payment_intent": paid, "limit": 1})
    assert [row.id for row in listed.auto_paging_iter()] == [again["id"], warned["id"]]
    assert own.client.v1.disputes.list({"created": {"gte": int(time.time()) + 60}}).data == []


def test_a_mistake_in_what_moves_money_is_told(own: Own, paid: str) -> None:
    with pytest.raises(ValueError, match="Unknown: amonut"):
        own.demo.refund(paid, amonut=5)
    with pytest.raises(ValueError, match="404"):
        own.demo.dispute("pi_none")
    with pytest.raises(ValueError, match="1 to 500"):
        own.demo.dispute(paid, amount=501)
    with pytest.raises(ValueError, match="off_session is"):
        own.demo.off_session("sometimes")
