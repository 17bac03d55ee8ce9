"""Giving and taking credits by hand."""

import re
import uuid

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client

from accounts.models import User
from billing.models import Transfer
from tests.admin.conftest import browser_of
from tests.admin.desk import allow, confirmed, page, text_of, what_is_confirmed
from tests.billing.books import (
    CREDIT,
    at_once,
    close_turn,
    give,
    open_turn,
    order,
    pay,
    take_back,
    wallet_of,
)


def page_of(user: User) -> str:
    return f"/admin/accounts/user/{user.pk}/adjust-credits/"


def form_for(desk: Client, user: User, amount: str, reason: str = "Goodwill") -> dict[str, str]:
    """The form as a browser sends it first, with the key that its page was given."""
    shown = desk.get(page_of(user)).content.decode()
    found = re.search(r'name="key" value="([^"]+)"', shown)
    assert found, shown
    return {"amount": amount, "reason": reason, "key": found[1]}


def confirmed_for(desk: Client, user: User, amount: str, reason: str = "Goodwill") -> dict[str, str]:
    """The same as it is sent the second time."""
    return confirmed(desk, page_of(user), form_for(desk, user, amount, reason))


def adjustments_of(user: User) -> list[Transfer]:
    wallet = wallet_of(user)
    return [t for t in Transfer.objects.filter(kind="adjustment") if wallet.pk in (t.debit_id, t.credit_id)]


@pytest.mark.parametrize(("amount", "has"), [("25.000001", 125_000_001), ("-40", 60 * CREDIT), ("-100", 0)])
def test_credits_are_given_and_taken_with_a_reason(
    amount: str, has: int, desk: Client, alice: User, operator: User
) -> None:
    desk.post(page_of(alice), confirmed_for(desk, alice, amount, reason="  Sorry for\nthe outage "))
    (made,) = adjustments_of(alice)
    assert wallet_of(alice).balance == has
    assert (made.reason, made.made_by) == ("Sorry for the outage", operator.email)


def test_the_confirmation_and_the_log_say_who_did_it(desk: Client, alice: User, operator: User) -> None:
    answer = desk.post(page_of(alice), confirmed_for(desk, alice, "-1.5", reason="Typo"), follow=True)
    assert (
        f"1.500000 credits were taken from {alice.email} by {operator.email}: Typo. Their balance was then 98.500000."
    ) in text_of(answer)
    (entry,) = LogEntry.objects.filter(object_id=alice.pk)
    assert entry.user == operator
    assert entry.change_message == "Adjusted credits by -1.5: Typo"
    assert "Adjusted credits by -1.5: Typo" in page(desk, f"/admin/accounts/user/{alice.pk}/history/")


def test_a_debt_is_shown_for_what_it_is(desk: Client, alice: User) -> None:
    bought = order(alice, 50 * CREDIT)
    pay(bought)
    close_turn(open_turn(alice, 120 * CREDIT), 120 * CREDIT)
    take_back(bought, 50 * CREDIT)
    for amount, told in (
        ("5", "-20.000000 now and -15.000000 then: still a debt"),
        ("20", "now and 0.000000 then."),
    ):
        assert told in text_of(desk.post(page_of(alice), form_for(desk, alice, amount)))
    desk.post(page_of(alice), confirmed_for(desk, alice, "5"))
    assert wallet_of(alice).balance == -15 * CREDIT


@pytest.mark.parametrize("amount", ["12", "-60"])
def test_a_form_sent_twice_adjusts_once(amount: str, desk: Client, alice: User) -> None:
    form = confirmed_for(desk, alice, amount)
    answers = [desk.post(page_of(alice), form) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [302, 302]
    assert len(adjustments_of(alice)) == 1
    assert LogEntry.objects.filter(object_id=alice.pk).count() == 1
    assert wallet_of(alice).balance == 100 * CREDIT + int(amount) * CREDIT


def test_two_clicks_in_the_same_moment_adjust_once(committed_db: None, desk: Client, alice: User) -> None:
    wallet_of(alice)
    form = confirmed_for(desk, alice, "-60")
    clicks = [lambda: desk.post(page_of(alice), form).status_code] * 6
    assert set(at_once(clicks)) == {302}
    assert len(adjustments_of(alice)) == 1
    assert LogEntry.objects.filter(object_id=alice.pk).count() == 1


@pytest.mark.parametrize("change", [{"amount": "13"}, {"amount": "-12"}, {"reason": "Another"}])
def test_a_used_form_makes_no_other_adjustment(change: dict[str, str], desk: Client, alice: User) -> None:
    form = confirmed_for(desk, alice, "12")
    desk.post(page_of(alice), form)
    answer = desk.post(page_of(alice), confirmed(desk, page_of(alice), form | change | {"confirmed": ""}))
    assert "This form has made another adjustment before." in text_of(answer)
    assert not what_is_confirmed(answer), "what it would do is shown first again"
    assert wallet_of(alice).balance == 112 * CREDIT


def test_no_more_is_taken_than_is_available(desk: Client, alice: User) -> None:
    open_turn(alice, 30 * CREDIT)
    answer = desk.post(page_of(alice), form_for(desk, alice, "-70.000001"))
    assert "Only 70.000000 credits are available, so no more can be taken." in text_of(answer)
    assert adjustments_of(alice) == []
    form = confirmed_for(desk, alice, "-70")
    open_turn(alice, CREDIT)
    answer = desk.post(page_of(alice), form)
    assert "Only 69.000000 credits are available, so no more can be taken." in text_of(answer)
    assert adjustments_of(alice) == []


def test_what_it_will_do_is_shown_before_it_is_done(desk: Client, alice: User, operator: User) -> None:
    open_turn(alice, 30 * CREDIT)
    form = form_for(desk, alice, "-40.5", reason="Typo")
    text = text_of(desk.post(page_of(alice), form))
    assert f"40.500000 credits are taken from {alice.email}." in text
    assert "The balance is 100.000000 now and 59.500000 then. Their statement says: Typo" in text
    assert f"in your name, {operator.email}" in text
    # Another amount than the one that was shown is shown first, too.
    form = confirmed(desk, page_of(alice), form) | {"amount": "5"}
    text = text_of(desk.post(page_of(alice), form))
    assert f"5.000000 credits are given to {alice.email}." in text
    assert "The balance is 100.000000 now and 105.000000 then." in text
    assert adjustments_of(alice) == []
    assert not LogEntry.objects.filter(object_id=alice.pk).exists()


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"amount": "0"}, "An adjustment of nothing adjusts nothing."),
        ({"amount": "0.0000001"}, "no more than 6 decimal places"),
        ({"amount": "1000000.000001"}, "less than or equal to 1000000"),
        ({"amount": "-1000001"}, "greater than or equal to -1000000"),
        ({"amount": "NaN"}, "Enter a number."),
        ({"amount": "1e3000"}, "Ensure"),
        ({"amount": ""}, "This field is required."),
        ({"reason": " \n "}, "This field is required."),
        ({"reason": "x" * 301}, "at most 300 characters"),
        ({"key": "forged"}, "Enter a valid UUID."),
    ],
)
def test_what_makes_no_sense_is_refused_in_words(
    fields: dict[str, str], sentence: str, desk: Client, alice: User
) -> None:
    answer = desk.post(page_of(alice), form_for(desk, alice, "5") | fields)
    assert answer.status_code == 200
    assert sentence in text_of(answer)
    assert adjustments_of(alice) == []


def test_adjusting_is_a_right_of_its_own(clerk: User, alice: User) -> None:
    give(alice, CREDIT)
    allow(
        clerk, "accounts.view_user", "accounts.change_user", "billing.view_account", "billing.view_transfer"
    )
    desk = browser_of(clerk)
    form = {"amount": "5", "reason": "Mine", "key": str(uuid.uuid4()), "confirmed": f"{5 * CREDIT}"}
    assert desk.get(page_of(alice)).status_code == 403
    assert desk.post(page_of(alice), form).status_code == 403
    assert page_of(alice) not in desk.get(f"/admin/accounts/user/{alice.pk}/change/").content.decode()
    allow(clerk, "billing.adjust_credits")
    assert page_of(alice) in desk.get(f"/admin/accounts/user/{alice.pk}/change/").content.decode()
    assert desk.post(page_of(alice), form).status_code == 302
    assert wallet_of(alice).balance == 106 * CREDIT


def test_an_adjustment_needs_the_token_of_its_page(operator: User, alice: User) -> None:
    desk = Client(enforce_csrf_checks=True)
    desk.force_login(operator, backend="django.contrib.auth.backends.ModelBackend")
    form = {"amount": "5", "reason": "Forged", "key": str(uuid.uuid4()), "confirmed": f"{5 * CREDIT}"}
    assert desk.post(page_of(alice), form).status_code == 403
    assert adjustments_of(alice) == []
