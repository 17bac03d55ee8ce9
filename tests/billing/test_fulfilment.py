"""From a payment to credits: webhook and return page, in any order, any number of times, credit once."""

import html
import re
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import httpx
import pytest
from django.db import connections, transaction
from django.db.models import Sum

from accounts.models import User
from billing import fulfilment, ledger
from billing.models import Account, Order, Pack, StripeEvent, Transfer
from billing.stripe_gateway import Session
from billing.stripe_gateway.checkout import session_in
from billing.stripe_gateway.client import our_id
from chatapp.local.demo_stripe.client import DemoStripe
from tests.accounts.pages import read
from tests.billing import books
from tests.billing.books import CREDIT
from tests.billing.conftest import Checkout, GoToCheckout
from tests.calling import visitor
from tests.stack import Stack

STARTER = 500_000_000
COMPLETED = "checkout.session.completed"
SUCCEEDED = "checkout.session.async_payment_succeeded"
FAILED = "checkout.session.async_payment_failed"
EXPIRED = "checkout.session.expired"


def bought(user: User) -> int:
    """Microcredits that purchases brought to a person."""
    purchases = Transfer.objects.filter(credit__user=user, kind=Transfer.Kind.PURCHASE)
    return purchases.aggregate(sum=Sum("amount"))["sum"] or 0


def outcome(demo_stripe: DemoStripe, type: str) -> str:
    """What became of the last event of a type that was delivered."""
    return StripeEvent.objects.get(pk=demo_stripe.deliveries(type)[-1]["event"]).outcome


def test_a_payment_is_credited_by_the_webhook(
    alice: User, go_to_checkout: GoToCheckout, demo_stripe: DemoStripe
) -> None:
    wallet_before = ledger.wallet_of(alice)
    checkout = go_to_checkout(alice)
    back = demo_stripe.act(checkout.url, "pay")
    demo_stripe.idle()

    order = checkout.order
    transfer = order.transfers.get()
    assert bought(alice) == STARTER
    assert (order.state, order.stripe_payment_intent[:3]) == (Order.State.PAID, "pi_")
    assert order.paid_at is not None
    assert order.paid_at >= order.created_at
    assert (transfer.debit.kind, transfer.credit, transfer.amount) == ("stripe", wallet_before, STARTER)
    assert transfer.balance_after == wallet_before.balance + STARTER
    assert outcome(demo_stripe, COMPLETED) == "handled"
    assert back is not None
    page = checkout.browser.get(back)
    assert page.status_code == 200
    assert "500 credits added" in page.text
    assert bought(alice) == STARTER


def test_a_lost_webhook_is_made_up_for_by_the_return_page(
    alice: User, go_to_checkout: GoToCheckout, demo_stripe: DemoStripe
) -> None:
    checkout = go_to_checkout(alice)
    demo_stripe.idle()
    told_before = len(demo_stripe.deliveries())
    demo_stripe.faults(drop=True)
    demo_stripe.act(checkout.url, "pay")
    assert bought(alice) == 0

    for _ in range(3):
        assert "500 credits added" in checkout.come_back().text

    assert bought(alice) == STARTER
    assert {row.get("error") for row in demo_stripe.deliveries()[told_before:]} == {"dropped"}


def test_the_return_page_may_come_first(
    alice: User, go_to_checkout: GoToCheckout, demo_stripe: DemoStripe
) -> None:
    checkout = go_to_checkout(alice)
    demo_stripe.faults(hold=True)
    demo_stripe.act(checkout.url, "pay")
    assert "500 credits added" in checkout.come_back().text
    paid_at = checkout.order.paid_at

    demo_stripe.release()
    demo_stripe.idle()

    assert outcome(demo_stripe, COMPLETED) == "handled"
    assert bought(alice) == STARTER
    assert checkout.order.paid_at == paid_at


def test_webhooks_and_return_pages_all_at_once_credit_once(
    alice: User, go_to_checkout: GoToCheckout, demo_stripe: DemoStripe
) -> None:
    checkout = go_to_checkout(alice)
    demo_stripe.faults(hold=True)
    demo_stripe.act(checkout.url, "pay")
    demo_stripe.faults(repeat=20)

    with ThreadPoolExecutor(11) as visits:
        pages = [visits.submit(checkout.come_back) for _ in range(10)]
        visits.submit(demo_stripe.release)
        answers = [page.result() for page in pages]
    demo_stripe.idle()

    assert {answer.status_code for answer in answers} == {200}
    assert all("500 credits added" in answer.text for answer in answers)
    assert [row["status"] for row in demo_stripe.deliveries(COMPLETED)] == [200] * 20
    assert bought(alice) == STARTER


def test_many_threads_credit_once(alice: User, go_to_checkout: GoToCheckout, demo_stripe: DemoStripe) -> None:
    checkout = go_to_checkout(alice)
    demo_stripe.faults(drop=True)
    demo_stripe.act(checkout.url, "pay")

    def fulfil(_: int) -> str:
        try:
            order = fulfilment.fulfil(checkout.session)
            return order.state if order else "none"
        finally:
            connections.close_all()

    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(fulfil, range(24))) == {Order.State.PAID}
    assert bought(alice) == STARTER


def test_a_delayed_webhook_credits_when_it_arrives(
    alice: User, go_to_checkout: GoToCheckout, demo_stripe: DemoStripe
) -> None:
    checkout = go_to_checkout(alice)
    demo_stripe.faults(hold=True)
    demo_stripe.act(checkout.url, "pay")
    demo_stripe.idle()
    assert bought(alice) == 0
    demo_stripe.release()
    demo_stripe.idle()
    assert bought(alice) == STARTER


def test_a_declined_card_credits_nothing_and_another_may_pay(
    alice: User, go_to_checkout: GoToCheckout, demo_stripe: DemoStripe
) -> None:
    checkout = go_to_checkout(alice)
    assert demo_stripe.act(checkout.url, "decline") is None
    demo_stripe.idle()
    assert "This checkout has not been paid" in checkout.come_back().text
    assert (bought(alice), checkout.order.state) == (0, Order.State.OPEN)

    demo_stripe.act(checkout.url, "pay")
    demo_stripe.idle()
    assert (bought(alice), checkout.order.state) == (STARTER, Order.State.PAID)


def test_going_back_costs_nothing(alice: User, go_to_checkout: GoToCheckout, demo_stripe: DemoStripe) -> None:
    checkout = go_to_checkout(alice)
    back = demo_stripe.act(checkout.url, "cancel")
    assert back is not None
    page = checkout.browser.get(back)
    assert page.status_code == 200
    assert "You went back before paying. Nothing was charged." in page.text
    assert (bought(alice), checkout.order.state) == (0, Order.State.OPEN)


# --- Delayed payment methods


def test_a_bank_payment_credits_when_the_bank_has_paid(
    alice: User, go_to_checkout: GoToCheckout, demo_stripe: DemoStripe
) -> None:
    checkout = go_to_checkout(alice)
    demo_stripe.act(checkout.url, "bank")
    demo_stripe.idle()
    assert outcome(demo_stripe, COMPLETED) == "handled"
    assert (bought(alice), checkout.order.state, checkout.order.paid_at) == (0, Order.State.PENDING, None)
    waiting = checkout.come_back()
    assert "500 credits are on their way" in waiting.text
    again = next_look(waiting)
    assert again == f"/billing/return/?session_id={checkout.session}&looked=1"
    assert next_look(checkout.browser.get(again)).endswith("&looked=2")
    assert next_look(checkout.browser.get(again.replace("=1", "=36"))) == "", "not for ever"
    assert "Waiting for your bank" in checkout.browser.get("/billing/").text
    assert bought(alice) == 0

    demo_stripe.settle(checkout.session, "succeeded")
    demo_stripe.idle()

    assert (bought(alice), checkout.order.state) == (STARTER, Order.State.PAID)
    arrived = checkout.browser.get(again)
    assert "500 credits added" in arrived.text
    assert next_look(arrived) == ""
    assert "Waiting for your bank" not in checkout.browser.get("/billing/").text


def test_a_bank_that_refuses_credits_nothing(
    alice: User, go_to_checkout: GoToCheckout, demo_stripe: DemoStripe
) -> None:
    checkout = go_to_checkout(alice)
    demo_stripe.act(checkout.url, "bank_failing")
    demo_stripe.settle(checkout.session, "failed")
    demo_stripe.idle()
    assert outcome(demo_stripe, FAILED) == "handled"
    assert (bought(alice), checkout.order.state) == (0, Order.State.FAILED)
    assert "Your bank refused the payment" in checkout.come_back().text
    assert checkout.order.state == Order.State.FAILED


@pytest.mark.parametrize(("word", "state"), [("succeeded", "paid"), ("failed", "failed")])
def test_events_of_a_bank_payment_may_come_in_any_order(
    alice: User, go_to_checkout: GoToCheckout, demo_stripe: DemoStripe, word: str, state: str
) -> None:
    checkout = go_to_checkout(alice)
    demo_stripe.faults(hold=True)
    demo_stripe.act(checkout.url, "bank")
    demo_stripe.settle(checkout.session, word)

    demo_stripe.release(last_first=True)
    demo_stripe.idle()

    types = [row["type"] for row in demo_stripe.deliveries() if row["type"].startswith("checkout.")]
    assert types == [SUCCEEDED if word == "succeeded" else FAILED, COMPLETED]
    assert checkout.order.state == state
    assert bought(alice) == (STARTER if word == "succeeded" else 0)


# --- What changes nothing


@pytest.mark.parametrize("type", [EXPIRED, FAILED, SUCCEEDED, COMPLETED])
def test_nothing_takes_a_payment_back_or_repeats_it(
    alice: User, go_to_checkout: GoToCheckout, demo_stripe: DemoStripe, type: str
) -> None:
    checkout = go_to_checkout(alice)
    demo_stripe.act(checkout.url, "pay")
    demo_stripe.idle()
    before = checkout.order

    demo_stripe.emit(
        type, session=checkout.session, changes={"status": "expired", "payment_status": "unpaid"}
    )
    demo_stripe.idle()

    assert outcome(demo_stripe, type) == "handled"
    assert bought(alice) == STARTER
    assert (checkout.order.state, checkout.order.paid_at) == (Order.State.PAID, before.paid_at)


def test_a_payment_that_overtakes_its_failure_is_credited(
    alice: User, go_to_checkout: GoToCheckout, demo_stripe: DemoStripe
) -> None:
    checkout = go_to_checkout(alice)
    demo_stripe.faults(types=["checkout.session.async_payment_succeeded"], drop=True)
    demo_stripe.act(checkout.url, "bank")
    demo_stripe.settle(checkout.session, "succeeded")
    demo_stripe.emit(FAILED, session=checkout.session)
    demo_stripe.idle()
    assert (bought(alice), checkout.order.state) == (STARTER, Order.State.PAID)


def test_an_unpaid_checkout_expires(
    alice: User, go_to_checkout: GoToCheckout, demo_stripe: DemoStripe
) -> None:
    checkout = go_to_checkout(alice)
    demo_stripe.api("POST", f"/v1/checkout/sessions/{checkout.session}/expire")
    demo_stripe.idle()
    assert (bought(alice), checkout.order.state) == (0, Order.State.EXPIRED)
    assert "This checkout has expired" in checkout.come_back().text


def test_credits_come_from_the_order_and_not_from_the_event(
    alice: User, go_to_checkout: GoToCheckout, demo_stripe: DemoStripe
) -> None:
    checkout = go_to_checkout(alice)
    demo_stripe.faults(types=[COMPLETED], drop=True)
    demo_stripe.act(checkout.url, "pay")
    demo_stripe.faults()
    changes = {
        "amount_total": 99_999_900,
        "currency": "eur",
        "metadata": {"order": "", "credits": "99999999"},
    }

    demo_stripe.emit(COMPLETED, session=checkout.session, changes=changes)
    demo_stripe.idle()

    assert bought(alice) == STARTER


def test_an_event_that_says_paid_is_not_believed(
    alice: User, go_to_checkout: GoToCheckout, demo_stripe: DemoStripe
) -> None:
    checkout = go_to_checkout(alice)
    demo_stripe.emit(
        COMPLETED, session=checkout.session, changes={"status": "complete", "payment_status": "paid"}
    )
    demo_stripe.idle()
    assert (bought(alice), checkout.order.state) == (0, Order.State.OPEN)

    demo_stripe.act(checkout.url, "pay")
    demo_stripe.idle()
    assert (bought(alice), checkout.order.state) == (STARTER, Order.State.PAID)


def test_a_session_of_no_order_is_ignored(demo_stripe: DemoStripe) -> None:
    session = foreign_session(demo_stripe)
    demo_stripe.act(session["url"], "pay")
    demo_stripe.idle()
    assert outcome(demo_stripe, COMPLETED) == "ignored"
    assert not Order.objects.filter(stripe_session=session["id"]).exists()


def test_a_cheap_payment_link_does_not_pay_for_an_order(
    alice: User, go_to_checkout: GoToCheckout, demo_stripe: DemoStripe
) -> None:
    """Who follows a Payment Link sets its client_reference_id by the URL: here to a dear order that waits."""
    checkout = go_to_checkout(alice)
    order = checkout.order
    Order.objects.filter(pk=order.pk).update(stripe_session=None)
    cheap = foreign_session(demo_stripe, client_reference_id=str(order.pk))

    demo_stripe.act(cheap["url"], "pay")
    demo_stripe.idle()

    order.refresh_from_db()
    assert (bought(alice), order.state, order.stripe_session) == (0, Order.State.OPEN, None)
    assert outcome(demo_stripe, COMPLETED) == "ignored"


def foreign_session(demo_stripe: DemoStripe, **params: str) -> dict[str, str]:
    """A session of 50 cents that this site did not open."""
    item = "line_items[0]"
    facts = {
        "mode": "payment",
        "success_url": "http://elsewhere.test/",
        f"{item}[price_data][currency]": "usd",
        f"{item}[price_data][unit_amount]": "50",
        f"{item}[price_data][product_data][name]": "A sticker",
    }
    return demo_stripe.api("POST", "/v1/checkout/sessions", **facts, **params)


# --- What may go wrong on our side


def test_a_session_opened_but_never_stored_is_credited_all_the_same(
    alice: User, go_to_checkout: GoToCheckout, demo_stripe: DemoStripe
) -> None:
    """The process died between Stripe's answer and the row."""
    checkout = go_to_checkout(alice)
    Order.objects.filter(stripe_session=checkout.session).update(stripe_session=None)
    demo_stripe.act(checkout.url, "pay")
    demo_stripe.idle()
    assert (bought(alice), checkout.order.state) == (STARTER, Order.State.PAID)


def test_a_session_for_nothing_left_to_pay_is_credited(alice: User, db: None) -> None:
    """A promotion code can take the whole price away."""
    pack = Pack.objects.get(name="Starter")
    order = Order.objects.create(
        user=alice,
        pack=pack,
        credits_microcredits=STARTER,
        amount_cents=500,
        currency="usd",
        stripe_session="cs_free",
    )
    session = Session(
        id="cs_free",
        status="complete",
        payment_status="no_payment_required",
        order_id=str(order.pk),
        payment_intent="",
        amount_total=0,
        currency="usd",
    )
    fulfilled = fulfilment.apply(session)
    assert fulfilled is not None
    assert fulfilled.state == Order.State.PAID
    assert bought(alice) == STARTER


@pytest.mark.parametrize("status", ["open", "expired"])
def test_a_session_that_is_not_complete_is_not_paid(status: str) -> None:
    for payment_status in ("paid", "no_payment_required"):
        facts = {"id": "cs_1", "status": status, "payment_status": payment_status}
        assert not session_in(facts).is_paid
        assert session_in({**facts, "status": "complete"}).is_paid


@pytest.mark.parametrize(
    "metadata", [None, "text", 5, [], {"order": 5}, {"order": ["x"]}, {"order": {}}, {"order": "x"}]
)
def test_metadata_of_another_shape_names_nothing_of_ours(metadata: object) -> None:
    assert our_id(metadata, "order") == ""


def test_a_payment_of_a_deleted_person_stays_in_the_books(
    alice: User, go_to_checkout: GoToCheckout, demo_stripe: DemoStripe, stack: Stack
) -> None:
    checkout = go_to_checkout(alice)
    demo_stripe.faults(hold=True)
    demo_stripe.act(checkout.url, "pay")
    alice.delete()
    demo_stripe.faults(repeat=3)

    demo_stripe.release()
    demo_stripe.idle()

    assert [row["status"] for row in demo_stripe.deliveries(COMPLETED)] == [200] * 3
    assert outcome(demo_stripe, COMPLETED) == "handled"
    order = checkout.order
    assert (order.state, order.user) == (Order.State.PAID, None)
    transfer = order.transfers.get()
    assert transfer.amount == STARTER
    assert (transfer.credit.kind, transfer.credit.user) == (Account.Kind.WALLET, None)
    assert "refund it in Stripe" in stack.log_of("web").read_text()


def test_a_person_who_is_deleted_while_a_payment_waits_for_them_is_gone(
    alice: User, committed_db: None
) -> None:
    read_before = Order.objects.select_related("user").get(pk=books.order(alice, CREDIT).pk)
    User.objects.get(pk=alice.pk).delete()
    with transaction.atomic():
        order, wallet = fulfilment.locked(read_before)
    assert (order.user, wallet) == (None, None)


def test_the_return_page_says_when_stripe_is_away(
    alice: User, go_to_checkout: GoToCheckout, demo_stripe: DemoStripe
) -> None:
    checkout = go_to_checkout(alice)
    demo_stripe.faults(drop=True)
    demo_stripe.act(checkout.url, "pay")
    demo_stripe.api_faults(status=503, times=4)

    answer = checkout.come_back()
    assert answer.status_code == 503
    assert "If you have paid, the 500 credits arrive by themselves" in answer.text
    assert bought(alice) == 0

    after = checkout.come_back().text
    assert "500 credits added" in after
    assert "You paid $5 and have" in after
    assert bought(alice) == STARTER


def test_a_webhook_that_cannot_ask_stripe_is_done_when_it_comes_again(
    alice: User, go_to_checkout: GoToCheckout, demo_stripe: DemoStripe, stack: Stack
) -> None:
    stack.expect_tracebacks()
    checkout = go_to_checkout(alice)
    demo_stripe.faults(retry_seconds=0.05, types=[COMPLETED])
    demo_stripe.api_faults(path="/v1/checkout/sessions/", status=500, times=4)

    demo_stripe.act(checkout.url, "pay")
    demo_stripe.idle()

    assert [row["status"] for row in demo_stripe.deliveries(COMPLETED)] == [500, 200]
    event = StripeEvent.objects.get(pk=demo_stripe.deliveries(COMPLETED)[-1]["event"])
    assert (event.outcome, event.error) == ("handled", "")
    assert bought(alice) == STARTER


# --- The outsider


def test_nobody_returns_from_anothers_checkout(
    alice: User, charlie: User, go_to_checkout: GoToCheckout, demo_stripe: DemoStripe
) -> None:
    hers, his = go_to_checkout(alice), go_to_checkout(charlie)
    demo_stripe.faults(drop=True)
    demo_stripe.act(hers.url, "pay")
    asked_before = len(demo_stripe.requests())

    answer = visit(his, hers.session)

    assert answer.status_code == 404
    assert len(demo_stripe.requests()) == asked_before, "Stripe is not even asked"
    assert (bought(alice), bought(charlie), hers.order.state) == (0, 0, Order.State.OPEN)


@pytest.mark.parametrize("session", ["", "cs_test_nothing", "\x00"])
def test_who_comes_back_signed_out_is_told_what_to_do_and_nothing_of_the_session(
    db: None, session: str
) -> None:
    browser = visitor()
    for _ in range(2):
        answer = browser.get("/billing/return/", {"session_id": session})
    assert (
        answer["Location"] == f"/accounts/login/?next=/billing/return/%3Fsession_id%3D{quote(quote(session))}"
    )
    shown = read(browser.get(answer["Location"]))
    assert shown.count("Sign in to see your payment. If you paid after deleting your account") == 1


@pytest.mark.parametrize("session", ["", "cs_test_nothing", "\x00", "x" * 5000, "{CHECKOUT_SESSION_ID}"])
def test_a_session_that_does_not_exist_is_not_found(
    alice: User, go_to_checkout: GoToCheckout, session: str
) -> None:
    assert visit(go_to_checkout(alice), session).status_code == 404


def next_look(page: httpx.Response) -> str:
    """What the browser asks for by itself after a few seconds, if anything."""
    found = re.search(r'<meta http-equiv="refresh" content="5;url=([^"]+)">', page.text)
    return html.unescape(found[1]) if found else ""


def visit(checkout: Checkout, session: str) -> httpx.Response:
    return checkout.browser.get("/billing/return/", params={"session_id": session})
