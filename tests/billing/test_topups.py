"""Automatic top-ups: one payment when credits run low, whatever dies, and a pause when the bank says no."""

import re
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import httpx
import pytest
from django.db import IntegrityError, connections, transaction
from django.db.models.functions import Now

from accounts.models import User
from billing import topups
from billing.errors import PaymentUnavailable
from billing.models import AutoTopUp, Mail, Order, Pack, StripeEvent
from billing.stripe_gateway import payments
from billing.tasks import look_after_wallet
from chatapp.local.demo_stripe.client import DemoStripe
from tests.billing import books
from tests.conftest import SignIn

CREDIT = 1_000_000
INTENTS = "/v1/payment_intents"
AUTO_TOPUP = "/billing/auto-topup/"


@dataclass
class Saver:
    """A person with a standing order, their browser, and Stripe at hand."""

    user: User
    browser: httpx.Client
    stripe: DemoStripe

    def ask(self, **changes: object) -> httpx.Response:
        """Send the form: below 200 credits buy the Starter pack (500 for $5), at most $20 a month."""
        pack = Pack.objects.get(name="Starter").pk
        form = {"enabled": "on", "threshold": "200", "pack": pack, "monthly_cap": "20", **changes}
        return self.browser.post(AUTO_TOPUP, data=form)

    def turn_on(self, **changes: object) -> None:
        """With the first payment, in person; afterwards there is nothing left to spend."""
        answer = self.ask(**changes)
        assert answer.status_code == 303, answer.text
        self.stripe.act(answer.headers["location"], "pay")
        self.stripe.idle()
        assert self.rule.paused_because == ""
        self.spend_all()

    def spend_all(self) -> None:
        available = books.wallet_of(self.user).available
        if available > 0:
            books.close_turn(books.open_turn(self.user, available), available)

    @property
    def rule(self) -> AutoTopUp:
        return AutoTopUp.objects.get(user=self.user)

    @property
    def topups(self) -> list[Order]:
        return list(self.user.orders.filter(source=Order.Source.AUTO_TOPUP).order_by("created_at"))

    @property
    def states(self) -> list[str]:
        return [order.state for order in self.topups]

    @property
    def available(self) -> int:
        """Whole credits."""
        return books.wallet_of(self.user).available // CREDIT

    def charged(self) -> int:
        """How many payments Stripe has taken while the person was away."""
        customer = self.user.stripe_customer.stripe_id
        intents = self.stripe.api("GET", f"{INTENTS}?limit=100&customer={customer}")["data"]
        mine = {str(order.pk) for order in self.topups}
        return sum(row["status"] == "succeeded" and row["metadata"].get("order") in mine for row in intents)


@pytest.fixture
def saver(alice: User, sign_in: SignIn, demo_stripe: DemoStripe) -> Saver:
    return Saver(user=alice, browser=sign_in(alice), stripe=demo_stripe)


# --- Turning it on


def test_it_begins_with_a_payment_in_person_that_keeps_the_card(saver: Saver) -> None:
    answer = saver.ask()
    assert answer.status_code == 303
    assert saver.rule.paused_because == "no_card"
    assert topups.consider(saver.user.pk) is None

    saver.stripe.act(answer.headers["location"], "pay")
    saver.stripe.idle()

    rule = saver.rule
    assert (rule.enabled, rule.paused_because, rule.card) == (True, "", "Visa 4242")
    assert rule.payment_method.startswith("pm_")
    assert saver.user.orders.get().keeps_card
    assert saver.available == 600


def test_who_comes_back_from_paying_is_told_that_it_is_on(saver: Saver) -> None:
    url = saver.ask().headers["location"]
    saver.stripe.act(url, "pay")
    saver.stripe.idle()
    session = saver.user.orders.get().stripe_session
    page = saver.browser.get("/billing/return/", params={"session_id": session}).text
    assert "Automatic top-up is on: below 200 credits, Starter for $5, up to $20 a month." in page


def test_a_card_is_kept_only_by_who_asked_for_it(saver: Saver) -> None:
    saver.ask()
    url = saver.browser.post("/billing/checkout/", data={"amount": "20"}).headers["location"]
    saver.stripe.act(url, "pay")
    saver.stripe.idle()
    assert (saver.rule.payment_method, saver.rule.paused_because) == ("", "no_card")


@pytest.mark.parametrize(
    ("changes", "field", "sentence"),
    [
        ({"threshold": ""}, "threshold", "Say below how many credits to top up."),
        ({"threshold": "-1"}, "threshold", "Credits to top up at cannot be negative."),
        ({"threshold": "0"}, "threshold", "Only a debt is below 0 credits: top up at more than that."),
        ({"threshold": "9999999"}, "threshold", "The highest balance to top up at is 100,000 credits."),
        ({"threshold": "100001"}, "threshold", "The highest balance to top up at is 100,000 credits."),
        ({"threshold": "501"}, "threshold", "One top-up brings 500 credits: top up below that, or buy more"),
        ({"threshold": "1e400"}, "threshold", "The highest balance to top up at is 100,000 credits."),
        ({"threshold": "NaN"}, "threshold", "Write a number of credits, such as 200."),
        ({"monthly_cap": ""}, "monthly_cap", "Say how much a month it may spend at most."),
        ({"monthly_cap": "0"}, "monthly_cap", "Say how much a month it may spend at most."),
        ({"monthly_cap": "100001"}, "monthly_cap", "The most it may spend in a month is $100,000."),
        ({"monthly_cap": "4.99"}, "monthly_cap", "Each top-up costs $5: let it spend that much a month"),
        ({"pack": "", "amount": "4"}, "amount", "The least you can buy is $5."),
        ({"pack": "", "amount": ""}, "pack", "Choose what to buy"),
        ({"amount": "20"}, "pack", "Choose what to buy"),
        ({"pack": "999999"}, "pack", "This pack is not on sale."),
    ],
)
def test_what_makes_no_sense_is_refused_at_its_field(
    saver: Saver, changes: dict[str, str], field: str, sentence: str
) -> None:
    answer = saver.ask(**changes)
    assert answer.status_code == 400
    help = " topup-threshold-help" if field == "threshold" else ""
    assert f'aria-describedby="{field}-wrong{help}"' in answer.text
    (told,) = re.findall(r'class="error" id="(.+?)-wrong"><p>([^<]+)</p></div>', answer.text)
    assert told[0] == field
    assert told[1].startswith(sentence)
    for name, typed in changes.items():
        assert name == "pack" or not typed or f'value="{typed}"' in answer.text
    assert not AutoTopUp.objects.filter(user=saver.user).exists()


def test_a_form_that_is_too_old_is_not_kept(saver: Saver) -> None:
    answer = saver.ask(order="x")
    assert answer.status_code == 400
    assert "Reload this page" in answer.text
    assert not AutoTopUp.objects.filter(user=saver.user).exists()


# --- Running low


def test_running_low_buys_once_and_credits_at_once(saver: Saver) -> None:
    saver.turn_on()
    saver.stripe.faults(drop=True)
    order = topups.consider(saver.user.pk)
    assert order
    assert (order.state, order.amount_cents, order.paid_cents) == ("paid", 500, 500)
    assert order.stripe_payment_intent.startswith("pi_")
    assert saver.available == 500
    assert topups.consider(saver.user.pk) is None, "it is above the threshold again"
    assert saver.charged() == 1


def test_the_worker_tops_up_after_spending(saver: Saver) -> None:
    saver.turn_on()
    look_after_wallet(str(saver.user.pk))
    assert saver.available == 500


def test_the_webhook_credits_nothing_twice(saver: Saver) -> None:
    saver.turn_on()
    saver.stripe.faults(repeat=10)
    topups.consider(saver.user.pk)
    saver.stripe.idle()
    assert {row["status"] for row in saver.stripe.deliveries("payment_intent.succeeded")} == {200}
    assert (saver.available, saver.states) == (500, ["paid"])


def test_an_amount_of_choice_is_topped_up(saver: Saver) -> None:
    saver.turn_on(pack="", amount="7.50")
    topups.consider(saver.user.pk)
    assert saver.available == 750


def test_above_the_threshold_nothing_is_bought(saver: Saver) -> None:
    saver.turn_on()
    books.give(saver.user, 200 * CREDIT)
    assert topups.consider(saver.user.pk) is None
    books.close_turn(books.open_turn(saver.user, 1), 1)
    assert topups.consider(saver.user.pk) is not None


def test_what_is_held_counts_as_spent(saver: Saver) -> None:
    saver.turn_on()
    books.give(saver.user, 200 * CREDIT)
    turn = books.open_turn(saver.user, CREDIT)
    assert topups.consider(saver.user.pk) is not None
    books.close_turn(turn, 0)


def test_fifty_at_once_make_one_payment(saver: Saver) -> None:
    saver.turn_on()

    def consider(_: int) -> None:
        try:
            topups.consider(saver.user.pk)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(10) as threads:
        list(threads.map(consider, range(50)))
    saver.stripe.idle()
    assert (saver.states, saver.available, saver.charged()) == (["paid"], 500, 1)


def test_postgresql_allows_one_attempt_at_a_time(saver: Saver) -> None:
    facts = {"user": saver.user, "source": "auto_topup", "credits_microcredits": 1, "amount_cents": 1}
    Order.objects.create(**facts)
    with pytest.raises(IntegrityError, match="one_open_auto_topup_per_person"), transaction.atomic():
        Order.objects.create(**facts, state="pending")


def test_the_cap_of_the_month_is_kept(saver: Saver) -> None:
    saver.turn_on(monthly_cap="14.99")
    for _ in range(4):
        topups.consider(saver.user.pk)
        saver.spend_all()
    assert saver.states == ["paid", "paid"]
    said = "Automatic payments this month: $10 of at most $14.99."
    assert said in saver.browser.get("/billing/").text, "the first, paid in person, does not count"
    # The month before does not count.
    with books.unguarded("billing_order"):
        saver.user.orders.filter(source="auto_topup").update(created_at=Now() - timedelta(days=32))
    topups.consider(saver.user.pk)
    assert saver.states == ["paid"] * 3


def test_who_turned_it_off_buys_nothing(saver: Saver) -> None:
    saver.turn_on()
    answer = saver.ask(enabled="")
    assert answer.status_code == 303
    assert answer.headers["location"].endswith("/billing/#auto-topup")
    assert topups.consider(saver.user.pk) is None
    assert saver.ask().headers["location"].endswith("/billing/#auto-topup"), "the card is still there"
    assert topups.consider(saver.user.pk) is not None


def test_a_pack_off_sale_pauses_it(saver: Saver) -> None:
    pack = Pack.objects.create(name="Passing", credits=500, price_cents=500, position=50)
    try:
        saver.turn_on(pack=pack.pk)
        Pack.objects.filter(pk=pack.pk).update(on_sale=False)
        assert topups.consider(saver.user.pk) is None
        assert saver.rule.paused_because == "nothing_to_buy"
        assert "The pack you chose is no longer on sale." in saver.browser.get("/billing/").text
        assert saver.ask().headers["location"].endswith("/billing/#auto-topup")
        assert topups.consider(saver.user.pk) is not None
    finally:
        Pack.objects.filter(pk=pack.pk).update(on_sale=False)


def test_who_may_not_sign_in_buys_nothing(saver: Saver) -> None:
    saver.turn_on()
    User.objects.filter(pk=saver.user.pk).update(is_active=False)
    topups.consider_all()
    topups.consider(saver.user.pk)
    assert (saver.states, saver.charged()) == ([], 0)


def test_beat_tops_up_who_has_nothing_left_to_spend(saver: Saver) -> None:
    saver.turn_on()
    topups.consider_all()
    assert saver.available == 500


# --- The bank says no


@pytest.mark.parametrize(
    ("code", "paused", "sentence"),
    [
        (
            "authentication_required",
            "authentication_required",
            "Your bank wants you to confirm a payment yourself.",
        ),
        ("card_declined", "refused", "Your bank refused the last top-up."),
        ("expired_card", "refused", "Your bank refused the last top-up."),
    ],
)
def test_a_refusal_pauses_it_until_it_is_paid_in_person(
    saver: Saver, code: str, paused: str, sentence: str
) -> None:
    saver.turn_on()
    saver.stripe.off_session(code)
    order = topups.consider(saver.user.pk)
    saver.stripe.idle()

    assert order
    assert (order.state, order.failure) == ("failed", code)
    assert (saver.rule.paused_because, saver.available) == (paused, 0)
    assert Mail.objects.filter(user=saver.user, kind="topup_failed", order=order).count() == 1
    assert topups.consider(saver.user.pk) is None, "the bank is not asked again and again"
    page = saver.browser.get("/billing/").text
    assert sentence in page
    assert "Pay $5 at Stripe" in page

    saver.stripe.off_session("succeeded")
    form = {"pack": Pack.objects.get(name="Starter").pk, "keep_card": "on"}
    url = saver.browser.post("/billing/checkout/", data=form).headers["location"]
    saver.stripe.act(url, "pay")
    saver.stripe.idle()

    assert (saver.rule.paused_because, saver.available) == ("", 500)
    saver.spend_all()
    topups.consider(saver.user.pk)
    assert saver.states == ["failed", "paid"]


@pytest.mark.parametrize("how", ["refund", "dispute"])
def test_money_that_went_back_is_not_taken_again_while_the_person_is_away(saver: Saver, how: str) -> None:
    def look() -> None:
        topups.consider_all()
        topups.consider(saver.user.pk)

    def pay_in_person() -> None:
        form = {"pack": Pack.objects.get(name="Starter").pk, "keep_card": "on"}
        saver.stripe.act(saver.browser.post("/billing/checkout/", data=form).headers["location"], "pay")
        saver.stripe.idle()

    saver.turn_on()
    look()
    saver.spend_all()
    for order in saver.user.orders.all():
        getattr(saver.stripe, how)(order.stripe_payment_intent)
    saver.stripe.idle()
    look()
    assert (saver.charged(), saver.available, saver.rule.paused_because) == (1, -1000, "reversed")
    page = saver.browser.get("/billing/").text
    assert "A payment of yours was refunded or disputed" in page
    assert "Pay $5 at Stripe" in page
    assert saver.ask().headers["location"].startswith(saver.stripe.url), (
        "what is kept anew is paid for in person"
    )

    pay_in_person()
    look()
    assert (saver.charged(), saver.available, saver.rule.paused_because) == (1, -500, "")
    pay_in_person()
    look()
    assert (saver.charged(), saver.available) == (2, 500)


def test_a_failure_told_of_again_does_not_pause_what_goes_on(saver: Saver) -> None:
    saver.turn_on()
    saver.stripe.off_session("card_declined")
    saver.stripe.faults(types=["payment_intent.payment_failed"], hold=True)
    topups.consider(saver.user.pk)
    AutoTopUp.objects.filter(user=saver.user).update(paused_because="")
    saver.stripe.faults(repeat=3)
    saver.stripe.release()
    saver.stripe.idle()
    assert {row["status"] for row in saver.stripe.deliveries("payment_intent.payment_failed")} == {200}
    assert saver.rule.paused_because == ""
    assert Mail.objects.filter(user=saver.user, kind="topup_failed").count() == 1


def test_a_card_that_was_removed_pauses_it(saver: Saver) -> None:
    saver.turn_on()
    saver.stripe.api("POST", f"/v1/payment_methods/{saver.rule.payment_method}/detach")
    saver.stripe.idle()
    assert (saver.rule.paused_because, saver.rule.payment_method, saver.rule.card) == ("no_card", "", "")
    assert topups.consider(saver.user.pk) is None


def test_a_card_that_was_removed_unheard_fails_the_order(saver: Saver) -> None:
    saver.turn_on()
    saver.stripe.faults(drop=True)
    saver.stripe.api("POST", f"/v1/payment_methods/{saver.rule.payment_method}/detach")
    order = topups.consider(saver.user.pk)
    assert order
    assert (order.state, order.failure, saver.rule.paused_because) == ("failed", "request_refused", "refused")


# --- Whatever dies


def long_ago(order: Order, **ago: int) -> None:
    Order.objects.filter(pk=order.pk).update(created_at=Now() - timedelta(**ago))


def test_a_lost_answer_is_asked_for_again_and_pays_once(saver: Saver) -> None:
    saver.turn_on()
    saver.stripe.faults(drop=True)
    saver.stripe.api_faults(path=INTENTS, lose_answer=True, times=4)
    order = topups.consider(saver.user.pk)
    assert order
    assert (order.state, saver.available) == ("open", 0)
    assert topups.consider(saver.user.pk) is None, "no other while this one is open"
    topups.finish_left_behind()
    assert saver.states == ["open"], "whoever makes it may still be alive"
    long_ago(order, minutes=3)
    for _ in range(3):
        topups.finish_left_behind()
    assert (saver.states, saver.available, saver.charged()) == (["paid"], 500, 1)


def test_a_worker_killed_between_stripes_answer_and_our_commit_loses_nothing(
    saver: Saver, monkeypatch: pytest.MonkeyPatch
) -> None:
    saver.turn_on()
    saver.stripe.faults(drop=True)

    def die(payment: str) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as fault:
        fault.setattr(payments, "retrieve_payment", die)
        with pytest.raises(KeyboardInterrupt):
            topups.consider(saver.user.pk)
    assert (saver.states, saver.available, saver.charged()) == (["open"], 0, 1)
    long_ago(saver.topups[0], minutes=3)
    topups.finish_left_behind()
    assert (saver.states, saver.available, saver.charged()) == (["paid"], 500, 1)


def test_a_worker_killed_before_it_asked_is_made_up_for(
    saver: Saver, monkeypatch: pytest.MonkeyPatch
) -> None:
    saver.turn_on()

    def die(*_: object) -> str:
        raise KeyboardInterrupt

    with monkeypatch.context() as fault:
        fault.setattr(payments, "charge_off_session", die)
        with pytest.raises(KeyboardInterrupt):
            topups.consider(saver.user.pk)
    assert saver.charged() == 0
    long_ago(saver.topups[0], minutes=3)
    topups.finish_left_behind()
    assert (saver.states, saver.available, saver.charged()) == (["paid"], 500, 1)


def test_many_who_finish_what_was_left_behind_take_the_money_once(
    saver: Saver, monkeypatch: pytest.MonkeyPatch
) -> None:
    saver.turn_on()

    def away(*_: object) -> str:
        raise PaymentUnavailable("away")

    with monkeypatch.context() as fault:
        fault.setattr(payments, "charge_off_session", away)
        order = topups.consider(saver.user.pk)
    assert order
    long_ago(order, minutes=3)

    assert books.at_once([topups.finish_left_behind] * 5) == [None] * 5
    saver.stripe.idle()
    assert (saver.states, saver.available, saver.charged()) == (["paid"], 500, 1)
    keys = {row["idempotency_key"] for row in saver.stripe.requests(INTENTS) if row["method"] == "POST"}
    assert keys == {f"topup:{order.pk}"}


def test_the_webhook_alone_credits_what_was_left_behind(saver: Saver) -> None:
    saver.turn_on()
    saver.stripe.api_faults(path=INTENTS, lose_answer=True, times=4)
    topups.consider(saver.user.pk)
    saver.stripe.api_faults()
    saver.stripe.idle()
    assert (saver.states, saver.available, saver.charged()) == (["paid"], 500, 1)


def test_a_refusal_whose_answer_was_lost_is_found_out(saver: Saver) -> None:
    saver.turn_on()
    saver.stripe.faults(drop=True)
    saver.stripe.off_session("authentication_required")
    saver.stripe.api_faults(path=INTENTS, lose_answer=True, times=4)
    order = topups.consider(saver.user.pk)
    assert order
    saver.stripe.off_session("succeeded")
    long_ago(order, minutes=3)
    topups.finish_left_behind()
    assert (saver.states, saver.charged()) == (["failed"], 0)
    assert saver.rule.paused_because == "authentication_required"


@pytest.mark.parametrize(
    ("ago", "pause", "is_active"),
    [({"hours": 24}, "", True), ({"minutes": 3}, "reversed", True), ({"minutes": 3}, "", False)],
)
def test_what_stripe_never_heard_of_is_not_asked_for_when_nobody_expects_it_any_more(
    saver: Saver, monkeypatch: pytest.MonkeyPatch, ago: dict[str, int], pause: str, is_active: bool
) -> None:
    """After a day Stripe has forgotten the key, and would take the money; or the rule has stopped meanwhile."""
    saver.turn_on()

    def away(*_: object) -> str:
        raise PaymentUnavailable("away")

    with monkeypatch.context() as fault:
        fault.setattr(payments, "charge_off_session", away)
        order = topups.consider(saver.user.pk)
    assert order
    long_ago(order, **ago)
    AutoTopUp.objects.filter(user=saver.user).update(paused_because=pause)
    User.objects.filter(pk=saver.user.pk).update(is_active=is_active)
    topups.finish_left_behind()
    assert (saver.states, saver.topups[0].failure, saver.charged()) == (["failed"], "abandoned", 0)
    assert saver.rule.paused_because == (pause or "refused")


def test_an_old_answer_that_the_bank_is_at_it_blocks_nothing(saver: Saver) -> None:
    saver.turn_on()
    saver.stripe.faults(drop=True)
    saver.stripe.off_session("card_declined")
    order = topups.consider(saver.user.pk)
    assert order
    failed = payments.retrieve_payment(order.stripe_payment_intent)
    topups.settle_at_once(replace(failed, status="processing", failure=""))
    assert saver.states == ["failed"]


def test_a_bank_whose_answer_was_lost_is_asked_for_it(saver: Saver) -> None:
    saver.turn_on()
    saver.stripe.faults(drop=True)
    saver.stripe.off_session("card_declined")
    order = topups.consider(saver.user.pk)
    assert order
    Order.objects.filter(pk=order.pk).update(state="pending", failure="")
    topups.finish_left_behind()
    assert saver.states == ["pending"], "the bank has some time"
    long_ago(order, hours=2)
    topups.finish_left_behind()
    assert saver.states == ["failed"]


def test_one_who_cannot_be_topped_up_keeps_nobody_else_from_it(
    saver: Saver,
    bob: User,
    sign_in: SignIn,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    saver.turn_on()
    first = Saver(user=bob, browser=sign_in(bob), stripe=saver.stripe)
    first.turn_on()
    monkeypatch.setattr(AutoTopUp._meta, "ordering", ["-pk"])
    decide = topups._decide

    def broken(user: uuid.UUID) -> Order | None:
        return decide(user) if user == saver.user.pk else 1 // 0  # type: ignore[return-value]

    monkeypatch.setattr(topups, "_decide", broken)
    topups.consider_all()
    assert (first.available, saver.available) == (0, 500)
    assert "ZeroDivisionError" in caplog.text


def test_stripe_away_raises_nothing(saver: Saver) -> None:
    saver.turn_on()
    saver.stripe.api_faults(path=INTENTS, status=503, times=8)
    order = topups.consider(saver.user.pk)
    assert order
    assert order.state == "open"
    long_ago(order, minutes=3)
    topups.finish_left_behind()
    assert saver.states == ["open"]
    topups.finish_left_behind()
    assert (saver.states, saver.charged()) == (["paid"], 1)


# --- What is not believed, and the outsider


def test_an_event_that_says_paid_is_not_believed(saver: Saver) -> None:
    saver.turn_on()
    saver.stripe.off_session("card_declined")
    order = topups.consider(saver.user.pk)
    assert order
    intent = saver.stripe.api("GET", f"{INTENTS}/{order.stripe_payment_intent}")
    saver.stripe.emit("payment_intent.succeeded", object={**intent, "status": "succeeded"})
    saver.stripe.idle()
    assert (saver.states, saver.available) == (["failed"], 0)


def test_payments_of_checkouts_are_told_of_by_their_session(saver: Saver) -> None:
    url = saver.browser.post("/billing/checkout/", data={"amount": "20"}).headers["location"]
    saver.stripe.act(url, "pay")
    saver.stripe.idle()
    event = saver.stripe.deliveries("payment_intent.succeeded")[-1]["event"]
    assert StripeEvent.objects.get(pk=event).outcome == "ignored"


def test_metadata_of_somebody_elses_program_is_ignored(saver: Saver) -> None:
    for order in ("1234", "", "00000000-0000-0000-0000-000000000000"):
        intent = {"id": "pi_x", "object": "payment_intent", "metadata": {"order": order}}
        saver.stripe.emit("payment_intent.succeeded", object=intent)
    saver.stripe.idle()
    assert {row["status"] for row in saver.stripe.deliveries("payment_intent.succeeded")} == {200}


def test_one_persons_rule_is_none_of_anothers_business(saver: Saver, bob: User, sign_in: SignIn) -> None:
    saver.turn_on()
    before = saver.rule
    his = Saver(user=bob, browser=sign_in(bob), stripe=saver.stripe)
    his.ask(threshold="5")
    assert saver.rule == before
    assert (saver.rule.threshold_microcredits, his.rule.threshold_microcredits) == (200 * CREDIT, 5 * CREDIT)
    assert his.rule.payment_method == ""
    assert topups.consider(bob.pk) is None
    topups.consider(saver.user.pk)
    receipt = f"/billing/orders/{saver.topups[0].pk}/invoice/"
    assert saver.browser.get(receipt).headers["location"].startswith(saver.stripe.url)
    assert his.browser.get(receipt).status_code == 404


def test_a_person_who_is_gone_is_topped_up_no_more(saver: Saver) -> None:
    saver.turn_on()
    id = saver.user.pk
    saver.user.delete()
    assert topups.consider(id) is None
    assert not AutoTopUp.objects.filter(user=id).exists()
