"""Refunds and disputes take the credits back: once each, in proportion, in whatever order Stripe tells of them."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
from django.db import transaction

from accounts.models import User
from billing import audit, ledger, reversals
from billing.errors import WrongCurrency
from billing.models import Order, StripeEvent, Transfer
from billing.reversals import share
from chatapp.local.demo_stripe.client import DemoStripe
from chatapp.streaming.audit import RULES
from tests.billing.books import CREDIT, close_turn, open_turn, wallet_of
from tests.billing.conftest import GoToCheckout
from tests.billing.test_fulfilment import foreign_session
from tests.conftest import SignIn
from tests.stack import Stack
from tests.streaming.reading import refusal

BOUGHT = 500 * CREDIT
CENTS = 500
WELCOME = 100 * CREDIT


@dataclass
class Bought:
    """The 500 credits of the first pack, for five dollars."""

    session: str
    demo: DemoStripe

    @property
    def order(self) -> Order:
        return Order.objects.get(stripe_session=self.session)

    @property
    def payment(self) -> str:
        return str(self.demo.api("GET", f"/v1/checkout/sessions/{self.session}")["payment_intent"])


Buy = Callable[..., Bought]


@pytest.fixture
def buy(go_to_checkout: GoToCheckout, demo_stripe: DemoStripe) -> Buy:
    def buy(user: User, *, code: str = "") -> Bought:
        checkout = go_to_checkout(user)
        demo_stripe.pay(checkout.url, code=code)
        return Bought(checkout.session, demo_stripe)

    return buy


@pytest.fixture
def bought(buy: Buy, alice: User, demo_stripe: DemoStripe) -> Bought:
    made = buy(alice)
    demo_stripe.idle()
    assert balance(alice) == WELCOME + BOUGHT
    return made


def money_back(order: Order) -> list[tuple[str, int]]:
    """What of the money went back (positive) and came again, oldest first."""
    rows = order.money_back.order_by("pk").values_list("reversal", "cents")
    return [(reversal.partition(":")[0], cents) for reversal, cents in rows]


def balance(user: User) -> int:
    return wallet_of(user).balance


def moved(order: Order) -> list[tuple[str, int]]:
    """What refunds and disputes took (negative) and returned, oldest first."""
    rows = Transfer.objects.filter(order=order, kind__in=["refund", "dispute"]).order_by("pk")
    return [(row.kind, -row.amount if row.debit.kind == "wallet" else row.amount) for row in rows]


def assert_books_are_right(user: User) -> None:
    wallet = wallet_of(user)
    ids = {str(wallet.pk), *(str(order.pk) for order in user.orders.all())}
    broken = [str(row) for rows in audit.prove(RULES).broken.values() for row in rows]
    assert not [row for row in broken if any(one in row for one in ids)]


def test_a_refund_from_the_dashboard_takes_the_credits_back(
    bought: Bought, alice: User, demo_stripe: DemoStripe, sign_in: SignIn
) -> None:
    demo_stripe.refund(bought.payment)
    demo_stripe.idle()
    assert money_back(bought.order) == [("refund", CENTS)]
    assert "$5 paid back" in sign_in(alice).get("/billing/").text
    assert balance(alice) == WELCOME
    assert moved(bought.order) == [("refund", -BOUGHT)]
    assert_books_are_right(alice)


def test_a_part_of_the_money_takes_that_part_of_the_credits(
    bought: Bought, alice: User, demo_stripe: DemoStripe
) -> None:
    for cents in (100, 150, 250):
        demo_stripe.refund(bought.payment, amount=cents)
        demo_stripe.idle()
    assert moved(bought.order) == [
        ("refund", -100 * CREDIT),
        ("refund", -150 * CREDIT),
        ("refund", -250 * CREDIT),
    ]
    assert money_back(bought.order) == [("refund", 100), ("refund", 150), ("refund", 250)]
    assert balance(alice) == WELCOME


def test_what_is_told_twenty_times_happens_once(bought: Bought, alice: User, demo_stripe: DemoStripe) -> None:
    demo_stripe.faults(repeat=20)
    demo_stripe.refund(bought.payment, amount=100)
    demo_stripe.dispute(bought.payment, amount=100)
    demo_stripe.idle()
    assert moved(bought.order) == [("refund", -100 * CREDIT), ("dispute", -100 * CREDIT)]
    assert money_back(bought.order) == [("refund", 100), ("dispute", 100)]


def test_a_refund_that_is_told_of_before_the_payment(buy: Buy, alice: User, demo_stripe: DemoStripe) -> None:
    demo_stripe.faults(hold=True)
    made = buy(alice)
    demo_stripe.refund(made.payment, amount=200)
    demo_stripe.release(last_first=True)
    demo_stripe.idle()
    assert balance(alice) == WELCOME + BOUGHT - 200 * CREDIT
    assert moved(made.order) == [("refund", -200 * CREDIT)]
    assert_books_are_right(alice)


def test_a_refund_that_failed_is_returned_once_in_whatever_order_that_is_told(
    bought: Bought, alice: User, demo_stripe: DemoStripe
) -> None:
    demo_stripe.refunds_become("pending")
    refund = demo_stripe.refund(bought.payment, amount=100)
    demo_stripe.idle()
    assert balance(alice) == WELCOME + BOUGHT - 100 * CREDIT
    demo_stripe.faults(hold=True, repeat=3)
    demo_stripe.refund_becomes(refund["id"], "failed")
    demo_stripe.release(last_first=True)
    demo_stripe.idle()
    assert moved(bought.order) == [("refund", -100 * CREDIT), ("refund", 100 * CREDIT)]
    assert money_back(bought.order) == [("refund", 100), ("refund", -100)]
    assert balance(alice) == WELCOME + BOUGHT


def test_a_refund_that_had_failed_before_anything_was_told_moves_nothing(
    bought: Bought, alice: User, demo_stripe: DemoStripe
) -> None:
    demo_stripe.faults(hold=True)
    refund = demo_stripe.refund(bought.payment, amount=100, status="pending")
    demo_stripe.refund_becomes(refund["id"], "canceled")
    demo_stripe.release()
    demo_stripe.idle()
    assert moved(bought.order) == []


def test_a_dispute_takes_until_it_is_won(bought: Bought, alice: User, demo_stripe: DemoStripe) -> None:
    dispute = demo_stripe.dispute(bought.payment)
    demo_stripe.idle()
    assert balance(alice) == WELCOME
    demo_stripe.dispute_becomes(dispute["id"], "under_review")
    demo_stripe.dispute_becomes(dispute["id"], "won")
    demo_stripe.idle()
    assert moved(bought.order) == [("dispute", -BOUGHT), ("dispute", BOUGHT)]
    assert money_back(bought.order) == [("dispute", CENTS), ("dispute", -CENTS)]
    assert balance(alice) == WELCOME + BOUGHT
    assert_books_are_right(alice)


def test_a_dispute_that_is_lost_stays_taken(bought: Bought, alice: User, demo_stripe: DemoStripe) -> None:
    dispute = demo_stripe.dispute(bought.payment)
    demo_stripe.dispute_becomes(dispute["id"], "lost")
    demo_stripe.idle()
    assert balance(alice) == WELCOME


def test_an_inquiry_takes_nothing_before_it_is_a_dispute(
    bought: Bought, alice: User, demo_stripe: DemoStripe
) -> None:
    dispute = demo_stripe.dispute(bought.payment, status="warning_needs_response")
    demo_stripe.idle()
    assert moved(bought.order) == []
    demo_stripe.dispute_becomes(dispute["id"], "needs_response")
    demo_stripe.idle()
    assert moved(bought.order) == [("dispute", -BOUGHT)]


def test_refund_and_dispute_together_take_no_more_than_was_bought(
    bought: Bought, alice: User, demo_stripe: DemoStripe
) -> None:
    demo_stripe.refund(bought.payment, amount=300)
    dispute = demo_stripe.dispute(bought.payment)
    demo_stripe.idle()
    assert moved(bought.order) == [("refund", -300 * CREDIT), ("dispute", -200 * CREDIT)]
    assert money_back(bought.order) == [("refund", 300), ("dispute", 500)], "the money that went, all of it"
    demo_stripe.dispute_becomes(dispute["id"], "won")
    demo_stripe.idle()
    assert balance(alice) == WELCOME + 200 * CREDIT


def test_with_a_promotion_code_all_of_the_money_takes_all_of_the_credits(
    buy: Buy, alice: User, demo_stripe: DemoStripe
) -> None:
    made = buy(alice, code="HALF")
    demo_stripe.idle()
    assert made.order.paid_cents == CENTS // 2
    demo_stripe.refund(made.payment, amount=100)
    demo_stripe.idle()
    assert balance(alice) == WELCOME + BOUGHT - 200 * CREDIT
    demo_stripe.refund(made.payment)
    demo_stripe.idle()
    assert balance(alice) == WELCOME


@pytest.mark.parametrize(
    ("credits", "paid", "parts"),
    [(BOUGHT, 333, [111, 111, 111]), (7, 3, [1, 1, 1]), (1, 1000, [1, 999]), (10**15, 7, [3, 4])],
)
def test_a_share_is_rounded_down_and_all_of_the_money_is_all_of_the_credits(
    credits: int, paid: int, parts: list[int]
) -> None:
    order = Order(credits_microcredits=credits, paid_cents=paid)
    shares = [share(cents, order) for cents in parts]
    assert 0 <= credits - sum(shares) < len(parts)
    assert share(paid, order) == share(paid + 1, order) == credits


def test_credits_that_were_spent_leave_a_debt_that_the_next_purchase_repays(
    bought: Bought, buy: Buy, alice: User, sign_in: SignIn, demo_stripe: DemoStripe
) -> None:
    close_turn(open_turn(alice, 550 * CREDIT), 550 * CREDIT)
    demo_stripe.refund(bought.payment)
    demo_stripe.idle()
    assert balance(alice) == WELCOME - 550 * CREDIT
    client = sign_in(alice)
    status, problem = refusal(client, text="hello")
    assert (status, problem["code"], problem["available"]) == (402, "insufficient_credits", "-450.000000")
    assert "given back after its credits had been spent" in client.get("/billing/").text
    buy(alice)
    demo_stripe.idle()
    assert balance(alice) == WELCOME + BOUGHT - 550 * CREDIT
    assert_books_are_right(alice)


def test_an_answer_under_way_goes_on_when_its_credits_are_taken(
    bought: Bought, alice: User, demo_stripe: DemoStripe
) -> None:
    turn = open_turn(alice, 400 * CREDIT)
    demo_stripe.refund(bought.payment)
    demo_stripe.idle()
    close_turn(turn, 400 * CREDIT)
    assert balance(alice) == WELCOME - 400 * CREDIT
    assert_books_are_right(alice)


def test_a_refund_of_a_payment_that_is_none_of_ours_is_ignored(demo_stripe: DemoStripe) -> None:
    """Such as that of a Payment Link."""
    session = foreign_session(demo_stripe)
    demo_stripe.act(session["url"], "pay")
    paid = demo_stripe.api("GET", f"/v1/checkout/sessions/{session['id']}")
    demo_stripe.refund(str(paid["payment_intent"]))
    demo_stripe.idle()
    event = demo_stripe.deliveries("refund.created")[-1]["event"]
    assert StripeEvent.objects.get(pk=event).outcome == StripeEvent.Outcome.IGNORED


@pytest.mark.parametrize(
    ("kind", "type"), [("refund", "refund.created"), ("dispute", "charge.dispute.created")]
)
def test_what_stripe_does_not_know_takes_nothing(
    kind: str, type: str, bought: Bought, alice: User, demo_stripe: DemoStripe, stack: Stack
) -> None:
    stack.expect_tracebacks()  # the event that fails
    facts = {"object": kind, "amount": 500, "currency": "usd", "payment_intent": bought.payment}
    event = demo_stripe.emit(type, object={"id": f"{kind}_of_nobody", "status": "lost", **facts})
    stack.wait_until(lambda: bool(demo_stripe.deliveries(type)), "the event is told of")
    assert demo_stripe.deliveries(type)[-1]["status"] == 500
    assert StripeEvent.objects.get(pk=event["id"]).outcome == StripeEvent.Outcome.FAILED
    assert balance(alice) == WELCOME + BOUGHT
    demo_stripe.reset()


def test_money_of_another_currency_takes_nothing(
    bought: Bought, alice: User, demo_stripe: DemoStripe
) -> None:
    demo_stripe.faults(drop=True)
    refund = demo_stripe.refund(bought.payment, amount=100)
    news = reversals.ask_of_refund(refund["id"])
    with pytest.raises(WrongCurrency, match=r"is in JPY and order .* in USD"), transaction.atomic():
        reversals.apply(replace(news, reversal=replace(news.reversal, currency="jpy"), others=()))
    assert balance(alice) == WELCOME + BOUGHT


def test_a_forged_refund_takes_nothing(bought: Bought, alice: User, demo_stripe: DemoStripe) -> None:
    demo_stripe.faults(forge=True)
    demo_stripe.refund(bought.payment)
    stuck = demo_stripe.deliveries("refund.created")
    demo_stripe.faults()
    assert all(row["status"] == 400 for row in stuck if row.get("status"))
    assert moved(bought.order) == []


def test_stripe_away_is_made_up_for(bought: Bought, demo_stripe: DemoStripe, stack: Stack) -> None:
    stack.expect_tracebacks()  # the event that failed
    demo_stripe.api_faults(path="/v1/refunds/", status=500, times=8)
    demo_stripe.refund(bought.payment, amount=100)
    demo_stripe.idle()
    assert moved(bought.order) == [("refund", -100 * CREDIT)]


def test_a_key_that_may_not_read_refunds_is_told_by_the_signed_events(
    bought: Bought, alice: User, demo_stripe: DemoStripe
) -> None:
    demo_stripe.api_faults(path="/v1/refunds", status=403, times=1000)
    refund = demo_stripe.refund(bought.payment, amount=100, status="pending")
    demo_stripe.idle()
    assert moved(bought.order) == [("refund", -100 * CREDIT)]
    demo_stripe.refund_becomes(refund["id"], "failed")
    demo_stripe.idle()
    assert balance(alice) == WELCOME + BOUGHT


def test_the_wallet_of_who_is_gone_gives_them_back_too(
    bought: Bought, alice: User, demo_stripe: DemoStripe, stack: Stack
) -> None:
    wallet = wallet_of(alice)
    order = bought.order
    alice.delete()
    demo_stripe.refund(bought.payment)
    demo_stripe.idle()
    wallet.refresh_from_db()
    assert (wallet.user_id, wallet.balance) == (None, WELCOME)
    assert moved(order) == [("refund", -BOUGHT)]


def test_a_reversal_is_told_on_the_statement(
    bought: Bought, alice: User, sign_in: SignIn, demo_stripe: DemoStripe
) -> None:
    demo_stripe.refund(bought.payment, amount=100)
    demo_stripe.idle()
    items: list[dict[str, Any]] = sign_in(alice).get("/api/v1/transactions").json()["items"]
    assert (items[0]["kind"], items[0]["amount"], items[0]["balance_after"]) == (
        *("refund", "-100.000000"),
        "500.000000",
    )
    assert ledger.wallet_of(alice).balance == 500 * CREDIT
