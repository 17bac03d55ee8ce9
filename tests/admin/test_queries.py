"""Lists ask the database as often for thirty rows as for three."""

import pytest
from allauth.account.models import EmailAddress
from django.contrib.admin.models import CHANGE, LogEntry
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from accounts.models import ApiKey, User
from billing.models import StripeEvent
from chatapp.streaming.models import GuardFinding
from tests.admin.desk import conversation, ended_turn
from tests.admin.test_discrepancies import discrepancy
from tests.billing.books import CREDIT, give, order, pay, wallet_of


def people(count: int) -> list[User]:
    made = User.objects.count()
    users = [User.objects.create_user(f"many{made + n}@counted.example.org") for n in range(count)]
    for user in users:
        wallet_of(user)
    return users


def make(kind: str, count: int) -> None:
    """So many more rows of a kind, each of a person of its own, which the word "counted" finds."""
    for number, user in enumerate(people(count)):
        match kind:
            case "billing/transfer":
                give(user, CREDIT)
            case "billing/hold" | "conversations/turn" | "streaming/usagerecord":
                ended_turn(user, conversation=conversation(user))
            case "streaming/guardfinding":
                GuardFinding.objects.create(
                    user=user, turn_id=user.pk, rules=["hidden-text"], policy="flag", text_length=number
                )
            case "conversations/conversation":
                conversation(user)
            case "billing/order":
                pay(order(user, CREDIT))
            case "billing/stripeevent":
                StripeEvent.objects.create(
                    id=f"evt_counted_{user.pk}", type="ping", payload={}, outcome="ignored"
                )
            case "billing/discrepancy":
                discrepancy(order(user, CREDIT))
            case "accounts/apikey":
                ApiKey.issue(user=user, name=f"key {number}")
            case "admin/logentry":
                LogEntry.objects.log_actions(user.pk, [user], CHANGE, "counted", single_object=True)


@pytest.mark.parametrize(
    "kind",
    [
        *("accounts/user", "accounts/apikey", "admin/logentry", "conversations/conversation"),
        *("conversations/turn", "streaming/usagerecord", "money/user"),
        "streaming/guardfinding",
        *("billing/account", "billing/hold", "billing/transfer", "billing/order", "billing/stripeevent"),
        "billing/discrepancy",
    ],
)
def test_a_list_of_many_asks_no_more_than_a_list_of_few(kind: str, desk: Client) -> None:
    rows = kind.replace("money/user", "streaming/usagerecord")
    make(rows, 3)
    few = queries(desk, f"/admin/{kind}/?q=counted")
    make(rows, 27)
    many = queries(desk, f"/admin/{kind}/?q=counted")
    assert len(many) == len(few), "\n".join(many)
    assert len(many) <= 15, "\n".join(many)


@pytest.mark.parametrize(
    "kind", ["billing/price", "billing/pack", "billing/languagemodel", "auth/group", "admin"]
)
def test_other_pages_ask_a_bounded_number_of_times(kind: str, desk: Client) -> None:
    asked = queries(desk, "/admin/" if kind == "admin" else f"/admin/{kind}/")
    assert len(asked) <= 15, "\n".join(asked)


def test_the_page_of_a_person_with_many_things_asks_no_more_often(desk: Client, alice: User) -> None:
    def grow(by: int) -> None:
        for number in range(by):
            ApiKey.issue(user=alice, name=f"key {number}")
            EmailAddress.objects.create(user=alice, email=f"alice{ApiKey.objects.count()}@example.org")
            ended_turn(alice, conversation=conversation(alice))

    grow(3)
    few = queries(desk, f"/admin/accounts/user/{alice.pk}/change/")
    grow(27)
    many = queries(desk, f"/admin/accounts/user/{alice.pk}/change/")
    assert len(many) == len(few), "\n".join(many)


def queries(desk: Client, url: str) -> list[str]:
    # The first look fills what a process keeps: content types, house accounts.
    desk.get(url)
    with CaptureQueriesContext(connection) as asked:
        answer = desk.get(url)
        assert answer.status_code == 200, url
    return [query["sql"] for query in asked.captured_queries]
