"""Giving money back from the admin."""

import re
from collections.abc import Callable
from decimal import Decimal, InvalidOperation

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from playwright.sync_api import Page, expect

from accounts.models import User
from billing.models import Order, Transfer
from chatapp.local.demo_stripe.client import DemoStripe
from tests.admin.conftest import browser_of
from tests.admin.desk import page, text_of, what_is_confirmed
from tests.billing.books import CREDIT, at_once, close_turn, open_turn, order, pay, wallet_of
from tests.billing.conftest import GoToCheckout, demo_stripe, go_to_checkout
from tests.stack import Stack

__all__ = ["demo_stripe", "go_to_checkout"]

WELCOME, BOUGHT = 100 * CREDIT, 500 * CREDIT


@pytest.fixture
def bought(go_to_checkout: GoToCheckout, demo_stripe: DemoStripe, alice: User) -> Order:
    """500 credits for five dollars."""
    checkout = go_to_checkout(alice)
    demo_stripe.pay(checkout.url)
    demo_stripe.idle()
    return checkout.order


def refund_page(order: Order) -> str:
    return f"/admin/billing/order/{order.pk}/refund/"


def form_for(desk: Client, order: Order, amount: str, reason: str = "Goodwill") -> dict[str, str]:
    shown = desk.get(refund_page(order)).content.decode()
    found = re.search(r'name="key" value="([^"]+)"', shown)
    assert found, shown
    return {"amount": amount, "reason": reason, "key": found[1], "confirmed": cents_of(amount)}


def cents_of(amount: str) -> str:
    """What the page has confirmed of such an amount, once it has shown what it does."""
    try:
        return str(int(Decimal(amount) * 100))
    except (InvalidOperation, ValueError):
        return ""


def refunds(order: Order) -> list[Transfer]:
    return list(Transfer.objects.filter(order=order, kind="refund").order_by("pk"))


def test_a_part_is_given_back_with_a_reason_and_a_name(
    desk: Client, bought: Order, alice: User, operator: User, demo_stripe: DemoStripe
) -> None:
    form = form_for(desk, bought, "2.00", reason=" Bought\ntoo much ")
    answer = desk.post(refund_page(bought), form, follow=True)
    said = f"$2 was refunded by {operator.email}: Bought too much. 200.000000 credits were taken back."
    assert said in text_of(answer)
    assert "Credits bought 500.000000 Refund −200.000000" in text_of(answer)
    assert "Automatic top-ups of this person pause" in page(desk, refund_page(bought))
    demo_stripe.idle()
    (taken,) = refunds(bought)
    assert (taken.amount, taken.reason, taken.made_by) == (200 * CREDIT, "Bought too much", operator.email)
    assert wallet_of(alice).balance == WELCOME + 300 * CREDIT
    (entry,) = LogEntry.objects.filter(object_id=bought.pk)
    refund = taken.key.removeprefix("refund:")
    assert (entry.user, entry.change_message) == (operator, f"Refunded $2 ({refund}): Bought too much")


def test_a_form_sent_twice_refunds_once(
    desk: Client, bought: Order, alice: User, demo_stripe: DemoStripe
) -> None:
    form = form_for(desk, bought, "2.00")
    for _ in range(2):
        assert desk.post(refund_page(bought), form).status_code == 302
    demo_stripe.idle()
    assert len(refunds(bought)) == 1
    assert LogEntry.objects.filter(object_id=bought.pk).count() == 1
    assert wallet_of(alice).balance == WELCOME + 300 * CREDIT


def test_two_clicks_in_the_same_moment_refund_once(
    desk: Client, bought: Order, alice: User, demo_stripe: DemoStripe
) -> None:
    form = form_for(desk, bought, "2.00")
    clicks = [lambda: desk.post(refund_page(bought), form).status_code] * 4
    assert set(at_once(clicks)) <= {
        200,
        302,
    }  # who comes while another is asking may be told to send it again
    assert desk.post(refund_page(bought), form).status_code == 302
    demo_stripe.idle()
    assert len(refunds(bought)) == 1
    assert LogEntry.objects.filter(object_id=bought.pk).count() == 1


def test_a_form_that_refunded_everything_may_be_sent_again(
    desk: Client, bought: Order, alice: User, demo_stripe: DemoStripe
) -> None:
    form = form_for(desk, bought, "5")
    for _ in range(2):
        assert desk.post(refund_page(bought), form).status_code == 302
    assert wallet_of(alice).balance == WELCOME


@pytest.mark.parametrize("change", [{"amount": "3", "confirmed": "300"}, {"reason": "Another"}])
def test_a_used_form_makes_no_other_refund(
    change: dict[str, str], desk: Client, bought: Order, alice: User, demo_stripe: DemoStripe
) -> None:
    form = form_for(desk, bought, "2.00")
    desk.post(refund_page(bought), form)
    answer = desk.post(refund_page(bought), form | change)
    assert "This form has made another refund before." in text_of(answer)
    assert not what_is_confirmed(answer), "what it would do is shown first again"
    demo_stripe.idle()
    assert wallet_of(alice).balance == WELCOME + 300 * CREDIT


def test_what_it_will_do_is_shown_before_it_is_done(
    desk: Client, bought: Order, alice: User, demo_stripe: DemoStripe
) -> None:
    close_turn(open_turn(alice, 400 * CREDIT), 400 * CREDIT)
    form = form_for(desk, bought, "1.50") | {"confirmed": ""}
    shown = desk.post(refund_page(bought), form)
    text = text_of(shown)
    assert "$1.50 goes back" in text
    assert "150.000000 credits are taken back. The balance is 50.000000 then." in text
    assert refunds(bought) == []
    assert demo_stripe.requests("/v1/refunds") == []
    assert b'name="confirmed" value="150"' in shown.content
    # Another amount than the one that was shown is shown first, too.
    more = text_of(desk.post(refund_page(bought), form | {"amount": "5", "confirmed": "150"}))
    assert "500.000000 credits are taken back. The balance is -300.000000 then: a debt" in more
    assert refunds(bought) == []
    too_much = text_of(desk.post(refund_page(bought), form | {"amount": "5.01"}))
    assert "Only $5 of what was paid is left." in too_much


def test_the_rest_is_what_the_form_proposes_and_then_there_is_none(
    desk: Client, bought: Order, alice: User, demo_stripe: DemoStripe
) -> None:
    desk.post(refund_page(bought), form_for(desk, bought, "2.00"))
    demo_stripe.idle()
    shown = desk.get(refund_page(bought)).content.decode()
    assert 'value="3.00"' in shown
    desk.post(refund_page(bought), form_for(desk, bought, "3"))
    demo_stripe.idle()
    assert wallet_of(alice).balance == WELCOME
    assert "All that was paid has been given back." in text_of(desk.get(refund_page(bought)))


def test_what_was_spent_leaves_a_debt(
    desk: Client, bought: Order, alice: User, demo_stripe: DemoStripe
) -> None:
    close_turn(open_turn(alice, 400 * CREDIT), 400 * CREDIT)
    answer = desk.post(refund_page(bought), form_for(desk, bought, "5"), follow=True)
    assert "which leaves a debt" in text_of(answer)
    assert wallet_of(alice).balance == WELCOME - 400 * CREDIT


@pytest.mark.parametrize(
    ("amount", "says"),
    [
        ("5.01", "Stripe does not refund this"),
        ("0", "A refund of nothing refunds nothing."),
        ("-1", "A refund of nothing refunds nothing."),
        ("1.005", "USD has no smaller unit than 0.01."),
        ("nan", "Enter a number."),
        ("", "This field is required."),
    ],
)
def test_what_cannot_be_refunded_is_refused_in_words(
    amount: str, says: str, desk: Client, bought: Order, alice: User
) -> None:
    answer = desk.post(refund_page(bought), form_for(desk, bought, amount))
    assert answer.status_code == 200
    assert says in text_of(answer)
    assert wallet_of(alice).balance == WELCOME + BOUGHT


def test_a_refund_needs_a_reason(desk: Client, bought: Order) -> None:
    desk.post(refund_page(bought), form_for(desk, bought, "1", reason=" "))
    assert refunds(bought) == []


def test_stripe_away_refunds_nothing_and_the_same_form_works_later(
    desk: Client, bought: Order, alice: User, demo_stripe: DemoStripe
) -> None:
    form = form_for(desk, bought, "2.00")
    demo_stripe.api_faults(path="/v1/refunds", status=500, times=4)
    answer = desk.post(refund_page(bought), form)
    assert "Stripe did not answer. Send this form again" in text_of(answer)
    assert wallet_of(alice).balance == WELCOME + BOUGHT
    assert desk.post(refund_page(bought), form).status_code == 302
    demo_stripe.idle()
    assert len(refunds(bought)) == 1


def test_an_answer_that_is_lost_refunds_once(
    desk: Client, bought: Order, alice: User, demo_stripe: DemoStripe
) -> None:
    form = form_for(desk, bought, "2.00")
    demo_stripe.api_faults(path="/v1/refunds", lose_answer=True, times=8)
    answer = desk.post(refund_page(bought), form)
    assert "Send this form again: it refunds once" in text_of(answer)
    demo_stripe.api_faults()
    assert desk.post(refund_page(bought), form).status_code == 302
    demo_stripe.idle()
    assert len(refunds(bought)) == 1
    assert wallet_of(alice).balance == WELCOME + 300 * CREDIT


def test_stripe_away_before_the_page_opens_is_said(
    desk: Client, bought: Order, demo_stripe: DemoStripe
) -> None:
    demo_stripe.api_faults(path="/v1/payment_intents", status=503, times=4)
    shown = text_of(desk.get(refund_page(bought)))
    assert "Stripe could not be asked what was paid. Nothing was changed; try again soon." in shown


def test_a_refund_that_the_bank_refuses_takes_nothing(
    desk: Client, bought: Order, alice: User, demo_stripe: DemoStripe
) -> None:
    demo_stripe.refunds_become("failed")
    demo_stripe.faults(drop=True)
    answer = desk.post(refund_page(bought), form_for(desk, bought, "2"), follow=True)
    assert "refunded" in text_of(answer) or "did not take the refund" in text_of(answer)
    demo_stripe.idle()
    assert wallet_of(alice).balance == WELCOME + BOUGHT


def test_a_payment_that_the_bank_has_taken_back_is_not_refunded_too(
    desk: Client, bought: Order, alice: User, demo_stripe: DemoStripe
) -> None:
    demo_stripe.dispute(bought.stripe_payment_intent)
    demo_stripe.idle()
    answer = desk.post(refund_page(bought), form_for(desk, bought, "2"))
    assert "Stripe does not refund this: more than is left, or taken back by the bank." in text_of(answer)
    assert wallet_of(alice).balance == WELCOME


def test_what_somebody_bought_who_has_left_is_refunded(
    desk: Client, bought: Order, alice: User, demo_stripe: DemoStripe
) -> None:
    wallet = wallet_of(alice)
    alice.delete()
    assert "by somebody who has left" in text_of(desk.get(refund_page(bought)))
    assert desk.post(refund_page(bought), form_for(desk, bought, "5")).status_code == 302
    wallet.refresh_from_db()
    assert (wallet.user_id, wallet.balance) == (None, WELCOME)


def test_an_order_that_is_not_paid_cannot_be_refunded(desk: Client, stack: Stack, alice: User) -> None:
    answer = desk.get(refund_page(order(alice, BOUGHT)))
    assert "This order is not paid, so there is nothing to give back." in text_of(answer)


def test_who_lacks_the_right_is_refused(clerk: User, charlie: User, stack: Stack, alice: User) -> None:
    made = order(alice, BOUGHT)
    pay(made)
    assert browser_of(clerk).post(refund_page(made), {"amount": "1"}).status_code == 403
    assert browser_of(charlie).get(refund_page(made)).status_code == 302
    assert refunds(made) == []


def test_an_operator_refunds_in_a_browser(
    bought: Order, alice: User, operator: User, page_of: Callable[..., Page]
) -> None:
    page = page_of(operator)
    page.goto(f"/admin/billing/order/{bought.pk}/change/")
    page.get_by_role("link", name="Refund").click()
    page.get_by_label("Money").fill("1")
    page.get_by_label("Reason").fill("Sorry for the outage")
    page.get_by_role("button", name="Show what it does").click()
    expect(page.get_by_text("100.000000 credits are taken back.")).to_be_visible()
    page.get_by_role("button", name="Refund $1").click()
    expect(page.get_by_text("100.000000 credits were taken back")).to_be_visible()
    assert wallet_of(alice).balance == WELCOME + 400 * CREDIT
