"""Usage: totals of what the filters leave, and tables per day, model and user."""

import csv
import io
from datetime import UTC, datetime, timedelta

import pytest
from django.test import Client

from accounts.models import User
from chatapp.streaming.models import UsageRecord
from tests.admin.conftest import browser_of
from tests.admin.desk import allow, ended_turn, page
from tests.billing.books import CREDIT

LIST = "/admin/streaming/usagerecord/"
NOON = datetime(2024, 5, 4, 12, tzinfo=UTC)
COLUMNS = [
    *("turns", "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_5m_tokens"),
    *("cache_write_1h_tokens", "charged_credits", "cost_credits", "margin_credits"),
]


@pytest.fixture
def used(alice: User, bob: User) -> None:
    """Two days and two models of alice's, and one turn of bob's."""
    tokens = {
        "input_tokens": 1000,
        "output_tokens": 200,
        "cache_read_tokens": 30,
        "cache_write_5m_tokens": 4,
        "cache_write_1h_tokens": 5,
    }
    ended_turn(alice, ended_at=NOON, price=3 * CREDIT, held=4 * CREDIT, cost=2 * CREDIT, **tokens)
    ended_turn(alice, ended_at=NOON + timedelta(hours=11, minutes=59), price=0, state="failed", cost=1)
    ended_turn(alice, ended_at=NOON + timedelta(hours=12), model="claude-opus-5-5", price=5, cost=7, **tokens)
    ended_turn(bob, ended_at=NOON, price=CREDIT, cost=CREDIT, input_tokens=1)


def table(desk: Client, group: str, **query: str) -> dict[str, dict[str, str]]:
    """The CSV as {day, model or user: {column: text}}."""
    answer = desk.get(f"{LIST}by/{group}.csv", query)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert answer.headers["Content-Disposition"] == f'attachment; filename="usage-per-{group}.csv"'
    rows = list(csv.DictReader(io.StringIO(answer.content.decode())))
    return {row.pop(group): row for row in rows}


@pytest.mark.usefixtures("used")
def test_totals_are_of_what_the_filters_leave(desk: Client, alice: User) -> None:
    for place in ("", "by/day/", "by/model/", "by/user/"):
        shown = page(desk, LIST + place, q=alice.email)
        assert (
            "Turns 3 Input 2,000 Output 400 Cache read 60 Cache write 5 m 8 Cache write 1 h 10 "
            "Revenue 3.000005 Cost 2.000008 Margin 0.999997"
        ) in shown, place
    shown = page(desk, LIST, q=alice.email, ended_at_from="2024-05-05", ended_at_to="2024-05-05")
    assert "Turns 1 Input 1,000 " in shown
    assert "Revenue 0.000005 Cost 0.000007 Margin −0.000002" in shown


@pytest.mark.usefixtures("used")
def test_a_table_per_day(desk: Client, alice: User) -> None:
    shown = page(desk, f"{LIST}by/day/", q=alice.email)
    assert (
        "2024-05-05 1 1,000 200 30 4 5 0.000005 0.000007 −0.000002 "
        "2024-05-04 2 1,000 200 30 4 5 3.000000 2.000001 0.999999"
    ) in shown
    rows = table(desk, "day", q=alice.email)
    assert list(rows) == ["2024-05-05", "2024-05-04"]
    assert list(rows["2024-05-04"]) == COLUMNS
    assert list(rows["2024-05-04"].values()) == [
        *("2", "1000", "200", "30", "4", "5", "3.000000", "2.000001", "0.999999")
    ]


@pytest.mark.usefixtures("used")
def test_a_table_per_model(desk: Client, alice: User) -> None:
    rows = table(desk, "model", q=alice.email)
    assert {name: row["turns"] for name, row in rows.items()} == {
        "claude-sonnet-5-5": "2",
        "claude-opus-5-5": "1",
    }
    assert list(table(desk, "model", q=alice.email, model__id__exact="claude-opus-5-5")) == [
        "claude-opus-5-5"
    ]


@pytest.mark.usefixtures("used")
def test_a_table_per_user_dearest_first(desk: Client, alice: User, bob: User) -> None:
    rows = table(desk, "user", ended_at_from="2024-05-04", ended_at_to="2024-05-05")
    ours = {name: row["charged_credits"] for name, row in rows.items() if name in (alice.email, bob.email)}
    assert list(ours.items()) == [(alice.email, "3.000005"), (bob.email, "1.000000")]
    assert alice.email in page(desk, f"{LIST}by/user/", ended_at_from="2024-05-04", ended_at_to="2024-05-05")


@pytest.mark.usefixtures("used")
def test_usage_of_who_is_gone_still_counts(desk: Client, alice: User) -> None:
    conversations = UsageRecord.objects.filter(user=alice)
    models = set(conversations.values_list("turn", flat=True))
    alice.delete()
    lost = table(desk, "user", ended_at_from="2024-05-04", ended_at_to="2024-05-05")["deleted"]
    assert int(lost["turns"]) >= len(models) == 3


def test_an_address_is_no_formula(desk: Client) -> None:
    eve = User.objects.create_user("=cmd|'/c_calc'!a1@example.org")
    ended_turn(eve, ended_at=NOON)
    assert list(table(desk, "user", q=eve.email)) == [f"'{eve.email}"]


@pytest.mark.usefixtures("used")
def test_the_tabs_and_the_csv_keep_the_filters(desk: Client, alice: User) -> None:
    shown = desk.get(f"{LIST}by/day/", {"q": alice.email, "ended_at_from": "2024-05-05"}).content.decode()
    kept = f"?q={alice.email.replace('@', '%40')}&amp;ended_at_from=2024-05-05"
    for place in ("", "by/day/", "by/model/", "by/user/", "by/day.csv"):
        assert f'"{LIST}{place}{kept}"' in shown, place


@pytest.mark.parametrize("place", ["by/planet/", "by/planet.csv"])
def test_it_is_grouped_by_nothing_else(place: str, desk: Client) -> None:
    assert desk.get(LIST + place).status_code == 404


def test_a_filter_that_there_is_not_breaks_nothing(desk: Client) -> None:
    assert desk.get(f"{LIST}by/day.csv", {"user__id__exact": "nonsense"}).status_code == 404
    assert desk.get(f"{LIST}by/day/", {"user__id__exact": "nonsense"}, follow=True).status_code == 200


def test_tables_are_for_those_who_may_see_usage(clerk: User) -> None:
    allow(clerk, "conversations.view_turn")
    for place in ("", "by/day/", "by/day.csv"):
        assert browser_of(clerk).get(LIST + place).status_code == 403
    allow(clerk, "streaming.view_usagerecord")
    for place in ("", "by/day/", "by/day.csv"):
        assert browser_of(clerk).get(LIST + place).status_code == 200


def test_nobody_writes_usage_here(desk: Client, alice: User) -> None:
    turn = ended_turn(alice)
    assert desk.get(f"{LIST}add/").status_code == 403
    assert desk.post(f"{LIST}{turn.pk}/change/", {"charged": "0"}).status_code == 403
    assert desk.post(f"{LIST}{turn.pk}/delete/", {"post": "yes"}).status_code == 403
    assert UsageRecord.objects.get(turn=turn).charged == CREDIT
