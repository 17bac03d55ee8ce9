"""Turns in the admin: found by what went wrong, read and never written."""

from datetime import UTC, datetime

import pytest
from django.test import Client

from accounts.models import User
from chatapp.conversations.models import Turn
from tests.admin.desk import conversation, ended_turn, page
from tests.billing.books import CREDIT

LIST = "/admin/conversations/turn/"
LONG_AGO = datetime(2024, 2, 29, 23, 59, 59, tzinfo=UTC)


def test_a_row_tells_tokens_money_and_time(desk: Client, alice: User) -> None:
    ended_turn(
        alice,
        held=CREDIT,
        price=2 * CREDIT,
        cost=1_500_000,
        input_tokens=12_345,
        output_tokens=678,
        first_token_ms=1234,
    )
    told = "12,345 678 1.000000 cost 1.500000 −0.500000 overrun 1.000000 4,000 first 1,234"
    assert f"{alice.email} Sonnet 5.5 completed {told}" in page(desk, LIST, q=alice.email)


@pytest.mark.parametrize(
    ("query", "finds"),
    [
        ({"state__exact": "failed"}, {"failed"}),
        ({"state__exact": ["failed", "stopped"]}, {"failed", "stopped"}),
        ({"error_code": "overloaded"}, {"failed"}),
        ({"model__id__exact": "claude-opus-5-5"}, {"stopped"}),
        ({"created_at_from": "2024-02-29", "created_at_to": "2024-02-29"}, {"completed"}),
        ({"created_at_to": "2024-02-28"}, set()),
        ({"created_at_from": "2024-03-01"}, {"failed", "stopped"}),
        ({"created_at_from": "yesterday"}, {"completed", "failed", "stopped"}),
    ],
)
def test_turns_are_filtered(query: dict[str, str], finds: set[str], desk: Client, alice: User) -> None:
    made = {
        "completed": ended_turn(alice, ended_at=LONG_AGO),
        "failed": ended_turn(alice, state="failed", error_code="overloaded", price=0),
        "stopped": ended_turn(alice, state="stopped", model="claude-opus-5-5"),
    }
    shown = desk.get(LIST, query | {"q": alice.email}).content.decode()
    assert {state for state, turn in made.items() if str(turn.pk) in shown} == finds


def test_a_turn_is_found_by_its_id_and_its_conversations(desk: Client, alice: User) -> None:
    chat = conversation(alice)
    turn, other = ended_turn(alice, conversation=chat), ended_turn(alice)
    for word in (turn.pk, chat.pk):
        shown = desk.get(LIST, {"q": str(word)}).content.decode()
        assert str(turn.pk) in shown
        assert str(other.pk) not in shown


def test_nobody_writes_a_turn_here(desk: Client, alice: User) -> None:
    turn = ended_turn(alice)
    assert desk.get(f"{LIST}add/").status_code == 403
    assert desk.post(f"{LIST}{turn.pk}/change/", {"charged": "0"}).status_code == 403
    assert desk.post(f"{LIST}{turn.pk}/delete/", {"post": "yes"}).status_code == 403
    desk.post(LIST, {"action": "delete_selected", "_selected_action": str(turn.pk), "post": "yes"})
    assert Turn.objects.get(pk=turn.pk).charged == CREDIT
