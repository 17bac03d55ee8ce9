"""The mails that people are owed: written with what they tell of, sent once, and never in a payment's way."""

import smtplib
import uuid
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from celery.exceptions import OperationalError as BrokerAway
from django.core.mail import EmailMultiAlternatives
from django.db import transaction
from django.db.models.functions import Now
from pytest_django import DjangoCaptureOnCommitCallbacks

from accounts.models import User
from billing import ledger, mails, notices, tasks
from billing.models import AutoTopUp, LowBalanceNotice, Mail, Order, Pack
from chatapp.streaming.tasks import record_usage
from tests.billing.books import CREDIT, at_once, close_turn, give, open_turn, order, pay
from tests.stack import Stack

Outbox = list[EmailMultiAlternatives]


def spend(user: User, credits: int) -> None:
    close_turn(open_turn(user, credits * CREDIT), credits * CREDIT)


def bought(user: User, **fields: Any) -> Order:
    """A paid order with its receipt still to be sent."""
    paid = {name: fields.pop(name) for name in ["paid_cents"] if name in fields}
    facts = {"credits_microcredits": 550 * CREDIT, "amount_cents": 500, "currency": "usd", **fields}
    made = Order.objects.create(user=user, **facts)
    pay(made, **paid)
    made.refresh_from_db()
    return made


def only_mail(user: User) -> Mail:
    return Mail.objects.get(user=user)


def send_all() -> None:
    assert mails.deliver_waiting()


def text_and_html(mail: EmailMultiAlternatives) -> tuple[str, str]:
    html, kind = mail.alternatives[0]
    assert kind == "text/html"
    return str(mail.body), str(html)


# --- Receipts


def test_a_receipt_says_what_was_bought_and_what_is_there_now(alice: User, mailoutbox: Outbox) -> None:
    order = bought(alice, pack=Pack.objects.get(name="Starter"))
    mails.receipt(order, link="https://stripe.test/r?a=1&b=2")
    send_all()

    [mail] = mailoutbox
    assert (mail.subject, mail.to) == ("550 credits added", [alice.email])
    text, html = text_and_html(mail)
    for told in ("$5", "pack Starter", str(order.pk), "650.00", "https://stripe.test/r?a=1&b=2", "/billing/"):
        assert told in text
        assert told.replace("&", "&amp;") in html
    assert "instead of" not in text
    assert "Usable until" not in text


def test_a_receipt_tells_what_was_really_paid_and_until_when_credits_last(
    alice: User, mailoutbox: Outbox
) -> None:
    order = bought(alice, credits_expire_at=datetime(2031, 3, 1, 12, tzinfo=UTC), paid_cents=400)
    mails.receipt(order)
    send_all()
    for told in text_and_html(mailoutbox[0]):
        assert "$4" in told
        assert "instead of $5" in told
        assert "1 March 2031, 12:00 UTC" in told
        assert "Stripe" not in told


def test_one_order_has_one_receipt(alice: User, mailoutbox: Outbox) -> None:
    order = bought(alice)
    for _ in range(3):
        mails.receipt(order)
        tasks.send_waiting_mails()
        tasks.send_mail(only_mail(alice).pk)
    assert len(mailoutbox) == 1


def test_an_order_of_somebody_deleted_has_no_receipt(alice: User) -> None:
    order = bought(alice)
    order.user = None
    mails.receipt(order)
    assert not Mail.objects.filter(order=order).exists()


def test_a_payment_that_is_rolled_back_tells_nobody(
    alice: User, django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks
) -> None:
    order = bought(alice)
    with (  # noqa: PT012
        django_capture_on_commit_callbacks() as callbacks,
        pytest.raises(ZeroDivisionError),
        transaction.atomic(),
    ):
        mails.receipt(order)
        raise ZeroDivisionError
    assert not callbacks
    assert not Mail.objects.filter(user=alice).exists()


def test_a_broker_that_is_away_stops_no_payment(
    alice: User,
    monkeypatch: pytest.MonkeyPatch,
    mailoutbox: Outbox,
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    def away(*_args: object) -> None:
        raise BrokerAway

    monkeypatch.setattr("billing.jobs.current_app.send_task", away)
    with django_capture_on_commit_callbacks(execute=True) as callbacks:
        mails.receipt(bought(alice))
    assert callbacks
    assert not mailoutbox
    send_all()
    assert len(mailoutbox) == 1


@pytest.mark.parametrize(
    "error", [smtplib.SMTPServerDisconnected("gone"), ConnectionRefusedError(), TimeoutError()]
)
def test_a_mail_server_that_is_away_delays_the_mail_ever_longer(
    alice: User, mailoutbox: Outbox, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def away(_mail: EmailMultiAlternatives) -> int:
        raise error

    mails.receipt(bought(alice))
    pauses = []
    with monkeypatch.context() as patched:
        patched.setattr(EmailMultiAlternatives, "send", away)
        for _ in range(3):
            Mail.objects.filter(user=alice).update(due_at=Now())
            assert mails.deliver(only_mail(alice).pk) is False
            mail = only_mail(alice)
            assert (mail.sent_at, mail.given_up_at) == (None, None)
            pauses.append(mail.due_at - mail.created_at)
    assert mails.deliver(only_mail(alice).pk) is False, "it is not due"
    assert only_mail(alice).tries == 3
    assert [round(pause / timedelta(minutes=1)) for pause in pauses] == [1, 2, 4]

    Mail.objects.filter(user=alice).update(due_at=Now())
    send_all()
    assert len(mailoutbox) == 1


def test_a_mail_that_never_leaves_is_given_up(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_mail: EmailMultiAlternatives) -> int:
        raise smtplib.SMTPRecipientsRefused({})

    mails.receipt(bought(alice))
    Mail.objects.filter(user=alice).update(created_at=Now() - mails.GIVE_UP_AFTER - timedelta(minutes=1))
    monkeypatch.setattr(EmailMultiAlternatives, "send", refused)
    mails.deliver_waiting()
    assert only_mail(alice).given_up_at is not None
    assert mails.deliver_waiting() == 0


# --- Failed top-ups


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("authentication_required", "Your bank wants you to confirm the payment yourself."),
        ("expired_card", "has expired."),
        ("card_declined", "Your bank refused the payment."),
        ("", "Your bank refused the payment."),
    ],
)
def test_a_failed_top_up_says_why_and_what_to_do(
    alice: User, mailoutbox: Outbox, reason: str, words: str
) -> None:
    failed = order(alice, 500 * CREDIT)
    for _ in range(2):
        mails.topup_failed(alice, failed, reason)
    send_all()
    [mail] = mailoutbox
    assert mail.subject == "Your automatic top-up was not paid"
    for told in text_and_html(mail):
        assert words in told
        assert "500 credits" in told
        assert "/billing/" in told


# --- Few credits left


def test_each_fall_below_the_threshold_is_told_once(alice: User, mailoutbox: Outbox) -> None:
    spend(alice, 80)
    assert notices.low_balance(alice) is False, "at the threshold is not below it"
    spend(alice, 1)
    assert [notices.low_balance(alice) for _ in range(3)] == [True, False, False]
    spend(alice, 1)
    assert notices.low_balance(alice) is False
    give(alice, CREDIT)
    assert notices.low_balance(alice) is False, "it rose, but not above"

    give(alice, 100 * CREDIT)
    assert notices.low_balance(alice) is False
    spend(alice, 105)
    assert notices.low_balance(alice) is True

    send_all()
    assert [mail.subject for mail in mailoutbox] == ["19.00 credits left", "14.00 credits left"]
    for told in text_and_html(mailoutbox[0]):
        assert "below 20.00 credits" in told
        assert "/billing/" in told


def test_a_rise_that_nobody_looked_at_counts(alice: User) -> None:
    spend(alice, 90)
    assert notices.low_balance(alice) is True
    give(alice, 50 * CREDIT)
    spend(alice, 50)
    assert notices.low_balance(alice) is True


def test_what_running_answers_hold_still_counts(alice: User) -> None:
    turn = open_turn(alice, 99 * CREDIT)
    assert notices.low_balance(alice) is False
    close_turn(turn, 99 * CREDIT)
    assert notices.low_balance(alice) is True


def test_who_wants_no_notice_gets_none(alice: User) -> None:
    notices.set_low_balance(alice, 0)
    spend(alice, 100)
    assert notices.low_balance(alice) is False


def test_who_sets_a_threshold_above_their_balance_is_told_of_the_next_fall(alice: User) -> None:
    ledger.wallet_of(alice)
    notices.set_low_balance(alice, 500 * CREDIT)
    spend(alice, 1)
    assert notices.low_balance(alice) is False
    give(alice, 600 * CREDIT)
    spend(alice, 300)
    assert notices.low_balance(alice) is True


def test_a_balance_below_zero_is_called_that(alice: User, mailoutbox: Outbox) -> None:
    paid = order(alice, 50 * CREDIT)
    pay(paid)
    spend(alice, 150)
    with transaction.atomic():
        ledger.reverse(
            wallet=ledger.locked_wallet_of(alice),
            order=paid,
            kind="dispute",
            amount=50 * CREDIT,
            key=uuid.uuid4().hex,
            reason="",
            made_by="",
        )
    assert notices.low_balance(alice) is True
    send_all()
    [mail] = mailoutbox
    assert mail.subject == "Your balance is below zero"
    for told in text_and_html(mail):
        assert "no answers until you top up" in told


def test_only_a_wallet_that_may_be_low_is_worth_a_look(alice: User, bob: User) -> None:
    spend(alice, 10)
    spend(bob, 95)
    assert notices.worth_a_look({alice.pk, bob.pk}) == [bob.pk]
    notices.set_low_balance(alice, 91 * CREDIT)
    notices.set_low_balance(bob, 5 * CREDIT)
    assert notices.worth_a_look({alice.pk, bob.pk}) == [alice.pk]
    # However much there is: they said themselves when to top up.
    AutoTopUp.objects.create(
        user=bob,
        enabled=True,
        payment_method="pm_1",
        threshold_microcredits=500 * CREDIT,
        amount_cents=500,
        monthly_cap_cents=5000,
    )
    assert set(notices.worth_a_look({alice.pk, bob.pk})) == {alice.pk, bob.pk}


def test_many_looks_at_once_tell_once(committed_db: None, alice: User) -> None:
    spend(alice, 95)
    told = at_once([partial(notices.low_balance, alice)] * 8)
    assert sorted(told) == [False] * 7 + [True]
    assert Mail.objects.filter(user=alice).count() == 1


def test_looking_after_somebody_who_is_gone_does_nothing(db: None) -> None:
    tasks.look_after_wallet(str(uuid.uuid4()))
    assert not LowBalanceNotice.objects.filter(user=None).exists()


def test_the_mail_of_a_low_balance_comes_after_the_answer_that_lowered_it(
    stack: Stack, committed_db: None, alice: User
) -> None:
    turn = open_turn(alice, 90 * CREDIT)
    close_turn(turn, 90 * CREDIT)
    record_usage.delay(str(turn))
    stack.wait_until(lambda: bool(stack.mail_to(alice.email)), "the worker sends the mail")
    [mail] = stack.mail_to(alice.email)
    assert mail["Subject"] == "10.00 credits left"
