"""Refunds and disputes that come late, twice, at once, or of a payment that is not the order's."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import permutations

import pytest
from django.db import transaction

from accounts.models import User
from billing import fulfilment, reversals
from billing.models import AutoTopUp, Customer, Mail, Order, Plan, StripeEvent, Transfer
from billing.stripe_gateway import reversals as at_stripe
from billing.stripe_gateway.reversals import Reversal
from chatapp.local.demo_stripe.client import DemoStripe
from tests.billing.books import CREDIT, at_once, close_turn, open_turn, order, pay, wallet_of
from tests.billing.conftest import GoToCheckout
from tests.billing.subscribing import Subscriber
from tests.conftest import SignIn
from tests.stack import Stack

WELCOME, BOUGHT = 100 * CREDIT, 500 * CREDIT


@pytest.fixture
def bought(go_to_checkout: GoToCheckout, demo_stripe: DemoStripe, alice: User) -> Order:
    """500 credits for five dollars."""
    checkout = go_to_checkout(alice)
    demo_stripe.pay(checkout.url)
    demo_stripe.idle()
    return checkout.order


def moved(order: Order) -> list[tuple[str, int]]:
    """What refunds and disputes took (negative) and returned, oldest first, in credits."""
    rows = order.transfers.filter(kind__in=["refund", "dispute"]).order_by("pk").select_related("debit")
    return [(row.kind, row.amount // CREDIT * (-1 if row.debit.kind == "wallet" else 1)) for row in rows]


def refund_that(order: Order, **changes: object) -> Reversal:
    facts: dict[str, object] = {
        "id": f"re_{order.pk.hex}",
        "kind": "refund",
        "amount": 100,
        "currency": "usd",
        "counts": True,
        "payment_intent": order.stripe_payment_intent,
        "charge": "ch_1",
    }
    return Reversal(**{**facts, **changes})  # type: ignore[arg-type]


# --- Late


def test_what_stripe_said_before_is_asked_again_once_a_share_is_taken(
    bought: Order, alice: User, demo_stripe: DemoStripe
) -> None:
    """Somebody asks while the refund is pending, and is slow. Meanwhile it fails, and its events find nothing to
    return. Then the slow one takes the share."""
    demo_stripe.faults(types=["refund.created", "charge.refunded"], drop=True)
    refund = demo_stripe.refund(bought.stripe_payment_intent, amount=100, status="pending")
    slow = reversals.ask_of_refund(refund["id"])
    assert slow.reversal.counts
    demo_stripe.refund_becomes(refund["id"], "failed")
    demo_stripe.idle()
    assert moved(bought) == []

    with transaction.atomic():
        reversals.apply(slow)

    assert moved(bought) == [("refund", -100), ("refund", 100)]
    assert wallet_of(alice).balance == WELCOME + BOUGHT


def test_the_same_of_a_dispute(bought: Order, alice: User, demo_stripe: DemoStripe) -> None:
    demo_stripe.faults(types=["charge.dispute.created", "charge.dispute.funds_withdrawn"], drop=True)
    dispute = demo_stripe.dispute(bought.stripe_payment_intent)
    slow = reversals.ask_of_dispute(dispute["id"])
    demo_stripe.dispute_becomes(dispute["id"], "won")
    demo_stripe.idle()
    with transaction.atomic():
        reversals.apply(slow)
    assert moved(bought) == [("dispute", -500), ("dispute", 500)]
    assert wallet_of(alice).balance == WELCOME + BOUGHT


def test_a_share_stays_taken_while_stripe_cannot_be_asked_again(
    bought: Order, demo_stripe: DemoStripe
) -> None:
    demo_stripe.faults(drop=True)
    refund = demo_stripe.refund(bought.stripe_payment_intent, amount=100)
    news = reversals.ask_of_refund(refund["id"])
    demo_stripe.api_faults(path="/v1/refunds", status=500, times=4)
    with transaction.atomic():
        reversals.apply(news)
    assert moved(bought) == [("refund", -100)]


@pytest.mark.parametrize("last_first", [False, True])
def test_a_dispute_that_was_won_before_anything_was_told_moves_nothing(
    last_first: bool, bought: Order, alice: User, demo_stripe: DemoStripe
) -> None:
    demo_stripe.faults(hold=True)
    dispute = demo_stripe.dispute(bought.stripe_payment_intent)
    demo_stripe.dispute_becomes(dispute["id"], "won")
    demo_stripe.release(last_first=last_first)
    demo_stripe.idle()
    assert moved(bought) == []
    assert wallet_of(alice).balance == WELCOME + BOUGHT


def test_a_refund_of_what_is_not_credited_yet_is_told_again_until_it_is(
    go_to_checkout: GoToCheckout, alice: User, demo_stripe: DemoStripe, stack: Stack
) -> None:
    """The process died between opening the session and storing it: only the session's own event leads to the order."""
    stack.expect_tracebacks()  # the events that failed
    checkout = go_to_checkout(alice)
    made = checkout.order
    Order.objects.filter(pk=made.pk).update(stripe_session=None)
    demo_stripe.faults(types=["checkout.session.completed"], hold=True)
    demo_stripe.pay(checkout.url)
    payment = str(demo_stripe.api("GET", f"/v1/checkout/sessions/{checkout.session}")["payment_intent"])
    demo_stripe.refund(payment, amount=200)
    stack.wait_until(
        lambda: bool(demo_stripe.deliveries("refund.created")), "the refund has been told of in vain"
    )
    assert demo_stripe.deliveries("refund.created")[0]["status"] == 500
    demo_stripe.release()
    demo_stripe.idle()
    assert moved(made) == [("refund", -200)]
    assert wallet_of(alice).balance == WELCOME + 300 * CREDIT


def test_a_refund_of_a_period_that_is_told_of_before_its_invoice(
    alice: User, sign_in: SignIn, demo_stripe: DemoStripe
) -> None:
    plan = Plan.objects.get(name="Plus")
    subscriber = Subscriber(alice, sign_in(alice), demo_stripe)
    demo_stripe.faults(hold=True)
    demo_stripe.act(subscriber.go_to_checkout(plan), "pay")
    customer = Customer.objects.get(user=alice).stripe_id
    payments = demo_stripe.api("GET", f"/v1/payment_intents?customer={customer}")["data"]
    demo_stripe.refund(payments[0]["id"], amount=plan.price_cents // 2)
    demo_stripe.release(last_first=True)
    demo_stripe.idle()
    (period,) = subscriber.periods
    assert moved(period) == [("refund", -525)]
    assert wallet_of(alice).balance == WELCOME + 525 * CREDIT


# --- In any order


def take_all(*found: Reversal) -> None:
    """What is done once Stripe has said that these are all there are."""
    with transaction.atomic():
        reversals.apply(reversals.News(found[-1], None, found))


def paid_order(user: User, credits: int, cents: int) -> Order:
    made = order(user, credits)
    pay(made, paid_cents=cents, stripe_payment_intent=f"pi_{made.pk.hex}")
    made.refresh_from_db()
    return made


@pytest.mark.parametrize(
    ("credits", "cents", "parts", "takes"),
    [
        (1000, 300, [100, 100, 100], [333, 333, 334]),
        (7, 3, [1, 1, 1], [2, 2, 3]),
        (500 * CREDIT, 500, [1, 499], [CREDIT, 499 * CREDIT]),
        (1, 1000, [1, 999], [1]),
    ],
)
def test_parts_that_make_the_whole_take_the_whole(
    credits: int, cents: int, parts: list[int], takes: list[int], alice: User, db: None
) -> None:
    made = paid_order(alice, credits, cents)
    before = wallet_of(alice).balance
    found: list[Reversal] = []
    for number, part in enumerate(parts):
        found.append(refund_that(made, id=f"re_{number}", amount=part))
        take_all(*found)
    taken = made.transfers.filter(kind="refund").order_by("pk").values_list("amount", flat=True)
    assert list(taken) == takes
    assert wallet_of(alice).balance == before - credits


def test_a_part_that_fails_returns_its_own_and_the_next_takes_it(alice: User, db: None) -> None:
    made = paid_order(alice, 1000, 300)
    parts = [refund_that(made, id=f"re_{n}", amount=100) for n in range(3)]
    for count in (1, 2, 3):
        take_all(*parts[:count])
    failed = replace(parts[0], counts=False, is_off=True)
    take_all(failed, *parts[1:])
    assert reversals.left_of(made, wallet_of(alice)) == 333
    take_all(failed, *parts[1:], refund_that(made, id="re_4", amount=100))
    assert reversals.left_of(made, wallet_of(alice)) == 0


def test_who_came_when_nothing_was_left_takes_it_when_there_is(alice: User, db: None) -> None:
    """The bank took everything; a refund had been made as well; the dispute is won."""
    made = paid_order(alice, BOUGHT, 500)
    dispute = refund_that(made, id="dp_1", kind="dispute", amount=400)
    refund = refund_that(made, amount=300)
    take_all(dispute)
    take_all(refund, dispute)
    assert moved(made) == [("dispute", -400), ("refund", -100)]
    take_all(refund, replace(dispute, counts=False, is_off=True))
    assert moved(made)[2:] == [("dispute", 400), ("refund", -200)]
    take_all(replace(refund, counts=False, is_off=True), replace(dispute, counts=False, is_off=True))
    assert moved(made)[4:] == [("refund", 100), ("refund", 200)]
    assert reversals.left_of(made, wallet_of(alice)) == BOUGHT


def test_a_dispute_and_a_refund_end_the_same_whichever_is_told_first(alice: User, db: None) -> None:
    ends = set()
    for turn in permutations(range(4)):
        made = paid_order(alice, BOUGHT, 500)
        refund = refund_that(made, amount=300)
        dispute = refund_that(made, id=f"dp_{made.pk.hex}", kind="dispute", amount=500)
        won = replace(dispute, counts=False, is_off=True)
        # What Stripe says at each moment; the answers are applied in another order than they were given.
        answers = [(refund,), (dispute,), (refund, dispute), (refund, won)]
        for number in turn:
            take_all(*answers[number])
        take_all(refund, won)
        ends.add(reversals.left_of(made, wallet_of(alice)))
    assert ends == {200 * CREDIT}


def test_an_old_answer_that_it_was_an_inquiry_returns_nothing(alice: User, db: None) -> None:
    made = paid_order(alice, BOUGHT, 500)
    dispute = refund_that(made, id="dp_1", kind="dispute", amount=500)
    take_all(dispute)
    take_all(replace(dispute, counts=False))
    assert moved(made) == [("dispute", -500)]


def test_money_that_goes_back_stops_top_ups_once_also_where_it_takes_no_credits(
    alice: User, db: None
) -> None:
    facts = {"threshold_microcredits": 0, "amount_cents": 500, "monthly_cap_cents": 500}
    AutoTopUp.objects.create(user=alice, enabled=True, payment_method="pm_1", **facts)
    rule = AutoTopUp.objects.filter(user=alice)
    made = paid_order(alice, BOUGHT, 500)
    refund, dispute = refund_that(made, amount=500), refund_that(made, id="dp_1", kind="dispute", amount=500)

    take_all(refund)
    assert rule.get().paused_because == "reversed"
    rule.update(paused_because="")  # by a payment in person
    take_all(refund)
    assert rule.get().paused_because == "", "it was told of before"
    take_all(refund, dispute)
    assert (rule.get().paused_because, moved(made)) == ("reversed", [("refund", -500)])


# --- Not the order's


def test_giving_a_second_payment_back_takes_nothing_of_what_the_first_bought(
    bought: Order, alice: User, committed_db: None
) -> None:
    """Whatever made two payments name one order: the operator gives one of them back."""
    stray = refund_that(bought, payment_intent="pi_paid_again", order_id=str(bought.pk), amount=500)
    with transaction.atomic():
        assert reversals.apply(reversals.News(stray, None)) is None
    assert moved(bought) == []
    assert wallet_of(alice).balance == WELCOME + BOUGHT


def test_what_alice_gave_back_is_none_of_charlies(
    bought: Order, alice: User, charlie: User, demo_stripe: DemoStripe
) -> None:
    before = wallet_of(charlie).balance
    demo_stripe.refund(bought.stripe_payment_intent)
    demo_stripe.idle()
    assert wallet_of(charlie).balance == before
    assert not Transfer.objects.filter(kind="refund", debit__user=charlie).exists()


def test_an_order_that_cost_nothing_has_nothing_to_give_back(alice: User, db: None) -> None:
    free = order(alice, BOUGHT)
    pay(free, paid_cents=0)
    with transaction.atomic():
        reversals.apply(reversals.News(refund_that(free, order_id=str(free.pk)), None))
    assert moved(free) == []


# --- At once


def test_many_who_heard_of_a_refund_take_its_share_once(
    bought: Order, alice: User, demo_stripe: DemoStripe
) -> None:
    demo_stripe.faults(drop=True)
    refund = demo_stripe.refund(bought.stripe_payment_intent, amount=100)
    outcomes = at_once([partial(reversals.take, refund["id"])] * 6)
    assert outcomes == [bought] * 6
    assert moved(bought) == [("refund", -100)]


def test_refunds_and_a_dispute_at_once_take_no_more_than_was_bought(
    bought: Order, alice: User, committed_db: None
) -> None:
    parts = [refund_that(bought, id=f"re_{n}_{bought.pk.hex}", amount=200) for n in range(3)]
    parts.append(refund_that(bought, id=f"dp_{bought.pk.hex}", kind="dispute", amount=500))

    def take(reversal: Reversal) -> None:
        with transaction.atomic():
            reversals.apply(reversals.News(reversal, None))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reversals, "_look_again", lambda reversal: None)  # Stripe has never heard of these
        assert at_once([partial(take, part) for part in parts]) == [None] * 4
    assert sum(credits for _, credits in moved(bought)) == -500
    assert wallet_of(alice).balance == WELCOME


def test_a_refund_and_answers_at_once_leave_a_balance_that_adds_up(
    bought: Order, alice: User, demo_stripe: DemoStripe
) -> None:
    turns = [open_turn(alice, 100 * CREDIT) for _ in range(4)]
    demo_stripe.faults(drop=True)
    refund = demo_stripe.refund(bought.stripe_payment_intent)
    calls: list[Callable[[], object]] = [partial(close_turn, turn, 90 * CREDIT) for turn in turns]
    outcomes = at_once([*calls, partial(reversals.take, refund["id"])])
    assert not [outcome for outcome in outcomes if isinstance(outcome, Exception)]
    wallet = wallet_of(alice)
    assert (wallet.balance, wallet.held) == (WELCOME - 360 * CREDIT, 0)


def test_the_payment_and_its_refund_told_in_the_same_moment(
    go_to_checkout: GoToCheckout, alice: User, demo_stripe: DemoStripe
) -> None:
    checkout = go_to_checkout(alice)
    demo_stripe.faults(drop=True)
    demo_stripe.pay(checkout.url)
    payment = str(demo_stripe.api("GET", f"/v1/checkout/sessions/{checkout.session}")["payment_intent"])
    refund = demo_stripe.refund(payment, amount=200)
    calls: list[Callable[[], object]] = [partial(fulfilment.fulfil, checkout.session)] * 3
    outcomes = at_once([*calls, *[partial(reversals.take, refund["id"])] * 3])
    assert not [outcome for outcome in outcomes if isinstance(outcome, Exception)]
    assert checkout.order.transfers.filter(kind="purchase").count() == 1
    assert moved(checkout.order) == [("refund", -200)]
    assert wallet_of(alice).balance == WELCOME + 300 * CREDIT


# --- What the person is told


@pytest.mark.parametrize("kind", ["refund", "dispute"])
def test_a_debt_is_told_by_mail_once(
    kind: str, bought: Order, alice: User, demo_stripe: DemoStripe, stack: Stack
) -> None:
    close_turn(open_turn(alice, 550 * CREDIT), 550 * CREDIT)
    demo_stripe.faults(repeat=3)
    getattr(demo_stripe, kind)(bought.stripe_payment_intent)
    demo_stripe.idle()
    (mail,) = Mail.objects.filter(user=alice, kind=Mail.Kind.DEBT)
    stack.wait_until(lambda: Mail.objects.get(pk=mail.pk).sent_at is not None, "the mail has left")
    (sent,) = [letter for letter in stack.mail_to(alice.email) if "below zero" in str(letter["Subject"])]
    text = str(sent.get_payload(0).get_payload())  # type: ignore[union-attr]
    assert "Your balance is −450.00 credits now." in text
    assert ("you had disputed" in text) is (kind == "dispute")
    assert f"Order {bought.pk}: 500 credits for $5" in text


def test_who_has_enough_is_not_written_to(bought: Order, alice: User, demo_stripe: DemoStripe) -> None:
    demo_stripe.refund(bought.stripe_payment_intent)
    demo_stripe.idle()
    assert not Mail.objects.filter(user=alice, kind=Mail.Kind.DEBT).exists()


# --- Every event about it is kept, with what became of it


def test_events_of_a_refund_and_a_dispute_are_kept_as_handled(bought: Order, demo_stripe: DemoStripe) -> None:
    refund = demo_stripe.refund(bought.stripe_payment_intent, amount=100, status="pending")
    demo_stripe.refund_becomes(refund["id"], "failed")
    dispute = demo_stripe.dispute(bought.stripe_payment_intent)
    demo_stripe.dispute_becomes(dispute["id"], "won")
    demo_stripe.idle()
    about = [row for row in demo_stripe.deliveries() if row["type"].startswith(("refund.", "charge."))]
    assert {row["type"] for row in about} == {
        *("refund.created", "refund.updated", "refund.failed", "charge.refunded"),
        *("charge.dispute.created", "charge.dispute.closed"),
        *("charge.dispute.funds_withdrawn", "charge.dispute.funds_reinstated"),
    }
    kept = StripeEvent.objects.filter(pk__in=[row["event"] for row in about])
    assert {event.outcome for event in kept} == {StripeEvent.Outcome.HANDLED}


def test_a_refunds_amount_is_stripes_and_not_the_events(bought: Order, demo_stripe: DemoStripe) -> None:
    demo_stripe.faults(drop=True)
    refund = demo_stripe.refund(bought.stripe_payment_intent, amount=100)
    demo_stripe.faults()
    demo_stripe.emit("refund.updated", object={**refund, "amount": 500, "status": "failed"})
    demo_stripe.idle()
    assert moved(bought) == [("refund", -100)]
    assert at_stripe.retrieve_refund(refund["id"]).amount == 100
