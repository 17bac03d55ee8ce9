"""Giving and taking credits by hand."""

import re
import uuid

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client

from accounts.models import User
from billing.models import Transfer
from tests.admin.conftest import browser_of
from tests.admin.desk import allow, page, text_of
from tests.billing.books import CREDIT, at_once, give, open_turn, wallet_of


def page_of(user: User) -> str:
    return f"/admin/accounts/user/{user.pk}/adjust-credits/"


def form_for(desk: Client, user: User, amount: str, reason: str = "Goodwill") -> dict[str, str]:
    """The form as a browser sends it, with the key that its page was given."""
    shown = desk.get(page_of(user)).content.decode()
    found = re.search(r'name="key" value="([^"]+)"', shown)
    assert found, shown
    return {"amount": amount, "reason": reason, "key": found[1]}


def adjustments_of(user: User) -> list[Transfer]:
    wallet = wallet_of(user)
    return [t for t in Transfer.objects.filter(kind="adjustment") if wallet.pk in (t.debit_id, t.credit_id)]


@pytest.mark.parametrize(("amount", "has"), [("25.000001", 125_000_001), ("-40", 60 * CREDIT), ("-100", 0)])
def test_credits_are_given_and_taken_with_a_reason(
    amount: str, has: int, desk: Client, alice: User, operator: User
) -> None:
    desk.post(page_of(alice), form_for(desk, alice, amount, reason="  Sorry for\nthe outage "))
    (made,) = adjustments_of(alice)
    assert wallet_of(alice).balance == has
    assert (made.reason, made.made_by) == ("Sorry for the outage", operator.email)


def test_the_confirmation_and_the_log_say_who_did_it(desk: Client, alice: User, operator: User) -> None:
    answer = desk.post(page_of(alice), form_for(desk, alice, "-1.5", reason="Typo"), follow=True)
    assert (
        f"1.500000 credits were taken from {alice.email} by {operator.email}: Typo. Their balance was then 98.500000."
    ) in text_of(answer)
    (entry,) = LogEntry.objects.filter(object_id=alice.pk)
    assert entry.user == operator
    assert entry.change_message == "Adjusted credits by -1.5: Typo"
    assert "Adjusted credits by -1.5: Typo" in page(desk, f"/admin/accounts/user/{alice.pk}/history/")


@pytest.mark.parametrize("amount", ["12", "-60"])
def test_a_form_sent_twice_adjusts_once(amount: str, desk: Client, alice: User) -> None:
    form = form_for(desk, alice, amount)
    answers = [desk.post(page_of(alice), form) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [302, 302]
    assert len(adjustments_of(alice)) == 1
    assert LogEntry.objects.filter(object_id=alice.pk).count() == 1
    assert wallet_of(alice).balance == 100 * CREDIT + int(amount) * CREDIT


def test_two_clicks_in_the_same_moment_adjust_once(committed_db: None, desk: Client, alice: User) -> None:
    wallet_of(alice)
    form = form_for(desk, alice, "-60")
    clicks = [lambda: desk.post(page_of(alice), form).status_code] * 6
    assert set(at_once(clicks)) == {302}
    assert len(adjustments_of(alice)) == 1
    assert LogEntry.objects.filter(object_id=alice.pk).count() == 1


@pytest.mark.parametrize("change", [{"amount": "13"}, {"amount": "-12"}, {"reason": "Another"}])
def test_a_used_form_makes_no_other_adjustment(change: dict[str, str], desk: Client, alice: User) -> None:
    form = form_for(desk, alice, "12")
    desk.post(page_of(alice), form)
    answer = desk.post(page_of(alice), form | change)
    assert "This form has made another adjustment before." in text_of(answer)
    assert wallet_of(alice).balance == 112 * CREDIT


def test_no_more_is_taken_than_is_available(desk: Client, alice: User) -> None:
    open_turn(alice, 30 * CREDIT)
    answer = desk.post(page_of(alice), form_for(desk, alice, "-70.000001"))
    assert "Only 70.000000 credits are available, so no more can be taken." in text_of(answer)
    assert adjustments_of(alice) == []
    assert desk.post(page_of(alice), form_for(desk, alice, "-70")).status_code == 302


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
    form = {"amount": "5", "reason": "Mine", "key": str(uuid.uuid4())}
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
    form = {"amount": "5", "reason": "Forged", "key": str(uuid.uuid4())}
    assert desk.post(page_of(alice), form).status_code == 403
    assert adjustments_of(alice) == []
