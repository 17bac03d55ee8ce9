"""The books held against Stripe's: what events did not bring is mended, and what cannot be is told once."""

import threading
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connections, transaction
from django.db.models.functions import Now
from django.utils import timezone
from pytest_django.fixtures import Settings

from accounts.models import User
from billing import comparison, fulfilment, ledger, reconciliation, tasks, topups
from billing.errors import AlreadyReconciling
from billing.models import AutoTopUp, Discrepancy, Order, Plan, Reconciliation, Transfer
from chatapp.celery import app
from chatapp.local.demo_stripe.client import DemoStripe
from tests.admin.conftest import browser_of
from tests.admin.desk import page
from tests.billing import books
from tests.billing.conftest import Checkout, GoToCheckout
from tests.billing.subscribing import Subscriber
from tests.billing.test_topups import Saver
from tests.conftest import SignIn
from tests.stack import Stack

CREDIT = 1_000_000


def about(order: Order | None = None, **which: Any) -> list[tuple[str, bool]]:
    """What was found of an order: its kind, and whether it was mended; oldest first."""
    found = Discrepancy.objects.filter(**({"order": order} if order else {}), **which).order_by("pk")
    return [(row.kind, row.mended) for row in found]


def paid(go_to_checkout: GoToCheckout, demo_stripe: DemoStripe, user: User) -> Checkout:
    checkout = go_to_checkout(user)
    demo_stripe.pay(checkout.url)
    demo_stripe.idle()
    assert checkout.order.state == "paid"
    return checkout


def available(user: User) -> int:
    """Whole credits."""
    return books.wallet_of(user).available // CREDIT


# --- What no event told of is mended


def test_books_that_agree_are_left_alone(
    alice: User, go_to_checkout: GoToCheckout, demo_stripe: DemoStripe
) -> None:
    checkout = paid(go_to_checkout, demo_stripe, alice)
    before = available(alice)
    run = reconciliation.reconcile()
    assert (run.error, about(checkout.order), available(alice)) == ("", [], before)
    assert run.ended_at is not None
    assert run.checked["sessions"] >= 1
    assert run.checked["orders"] >= 1


def test_a_payment_whose_event_was_lost_is_credited(
    alice: User, go_to_checkout: GoToCheckout, demo_stripe: DemoStripe
) -> None:
    checkout = go_to_checkout(alice)
    before = available(alice)
    demo_stripe.faults(drop=True)
    demo_stripe.pay(checkout.url)
    demo_stripe.idle()
    assert checkout.order.state == "open"

    reconciliation.reconcile()
    assert checkout.order.state == "paid"
    assert available(alice) == before + 500
    assert about(checkout.order) == [("not_credited", True)]

    reconciliation.reconcile()
    assert about(checkout.order) == [("not_credited", True)]
    assert available(alice) == before + 500


def test_a_page_that_nobody_paid_is_no_discrepancy(alice: User, go_to_checkout: GoToCheckout) -> None:
    checkout = go_to_checkout(alice)
    reconciliation.reconcile()
    assert (checkout.order.state, about(checkout.order)) == ("open", [])


def test_what_a_bank_paid_after_the_time_that_is_compared_is_credited(
    alice: User, go_to_checkout: GoToCheckout, demo_stripe: DemoStripe
) -> None:
    checkout = go_to_checkout(alice)
    demo_stripe.act(checkout.url, "bank")
    demo_stripe.idle()
    demo_stripe.faults(drop=True)
    demo_stripe.settle(checkout.session, "succeeded")
    ago = timezone.now() - timedelta(days=9)
    Order.objects.filter(pk=checkout.order.pk).update(created_at=ago)
    run = Reconciliation(since=timezone.now() - timedelta(days=3), began_at=timezone.now())
    nothing = comparison.Theirs(sessions=[], payments=[], invoices=[], reversals=[])
    found = [finding for finding in comparison.findings(run, nothing) if finding.order == checkout.order]
    assert [(finding.kind, finding.mended) for finding in found] == [("not_credited", True)]
    assert checkout.order.state == "paid"


def test_an_automatic_topup_whose_event_was_lost_is_credited(
    alice: User, sign_in: SignIn, demo_stripe: DemoStripe
) -> None:
    saver = Saver(user=alice, browser=sign_in(alice), stripe=demo_stripe)
    saver.turn_on()
    order = topups.consider(alice.pk)
    assert order is not None
    with transaction.atomic():
        lost = Order.objects.create(
            user=alice,
            source=Order.Source.AUTO_TOPUP,
            credits_microcredits=order.credits_microcredits,
            amount_cents=order.amount_cents,
            currency="usd",
            stripe_payment_method=AutoTopUp.objects.get(user=alice).payment_method,
        )
    demo_stripe.faults(drop=True)
    topups.payments.charge_off_session(lost, alice.stripe_customer)
    before = available(alice)

    reconciliation.reconcile()
    lost.refresh_from_db()
    assert lost.state == "paid"
    assert available(alice) == before + 500
    assert (about(lost), about(order)) == ([("not_credited", True)], [])


def test_a_period_whose_event_was_lost_is_credited(
    alice: User, sign_in: SignIn, demo_stripe: DemoStripe
) -> None:
    plus = Plan.objects.get(name="Plus")
    subscriber = Subscriber(user=alice, browser=sign_in(alice), stripe=demo_stripe)
    subscriber.subscribe(plus)
    demo_stripe.faults(drop=True)
    demo_stripe.renew(subscriber.subscription.stripe_id)
    assert len(subscriber.periods) == 1

    reconciliation.reconcile()
    first, second = subscriber.periods
    assert (about(first), about(second)) == ([], [("not_credited", True)])
    assert len(subscriber.bought) == 2


def test_a_refund_whose_event_was_lost_takes_the_credits_back(
    alice: User, go_to_checkout: GoToCheckout, demo_stripe: DemoStripe
) -> None:
    order = paid(go_to_checkout, demo_stripe, alice).order
    before = available(alice)
    demo_stripe.faults(drop=True)
    refund = demo_stripe.refund(order.stripe_payment_intent, amount=100)

    reconciliation.reconcile()
    assert available(alice) == before - 100
    assert about(order, stripe_id=refund["id"]) == [("not_reversed", True)]

    demo_stripe.refund_becomes(refund["id"], "failed")
    reconciliation.reconcile()
    assert available(alice) == before
    assert about(order) == [("not_reversed", True)] * 2
    reconciliation.reconcile()
    assert len(about(order)) == 2


def test_a_dispute_whose_event_was_lost_takes_the_credits_back_until_it_is_won(
    alice: User, go_to_checkout: GoToCheckout, demo_stripe: DemoStripe
) -> None:
    order = paid(go_to_checkout, demo_stripe, alice).order
    before = available(alice)
    demo_stripe.faults(drop=True)
    dispute = demo_stripe.dispute(order.stripe_payment_intent)
    reconciliation.reconcile()
    assert available(alice) == before - 500
    demo_stripe.dispute_becomes(dispute["id"], "won")
    reconciliation.reconcile()
    assert available(alice) == before
    assert about(order) == [("not_reversed", True)] * 2


def test_a_dispute_of_what_was_refunded_has_nothing_left_to_take(
    alice: User, go_to_checkout: GoToCheckout, demo_stripe: DemoStripe
) -> None:
    order = paid(go_to_checkout, demo_stripe, alice).order
    demo_stripe.refund(order.stripe_payment_intent, amount=300)
    demo_stripe.idle()
    demo_stripe.dispute(order.stripe_payment_intent)
    demo_stripe.idle()
    reconciliation.reconcile()
    assert about(order) == []


# --- What cannot be mended stands open, and is told once


def open_ones(order: Order | None = None, **which: Any) -> list[str]:
    reconciliation.reconcile()
    found = about(order, **which)
    reconciliation.reconcile()
    assert about(order, **which) == found, "told once"
    assert not any(mended for _, mended in found)
    return [kind for kind, _ in found]


def test_an_order_paid_by_hand_that_stripe_never_saw(alice: User, demo_stripe: DemoStripe) -> None:
    order = books.order(alice, 500 * CREDIT)
    books.pay(order)
    assert open_ones(order) == ["not_paid"]
    says = Discrepancy.objects.get(order=order)
    assert (says.expected, says.found) == ("no payment", "$1 paid")


def test_an_order_paid_by_hand_on_a_page_that_nobody_paid(
    alice: User, go_to_checkout: GoToCheckout, demo_stripe: DemoStripe
) -> None:
    order = go_to_checkout(alice).order
    with transaction.atomic():
        wallet = ledger.locked_wallet_of(alice)
        Order.objects.filter(pk=order.pk).update(state="paid", paid_at=Now(), paid_cents=500)
        ledger.purchase(wallet=wallet, order=order)
    assert open_ones(order) == ["not_paid"]


def test_an_order_marked_as_paid_without_its_credits(
    alice: User, go_to_checkout: GoToCheckout, demo_stripe: DemoStripe
) -> None:
    checkout = go_to_checkout(alice)
    demo_stripe.faults(drop=True)
    demo_stripe.pay(checkout.url)
    with books.unguarded("billing_order"):
        Order.objects.filter(pk=checkout.order.pk).update(state="paid", paid_at=Now(), paid_cents=500)
    assert open_ones(checkout.order) == ["not_credited"]
    # The books of the tests after this one are to be right again.
    with transaction.atomic():
        ledger.purchase(wallet=ledger.locked_wallet_of(alice), order=checkout.order)


@pytest.mark.parametrize("column", ["paid_cents", "amount_cents"])
def test_an_amount_that_differs(
    column: str, alice: User, go_to_checkout: GoToCheckout, demo_stripe: DemoStripe
) -> None:
    order = paid(go_to_checkout, demo_stripe, alice).order
    with books.unguarded("billing_order"):
        Order.objects.filter(pk=order.pk).update(**{column: 499})
    assert open_ones(order) == ["amount"]
    assert Discrepancy.objects.get(order=order).found == "$4.99"


def test_a_page_paid_once_more_for_the_same_order(
    alice: User, go_to_checkout: GoToCheckout, demo_stripe: DemoStripe
) -> None:
    order = paid(go_to_checkout, demo_stripe, alice).order
    before = available(alice)
    again = demo_stripe.api(
        "POST",
        "/v1/checkout/sessions",
        **{
            "mode": "payment",
            "client_reference_id": str(order.pk),
            "metadata[order]": str(order.pk),
            "success_url": "https://shop.example.org/",
            "line_items[0][quantity]": "1",
            "line_items[0][price_data][currency]": "usd",
            "line_items[0][price_data][unit_amount]": "500",
            "line_items[0][price_data][product_data][name]": "500 credits",
        },
    )
    demo_stripe.pay(again["url"])
    demo_stripe.idle()
    assert open_ones(order) == ["paid_twice"]
    assert Discrepancy.objects.get(order=order).stripe_id == again["id"]
    assert available(alice) == before


def test_a_payment_for_which_two_orders_were_credited(
    alice: User, go_to_checkout: GoToCheckout, demo_stripe: DemoStripe
) -> None:
    payment = paid(go_to_checkout, demo_stripe, alice).order.stripe_payment_intent
    twin = books.order(alice, CREDIT)
    books.pay(twin, stripe_payment_intent=payment)
    assert open_ones(stripe_id=payment) == ["credited_twice"]


def test_what_was_paid_for_an_account_that_was_gone_is_to_be_refunded(
    alice: User, go_to_checkout: GoToCheckout, demo_stripe: DemoStripe
) -> None:
    before = paid(go_to_checkout, demo_stripe, alice).order
    after, refunded = go_to_checkout(alice), go_to_checkout(alice)
    User.objects.get(pk=alice.pk).delete()
    for checkout in (after, refunded):
        demo_stripe.pay(checkout.url)
    demo_stripe.idle()
    demo_stripe.refund(refunded.order.stripe_payment_intent)
    demo_stripe.idle()

    assert open_ones(after.order) == ["paid_by_nobody"]
    says = Discrepancy.objects.get(order=after.order)
    assert says.says == "$5 was paid by somebody who had deleted their account: refund it."
    assert (says.stripe_id, says.expected) == (after.order.stripe_payment_intent, "$5 paid")
    assert about(before) == about(refunded.order) == []
    operator = User.objects.create_superuser(f"operator-{says.pk}@example.org")
    assert "Show what it does" in page(browser_of(operator), f"/admin/billing/order/{after.order.pk}/refund/")


def test_credits_taken_back_for_a_refund_that_stripe_does_not_know(
    alice: User, go_to_checkout: GoToCheckout, demo_stripe: DemoStripe
) -> None:
    order = paid(go_to_checkout, demo_stripe, alice).order
    books.take_back(order, 5 * CREDIT)
    assert open_ones(order) == ["reversed"]
    assert Discrepancy.objects.get(order=order).found == "5.000000 credits taken"


def test_a_refund_for_which_too_little_was_taken(
    alice: User, go_to_checkout: GoToCheckout, demo_stripe: DemoStripe
) -> None:
    order = paid(go_to_checkout, demo_stripe, alice).order
    demo_stripe.faults(drop=True)
    refund = demo_stripe.refund(order.stripe_payment_intent, amount=100)
    with transaction.atomic():
        ledger.reverse(
            wallet=ledger.locked_wallet_of(alice),
            order=order,
            kind=Transfer.Kind.REFUND,
            amount=CREDIT,
            key=f"refund:{refund['id']}",
            reason="",
            made_by="",
        )
    assert open_ones(order) == ["amount"]


def test_a_discrepancy_that_was_resolved_is_not_told_again(alice: User, demo_stripe: DemoStripe) -> None:
    order = books.order(alice, CREDIT)
    books.pay(order)
    reconciliation.reconcile()
    Discrepancy.objects.filter(order=order).update(resolved_at=Now(), resolved_by="o@x", note="A gift")
    reconciliation.reconcile()
    assert Discrepancy.objects.filter(order=order).count() == 1


def test_what_stood_open_and_is_mended_later_is_open_no_more(
    alice: User, go_to_checkout: GoToCheckout, demo_stripe: DemoStripe, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkout = go_to_checkout(alice)
    demo_stripe.faults(drop=True)
    demo_stripe.pay(checkout.url)
    with monkeypatch.context() as fault:
        fault.setattr(fulfilment, "fulfil", lambda _: None)
        reconciliation.reconcile()
    assert about(checkout.order) == [("not_credited", False)]
    reconciliation.reconcile()
    assert about(checkout.order) == [("not_credited", True)]


# --- A run


def test_stripe_away_from_the_first_question_on(
    alice: User, go_to_checkout: GoToCheckout, demo_stripe: DemoStripe
) -> None:
    checkout = go_to_checkout(alice)
    demo_stripe.faults(drop=True)
    demo_stripe.pay(checkout.url)
    demo_stripe.api_faults(path="/v1/disputes", times=4, status=500)
    run = reconciliation.reconcile()
    assert run.error == (
        "Stripe, which takes the payments, cannot be reached now. Nothing was charged; try again soon."
    )
    assert run.ended_at is not None
    assert (checkout.order.state, about(checkout.order)) == ("open", [])
    reconciliation.reconcile()
    assert about(checkout.order) == [("not_credited", True)]


def test_stripe_away_in_the_middle_leaves_nothing_half_done(
    alice: User, go_to_checkout: GoToCheckout, demo_stripe: DemoStripe
) -> None:
    checkout = go_to_checkout(alice)
    demo_stripe.faults(drop=True)
    demo_stripe.pay(checkout.url)
    demo_stripe.api_faults(path=f"/v1/checkout/sessions/{checkout.session}", times=4, status=500)
    assert reconciliation.reconcile().error
    assert (checkout.order.state, about(checkout.order)) == ("open", [])


def test_a_failed_run_widens_the_next(db: None) -> None:
    Discrepancy.objects.all().delete()
    Reconciliation.objects.all().delete()
    now = timezone.now()

    def ran(days_ago: int, days: int, error: str = "", *, ended: bool = True) -> None:
        began = now - timedelta(days=days_ago)
        Reconciliation.objects.create(
            began_at=began,
            since=began - timedelta(days=days),
            ended_at=began if ended else None,
            error=error,
        )

    def looks_back() -> float:
        run = reconciliation._begin(3)
        run.delete()
        return round((now - run.since) / timedelta(days=1), 1)

    assert looks_back() == 3
    ran(9, 3, "Stripe was away.")
    assert looks_back() == 12
    ran(8, 12)
    assert looks_back() == 9, "a day before the last complete one"
    ran(7, 9, "Stripe was away.")
    ran(6, 9, ended=False)
    assert looks_back() == 9
    assert Reconciliation.objects.filter(error="It was cut off.").count() == 1
    ran(1, 9)
    assert looks_back() == 3


def test_one_run_at_a_time(committed_db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, go_on = threading.Event(), threading.Event()

    def slow(_: object) -> comparison.Theirs:
        asked.set()
        go_on.wait(20)
        return comparison.Theirs(sessions=[], payments=[], invoices=[], reversals=[])

    monkeypatch.setattr(comparison, "ask", slow)
    monkeypatch.setattr(comparison, "findings", lambda run, theirs: iter([]))
    runs: list[Reconciliation] = []

    def first() -> None:
        try:
            runs.append(reconciliation.reconcile())
        finally:
            connections.close_all()

    thread = threading.Thread(target=first)
    thread.start()
    try:
        assert asked.wait(20)
        before = Reconciliation.objects.count()
        with pytest.raises(AlreadyReconciling):
            reconciliation.reconcile()
        assert Reconciliation.objects.count() == before
    finally:
        go_on.set()
        thread.join()
    assert runs[0].error == ""
    assert reconciliation.reconcile().error == ""


def test_the_command_says_what_stands_open(alice: User, demo_stripe: DemoStripe, stack: Stack) -> None:
    order = books.order(alice, CREDIT)
    books.pay(order)
    ran = stack.manage("reconcile", "--days", "2")
    assert ran.returncode == 1
    assert f"order {order.pk}" in ran.stdout
    assert "The order is paid in our books, and Stripe has no payment for it." in ran.stdout
    Discrepancy.objects.open().update(resolved_at=Now(), resolved_by="o@x", note="A test's")
    ran = stack.manage("reconcile")
    assert ran.returncode == 0, ran.stderr
    assert "Nothing stands open." in ran.stdout


@pytest.mark.parametrize("days", ["0", "-1", "x", "4000"])
def test_days_that_make_no_sense_are_refused(days: str) -> None:
    with pytest.raises(CommandError, match="argument --days: give a number of days from 1 to 365"):
        call_command("reconcile", "--days", days)


def test_the_command_fails_when_stripe_is_away(demo_stripe: DemoStripe) -> None:
    demo_stripe.api_faults(path="/v1/checkout/sessions", times=4, status=500)
    with pytest.raises(CommandError, match="cannot be reached now"):
        call_command("reconcile")


# --- By itself, each night


def test_it_runs_each_night_where_there_is_a_stripe(
    monkeypatch: pytest.MonkeyPatch, settings: Settings, db: None
) -> None:
    ran: list[str] = []
    monkeypatch.setattr(reconciliation, "reconcile", lambda: ran.append("ran"))
    (entry,) = (
        entry for entry in app.conf.beat_schedule.values() if entry["task"] == "billing.tasks.reconcile"
    )
    assert entry["options"]["expires"] < 24 * 3600
    settings.STRIPE_SECRET_KEY = ""
    tasks.reconcile()
    assert ran == []
    settings.STRIPE_SECRET_KEY = "sk_test_x"
    tasks.reconcile()
    assert ran == ["ran"]


def test_a_task_that_comes_while_another_runs_leaves_it_alone(
    monkeypatch: pytest.MonkeyPatch, settings: Settings, db: None
) -> None:
    def going_on() -> None:
        raise AlreadyReconciling("The books are being held against Stripe's at this moment.")

    monkeypatch.setattr(reconciliation, "reconcile", going_on)
    settings.STRIPE_SECRET_KEY = "sk_test_x"
    tasks.reconcile()
