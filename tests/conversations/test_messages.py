"""/api/v1/conversations/{id}/messages: the shown branch in pages, and how one comes to another branch."""

import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext

from accounts.models import User
from billing.models import Price
from chatapp.conversations import tree
from chatapp.conversations.api import Listing, MessagePage, conversations_page, messages_page
from chatapp.conversations.models import Conversation, Message, Turn
from chatapp.streaming import turns
from tests.admin.desk import ended_turn
from tests.calling import Caller
from tests.conversations.talk import BEGAN, conversation, dialogue, said, show

Queries = Callable[[Callable[[], object]], int]


def path(of: Conversation) -> str:
    return f"conversations/{of.pk}"


def texts(page: dict[str, Any]) -> list[str]:
    return [item["text"] for item in page["items"]]


# --- Pages


@pytest.mark.parametrize("limit", [None, 1, 43, 65, 130, 200])
def test_a_long_branch_is_read_page_by_page(api: Caller, alice: User, limit: int | None) -> None:
    long = conversation(alice)
    messages = dialogue(long, 130)
    limits = {} if limit is None else {"limit": limit}

    pages: list[list[str]] = []
    before: dict[str, str] = {}
    # At one message a page, three pages will do to see that nothing is lost or doubled at their edges.
    while len(pages) < (3 if limit == 1 else 99):
        page = api.get(f"{path(long)}/messages", **limits, **before)
        pages.append([item["id"] for item in page["items"]])
        if page["next"] is None:
            break
        assert page["next"] == pages[-1][0]
        before = {"before": page["next"]}

    read = [id_ for page in reversed(pages) for id_ in page]
    assert read == [str(message.pk) for message in messages][-len(read) :]
    assert len(read) == (3 if limit == 1 else 130)
    assert {len(page) for page in pages[:-1]} <= {limit or 50}


def test_above_the_first_message_there_is_nothing(api: Caller, alice: User) -> None:
    short = conversation(alice)
    first, _ = dialogue(short, 2)

    assert api.get(f"{path(short)}/messages", before=first.pk) == {"items": [], "next": None}


def test_a_message_is_told_with_its_turn(api: Caller, alice: User) -> None:
    talk = conversation(alice)
    question, answer = dialogue(talk, 2)
    turn = ended_turn(
        alice,
        price=700_000,
        held=2_000_000,
        conversation=talk,
        user_message=question,
        assistant_message=answer,
        stop_reason="end_turn",
        input_tokens=1000,
        output_tokens=500,
        cache_read_tokens=30,
        cache_write_5m_tokens=4,
        cache_write_1h_tokens=3,
        first_token_ms=120,
    )
    Message.objects.filter(pk=answer.pk).update(thinking="Hm.")

    asked, answered = api.get(f"{path(talk)}/messages")["items"]

    assert asked == {
        "id": str(question.pk),
        "parent": None,
        "role": "user",
        "text": "message 0",
        "thinking": "",
        "created_at": "2026-11-01T00:00:00Z",
        "siblings": [str(question.pk)],
        "turn": None,
        "mark": None,
    }
    told = answered.pop("turn")
    assert answered == {
        "id": str(answer.pk),
        "parent": str(question.pk),
        "role": "assistant",
        "text": "message 1",
        "thinking": "Hm.",
        "created_at": "2026-11-01T00:01:00Z",
        "siblings": [str(answer.pk)],
        "mark": None,
    }
    assert told == {
        "id": str(turn.pk),
        "conversation": str(talk.pk),
        "user_message": str(question.pk),
        "assistant_message": str(answer.pk),
        "state": "completed",
        "model": "claude-sonnet-5-5",
        "model_name": "Sonnet 5.5",
        "served_by": None,
        "served_by_name": None,
        "stop_reason": "end_turn",
        "usage": {
            "input_tokens": 1000,
            "output_tokens": 500,
            "cache_read_input_tokens": 30,
            "cache_creation_input_tokens": 7,
        },
        "held": "2.000000",
        "charged": "0.700000",
        "estimated": False,
        "limited_by_balance": False,
        "max_tokens": 256,
        "created_at": told["created_at"],
        "first_token_ms": 120,
        "duration_ms": 4000,
        "error": None,
    }
    assert api.get(f"turns/{turn.pk}") == told


def test_a_running_turn_and_a_failed_one_are_told_as_such(api: Caller, alice: User) -> None:
    talk = conversation(alice)
    turn = turns.open(alice, turns.Ask(id=uuid.uuid4(), text="hello", conversation=talk.pk)).turn

    assert api.get(path(talk))["running_turn"] == str(turn.pk)
    told = api.get(f"{path(talk)}/messages")["items"][1]["turn"]
    assert (told["state"], told["usage"], told["duration_ms"], told["error"]) == ("running", None, None, None)

    turns.interrupt(turn.pk, thinking="", text="Hel")

    assert api.get(path(talk))["running_turn"] is None
    answer = api.get(f"{path(talk)}/messages")["items"][1]
    assert (answer["text"], answer["turn"]["state"], answer["turn"]["charged"]) == (
        "Hel",
        "interrupted",
        "0.000000",
    )
    assert answer["turn"]["error"] == {
        "code": "interrupted",
        "message": "The answer was interrupted on our side. You were not charged.",
        "retryable": True,
        "retry_after": None,
    }


# --- Branches


def test_a_branch_is_chosen_by_any_message_on_it(api: Caller, alice: User) -> None:
    """The newest leaf below the message becomes the end of what is shown."""
    talk = conversation(alice)
    flip = said(talk, "Flip a coin.", minute=0)
    heads = said(talk, "Heads.", after=flip, minute=1)
    tails = said(talk, "Tails.", after=flip, minute=2)
    again = said(talk, "Again.", after=heads, minute=3)
    edge = said(talk, "On its edge.", after=again, minute=4)
    gone = said(talk, "It rolled away.", after=again, minute=5)
    roll = said(talk, "Roll a die.", minute=6)
    show(talk, tails)
    shown = f"{path(talk)}/messages"
    assert texts(api.get(shown)) == ["Flip a coin.", "Tails."]

    for chosen, branch in [
        (heads, ["Flip a coin.", "Heads.", "Again.", "It rolled away."]),
        (edge, ["Flip a coin.", "Heads.", "Again.", "On its edge."]),
        (again, ["Flip a coin.", "Heads.", "Again.", "It rolled away."]),
        (roll, ["Roll a die."]),
        # At each fork the newest answer, though the other was said to more lately.
        (flip, ["Flip a coin.", "Tails."]),
    ]:
        api.patch(path(talk), branch=str(chosen.pk))
        assert texts(api.get(shown)) == branch

    api.patch(path(talk), branch=str(gone.pk))
    siblings = [item["siblings"] for item in api.get(shown)["items"]]
    assert siblings == [
        [str(flip.pk), str(roll.pk)],
        [str(heads.pk), str(tails.pk)],
        [str(again.pk)],
        [str(edge.pk), str(gone.pk)],
    ]


def test_siblings_said_at_the_same_moment_keep_one_order(api: Caller, alice: User) -> None:
    talk = conversation(alice)
    question = said(talk, "?")
    answers = [said(talk, str(number), after=question) for number in range(5)]
    show(talk, answers[2])

    item = api.get(f"{path(talk)}/messages")["items"][1]
    assert item["siblings"] == sorted(str(answer.pk) for answer in answers)
    api.patch(path(talk), branch=str(question.pk))
    assert api.get(f"{path(talk)}/messages")["items"][1]["id"] == item["siblings"][-1]


def test_first_messages_of_other_conversations_are_no_siblings(api: Caller, alice: User) -> None:
    talk = conversation(alice)
    first = said(talk, "here")
    said(conversation(alice), "there")
    show(talk, first)

    assert api.get(f"{path(talk)}/messages")["items"][0]["siblings"] == [str(first.pk)]


def test_messages_of_other_conversations_are_refused(api: Caller, alice: User, bob: User) -> None:
    talk = conversation(alice)
    dialogue(talk, 2)
    shown = api.get(f"{path(talk)}/messages")

    for stranger in (
        said(conversation(alice), "in another of hers").pk,
        said(conversation(bob), "bob's").pk,
        uuid.uuid4(),
    ):
        for status, problem in (
            api.refusal("PATCH", path(talk), {"branch": str(stranger)}),
            api.refusal("GET", f"{path(talk)}/messages", before=stranger),
        ):
            assert (status, problem["code"]) == (404, "not_found")
            assert problem["detail"] == "There is no such message."
    assert api.get(f"{path(talk)}/messages") == shown


def test_pages_that_cannot_be_given_are_refused_with_the_field_at_fault(api: Caller, alice: User) -> None:
    talk = conversation(alice)
    for query, field in [
        ({"limit": 0}, "limit"),
        ({"limit": 201}, "limit"),
        ({"limit": "all"}, "limit"),
        ({"before": "the last"}, "before"),
    ]:
        status, problem = api.refusal("GET", f"{path(talk)}/messages", **query)
        assert (status, problem["code"], list(problem["fields"])) == (400, "invalid", [field])


# --- As fast at any size


@pytest.fixture
def queries(db: None) -> Queries:
    """How many queries a piece of work takes."""

    def queries(work: Callable[[], object]) -> int:
        with CaptureQueriesContext(
            connection,
        ) as captured:
            work()
        return len(captured)

    return queries


def answered_dialogue(user: User, length: int) -> Conversation:
    """A dialogue whose every answer came of a turn."""
    talk = conversation(user)
    messages = dialogue(talk, length)
    price = Price.objects.now_for("claude-sonnet-5-5")
    Turn.objects.bulk_create(
        Turn(
            id=uuid.uuid4(),
            user=user,
            conversation=talk,
            user_message=question,
            assistant_message=answer,
            model_id=price.model_id,
            price=price,
            max_tokens=256,
            held=1,
            state="completed",
            ended_at=Now(),
        )
        for question, answer in zip(messages[::2], messages[1::2], strict=True)
    )
    return Conversation.objects.get(pk=talk.pk)


def test_a_page_of_messages_takes_the_same_queries_however_long_it_is(alice: User, queries: Queries) -> None:
    short, long = answered_dialogue(alice, 10), answered_dialogue(alice, 100)

    taken = [queries(lambda: messages_page(talk, MessagePage(limit=200))) for talk in (short, long)]  # noqa: B023

    assert taken == [4, 4]


def test_a_page_of_the_list_takes_one_query(alice: User, queries: Queries) -> None:
    Conversation.objects.bulk_create(
        Conversation(user=alice, title=str(number), updated_at=BEGAN + timedelta(number))
        for number in range(100)
    )

    assert queries(lambda: conversations_page(alice, Listing(limit=10))) == 1
    assert queries(lambda: conversations_page(alice, Listing(limit=100))) == 1


def test_a_branch_is_chosen_in_one_query_however_long_it_is(alice: User, queries: Queries) -> None:
    messages = dialogue(conversation(alice), 100)

    assert queries(lambda: tree.tip_below(messages[0])) == 1
    assert tree.tip_below(messages[0]) == messages[-1].pk
