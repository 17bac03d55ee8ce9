"""Usage: every turn that ended, and the totals of what the filters leave."""

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


@pytest.mark.usefixtures("used")
def test_totals_are_of_what_the_filters_leave(desk: Client, alice: User) -> None:
    shown = page(desk, LIST, q=alice.email)
    assert (
        "Turns 3 Input 2,000 Output 400 Cache read 60 Cache write 5 m 8 Cache write 1 h 10 "
        "Revenue 3.000005 Cost 2.000008 Margin 0.999997"
    ) in shown
    shown = page(desk, LIST, q=alice.email, ended_at_from="2024-05-05", ended_at_to="2024-05-05")
    assert "Turns 1 Input 1,000 " in shown
    assert "Revenue 0.000005 Cost 0.000007 Margin −0.000002" in shown


def test_a_filter_that_there_is_not_breaks_nothing(desk: Client) -> None:
    assert desk.get(LIST, {"user__id__exact": "nonsense"}, follow=True).status_code == 200


def test_usage_is_for_those_who_may_see_it(clerk: User) -> None:
    allow(clerk, "conversations.view_turn")
    assert browser_of(clerk).get(LIST).status_code == 403
    allow(clerk, "streaming.view_usagerecord")
    assert browser_of(clerk).get(LIST).status_code == 200


def test_nobody_writes_usage_here(desk: Client, alice: User) -> None:
    turn = ended_turn(alice)
    assert desk.get(f"{LIST}add/").status_code == 403
    assert desk.post(f"{LIST}{turn.pk}/change/", {"charged": "0"}).status_code == 403
    assert desk.post(f"{LIST}{turn.pk}/delete/", {"post": "yes"}).status_code == 403
    assert UsageRecord.objects.get(turn=turn).charged == CREDIT
