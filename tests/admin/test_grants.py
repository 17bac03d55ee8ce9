"""Giving promotional credits, to one person and to many."""

import re
import uuid
from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.utils import timezone

from accounts.models import User
from billing.admin import grants
from billing.models import Lot, Transfer
from tests.admin.conftest import browser_of
from tests.admin.desk import allow, confirmed, page, text_of, what_is_confirmed
from tests.billing.books import CREDIT, at_once, close_turn, grant, open_turn, wallet_of

LIST = "/admin/accounts/user/"
MANY = f"{LIST}grant-credits/"


def page_of(user: User) -> str:
    return f"{LIST}{user.pk}/grant-credits/"


def key_in(shown: str) -> str:
    found = re.search(r'name="key" value="([^"]+)"', shown)
    assert found, shown
    return found[1]


def form_for(desk: Client, user: User, amount: str, **fields: str) -> dict[str, str]:
    key = key_in(desk.get(page_of(user)).content.decode())
    return {"amount": amount, "reason": "Thank you", "expires_on": "", "key": key, **fields}


def confirmed_for(desk: Client, user: User, amount: str, **fields: str) -> dict[str, str]:
    """The form as it is sent the second time, after the page has shown what will be given."""
    return confirmed(desk, page_of(user), form_for(desk, user, amount, **fields))


def form_for_many(desk: Client, people: list[User], amount: str = "5") -> dict[str, object]:
    """What the list's action shows for these people, filled in."""
    chosen = {"action": "grant_to_selected", "_selected_action": [str(person.pk) for person in people]}
    shown = desk.post(LIST, chosen).content.decode()
    named = re.findall(r'name="person" value="([^"]+)"', shown)
    assert sorted(named) == sorted(str(person.pk) for person in people)
    return {"amount": amount, "reason": "Spring", "expires_on": "", "key": key_in(shown), "person": named}


def granted(user: User) -> list[Transfer]:
    return list(Transfer.objects.filter(kind="grant", credit=wallet_of(user)))


def test_credits_are_given_with_a_last_day(desk: Client, alice: User, operator: User) -> None:
    last = timezone.now().astimezone(UTC).date() + timedelta(days=3)
    form = confirmed_for(desk, alice, "12.5", expires_on=f"{last}", reason=" Sorry  for\nthe wait ")
    answer = desk.post(page_of(alice), form, follow=True)
    assert (
        f"12.500000 promotional credits were given to {alice.email} until the end of {last}: Sorry for the wait."
    ) in text_of(answer)
    (made,) = granted(alice)
    assert (made.amount, made.reason, made.made_by) == (12_500_000, "Sorry for the wait", operator.email)
    assert made.expires_at == datetime(last.year, last.month, last.day, tzinfo=UTC) + timedelta(days=1)
    assert Lot.objects.get(pk=made.pk).remaining == 12_500_000
    (entry,) = LogEntry.objects.filter(object_id=alice.pk)
    assert entry.user == operator
    assert entry.change_message == f"Gave 12.5 promotional credits, until {last}: Sorry for the wait"


def test_credits_without_a_last_day_stay(desk: Client, alice: User) -> None:
    assert desk.post(page_of(alice), confirmed_for(desk, alice, "5")).status_code == 302
    (made,) = granted(alice)
    assert made.expires_at is None
    assert wallet_of(alice).balance == 105 * CREDIT


def test_a_form_sent_twice_gives_once(desk: Client, alice: User) -> None:
    form = confirmed_for(desk, alice, "5")
    assert [desk.post(page_of(alice), form).status_code for _ in range(2)] == [302, 302]
    assert len(granted(alice)) == LogEntry.objects.filter(object_id=alice.pk).count() == 1


def test_two_clicks_in_the_same_moment_give_once(committed_db: None, desk: Client, alice: User) -> None:
    wallet_of(alice)
    form = confirmed_for(desk, alice, "5")
    assert set(at_once([lambda: desk.post(page_of(alice), form).status_code] * 6)) == {302}
    assert len(granted(alice)) == LogEntry.objects.filter(object_id=alice.pk).count() == 1


@pytest.mark.parametrize("change", [{"amount": "6"}, {"reason": "More"}, {"expires_on": "tomorrow"}])
def test_a_used_form_gives_nothing_else(change: dict[str, str], desk: Client, alice: User) -> None:
    if "expires_on" in change:
        change = {"expires_on": f"{timezone.now().date() + timedelta(days=1)}"}
    form = confirmed_for(desk, alice, "5")
    desk.post(page_of(alice), form)
    answer = desk.post(page_of(alice), confirmed(desk, page_of(alice), form | change | {"confirmed": ""}))
    assert "This form has given other credits before." in text_of(answer)
    assert not what_is_confirmed(answer), "what it would do is shown first again"
    assert wallet_of(alice).balance == 105 * CREDIT


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"amount": "0"}, "greater than or equal to 0.000001"),
        ({"amount": "-5"}, "greater than or equal to 0.000001"),
        ({"amount": "0.0000001"}, "no more than 6 decimal places"),
        ({"amount": "100000.000001"}, "less than or equal to 100000"),
        ({"amount": "NaN"}, "Enter a number."),
        ({"reason": " "}, "This field is required."),
        ({"reason": "x" * 301}, "at most 300 characters"),
        ({"expires_on": "2020-01-01"}, "Choose today or a later day, within five years."),
        ({"expires_on": "2999-01-01"}, "Choose today or a later day, within five years."),
        ({"expires_on": "soon"}, "Enter a valid date."),
        ({"key": "forged"}, "Enter a valid UUID."),
    ],
)
def test_what_makes_no_sense_is_refused_in_words(
    fields: dict[str, str], sentence: str, desk: Client, alice: User
) -> None:
    answer = desk.post(page_of(alice), form_for(desk, alice, "5") | fields)
    assert answer.status_code == 200
    assert sentence in text_of(answer)
    assert granted(alice) == []


def test_what_will_be_given_is_shown_before_it_is(desk: Client, alice: User) -> None:
    last = timezone.now().astimezone(UTC).date() + timedelta(days=3)
    form = form_for(desk, alice, "12.5", expires_on=f"{last}")
    text = text_of(desk.post(page_of(alice), form))
    assert f"12.500000 credits are given to {alice.email}, until the end of {last}." in text
    assert "The balance is 100.000000 now and 112.500000 then. Their statement says: Thank you" in text
    # Something else than what was shown is shown first, too.
    form = confirmed(desk, page_of(alice), form) | {"expires_on": ""}
    assert f"are given to {alice.email}. The balance" in text_of(desk.post(page_of(alice), form))
    assert granted(alice) == []


def test_many_are_given_the_same_each_once(desk: Client, alice: User, bob: User, charlie: User) -> None:
    form = form_for_many(desk, [alice, bob])
    shown = text_of(desk.post(MANY, form))
    assert "5.000000 credits are given to each of 2 people, 10.000000 together." in shown
    assert granted(alice) == granted(bob) == []
    answer = desk.post(MANY, confirmed(desk, MANY, form), follow=True)
    assert "5.000000 promotional credits were given to each of 2 people: Spring." in text_of(answer)
    # As after a break halfway: the others are given theirs, who had them is not given more.
    form["person"] = [str(user.pk) for user in (alice, bob, charlie)]
    answer = desk.post(MANY, confirmed(desk, MANY, form), follow=True)
    assert "2 had them from this form already." in text_of(answer)
    assert [len(granted(user)) for user in (alice, bob, charlie)] == [1, 1, 1]
    assert LogEntry.objects.filter(change_message="Gave 5 promotional credits: Spring").count() == 3


def test_a_used_form_gives_many_nothing_else(desk: Client, alice: User, bob: User) -> None:
    form = confirmed(desk, MANY, form_for_many(desk, [alice, bob]))
    desk.post(MANY, form)
    answer = desk.post(MANY, confirmed(desk, MANY, form | {"amount": "50"}))
    assert "This form has given other credits before to 2 of these people." in text_of(answer)
    assert [wallet_of(user).balance for user in (alice, bob)] == [105 * CREDIT, 105 * CREDIT]


def test_too_many_and_nobody_are_refused(
    desk: Client, alice: User, bob: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    form = form_for_many(desk, [alice, bob])
    monkeypatch.setattr(grants, "MOST_PEOPLE", 1)
    chosen = {"action": "grant_to_selected", "_selected_action": [str(alice.pk), str(bob.pk)]}
    assert "at most 1 people at once" in text_of(desk.post(LIST, chosen, follow=True))
    for people in (form["person"], [], ["forged"], [str(uuid.uuid4())]):
        answer = desk.post(MANY, form | {"person": people}, follow=True)
        assert "Select between one and 1 people first." in text_of(answer)
    assert granted(alice) == granted(bob) == []


def test_giving_is_a_right_of_its_own(clerk: User, alice: User, charlie: User) -> None:
    allow(clerk, "accounts.view_user", "accounts.change_user", "billing.view_account")
    form = {"amount": "5", "reason": "Mine", "expires_on": "", "key": str(uuid.uuid4())}
    form["confirmed"] = f"{5 * CREDIT} 1"
    chosen = {"action": "grant_to_selected", "_selected_action": [str(alice.pk)]}
    desk = browser_of(clerk)
    assert desk.get(page_of(alice)).status_code == 403
    assert desk.post(page_of(alice), form).status_code == 403
    assert desk.post(MANY, form | {"person": [str(alice.pk)]}).status_code == 403
    assert "grant_to_selected" not in desk.get(LIST).content.decode()
    assert "Show what it does" not in text_of(desk.post(LIST, chosen, follow=True))
    outsider = browser_of(charlie)
    for place in (page_of(alice), MANY):
        assert outsider.post(place, form | {"person": [str(alice.pk)]}).url.startswith("/admin/login/")
    assert granted(alice) == []
    allow(clerk, "billing.adjust_credits")
    assert desk.post(page_of(alice), form).status_code == 302
    assert len(granted(alice)) == 1


def test_nobody_is_deleted_from_the_list(desk: Client, alice: User) -> None:
    assert "delete_selected" not in desk.get(LIST).content.decode()
    desk.post(LIST, {"action": "delete_selected", "_selected_action": [str(alice.pk)], "post": "yes"})
    assert User.objects.filter(pk=alice.pk).exists()


def test_a_wallet_shows_what_is_left_of_each_lot(desk: Client, alice: User) -> None:
    tomorrow = timezone.now() + timedelta(days=1)
    gift = grant(alice, 7 * CREDIT, expires_at=tomorrow)
    grant(alice, 9 * CREDIT, expires_at=tomorrow + timedelta(days=1))
    close_turn(open_turn(alice, 10 * CREDIT), 8 * CREDIT)
    shown = page(desk, f"/admin/billing/account/{wallet_of(alice).pk}/change/")
    assert f"A gift 7.000000 0.000000 {tomorrow:%Y-%m-%d %H:%M}" in shown
    assert "A gift 9.000000 8.000000" in shown
    shown = page(desk, f"/admin/billing/transfer/{gift.pk}/change/")
    assert f"{tomorrow:%Y-%m-%d %H:%M}" in shown
    assert "0.000000" in shown
