"""A conversation is called by its first words until a model has named it, or the person."""

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connections
from playwright.sync_api import Page, expect

from accounts.models import User
from chatapp.conversations.models import Conversation, Turn
from chatapp.streaming import titles
from chatapp.streaming.models import HouseUsage
from chatapp.streaming.tasks import name_conversation
from tests.conftest import SignIn
from tests.stack import Stack
from tests.streaming.reading import ask

WRITER = "claude-haiku-5-5"
ASKED = "How do tides work? Tell me in a few words."
# What is asked of the writer quotes the conversation like this.
QUOTED = "<opening-"


@pytest.mark.parametrize(
    ("written", "title"),
    [
        ("Tides and the moon", "Tides and the moon"),
        ('\n  "Tides   and\tthe moon."  \nThis title names the subject.', "Tides and the moon"),
        ("# **Tides** and `the moon`", "Tides and the moon"),
        ("Title: *Tides*", "Tides"),
        ("**Title:** „Ebbe und Flut“", "Ebbe und Flut"),
        ("- [Tides](https://evil.example)", "Tides"),
        ("2. Weltkrieg in snake_case: 2*3*4?", "2. Weltkrieg in snake_case: 2*3*4?"),
        ("C# or F#", "C# or F#"),
        ("\u202eTides\x07and\x1bthe\u2069 moon", "Tides and the moon"),
        ("👩‍👩‍👧 日本", "👩‍👩‍👧 日本"),
        ("word " * 40, "word word word word word word word word word word word word…"),
        ('"" \n ** \n --- \n', ""),
        ("", ""),
    ],
)
def test_what_a_model_wrote_becomes_one_short_plain_line(written: str, title: str) -> None:
    assert titles.cleaned(written) == title


def asked_for_titles(stack: Stack) -> list[str]:
    bodies = [request.body for request in stack.claude.requests() if request.body]
    return [text for body in bodies if QUOTED in (text := body["messages"][0]["content"])]


def test_a_conversation_is_named_after_its_first_answer_and_pages_show_it(
    stack: Stack, alice: User, sign_in: SignIn, page_of: Callable[..., Page]
) -> None:
    stack.start_worker({"TITLE_MODEL": WRITER})
    page, client = page_of(alice), sign_in(alice)
    page.goto("/chat/")
    page.get_by_label("Message Claude").fill(ASKED)
    page.keyboard.press("Enter")

    named = Conversation.objects.filter(user=alice, titled_by="model")
    stack.wait_until(named.exists, "the worker has had it named", 60)
    expect(page).to_have_title("Tides work · Chatapp")
    expect(page.get_by_role("link", name=re.compile("^Tides work"))).to_be_visible()
    turn = Turn.objects.get(user=alice)
    (asked,) = asked_for_titles(stack)
    assert ASKED in asked
    usage = HouseUsage.objects.get(conversation_id=turn.conversation_id)
    assert (usage.purpose, usage.model_id, usage.user_id) == ("title", WRITER, alice.pk)
    assert usage.cost > 0
    charged = [item for item in client.get("/api/v1/transactions").json()["items"] if item["turn"]]
    assert [item["turn"] for item in charged] == [str(turn.pk)]
    # Once, also when a later answer ends and whoever is told again.
    ask(client, "and now?", conversation=str(turn.conversation_id))
    name_conversation(str(turn.pk))
    assert len(asked_for_titles(stack)) == 1


@pytest.fixture
def named_here(settings: Any) -> None:
    """The model names conversations for this process, which does the worker's work."""
    settings.TITLE_MODEL = WRITER


def title_of(events: list[dict[str, Any]]) -> str:
    return Conversation.objects.get(pk=events[0]["conversation"]).title


def test_without_a_name_the_first_words_stay_until_the_next_answer(
    stack: Stack, alice: User, sign_in: SignIn, named_here: None, caplog: pytest.LogCaptureFixture
) -> None:
    client = sign_in(alice)
    first = ask(client, ASKED)
    for failure in ("status 529", "refusal", "cut after=2", "empty", "say **"):
        stack.claude.script(failure, match=QUOTED)
        name_conversation(first[0]["turn"])
    assert title_of(first) == ASKED
    # What the provider had accepted costs the house something all the same.
    spent = HouseUsage.objects.filter(conversation_id=first[0]["conversation"])
    assert [usage.input_tokens > 0 for usage in spent] == [True] * 4
    told = [record for record in caplog.records if record.name == titles.__name__]
    assert [(line.levelname, line.exc_info) for line in told] == [("WARNING", None)] * len(told)
    assert [line.msg["code"] for line in told] == ["overloaded", "refused", "provider_cut"]  # type: ignore[index]

    later = ask(client, "Thank you.", conversation=first[0]["conversation"])
    name_conversation(later[0]["turn"])
    assert title_of(first) == "Tides work"


def name_in_a_thread(turn: str) -> None:
    try:
        name_conversation(turn)
    finally:
        connections.close_all()


def test_what_the_person_typed_is_never_overwritten(
    stack: Stack, alice: User, sign_in: SignIn, named_here: None
) -> None:
    client = sign_in(alice)
    made = client.post("/api/v1/conversations", json={"title": "My sea"}).json()["id"]
    typed_before = ask(client, ASKED, conversation=made)
    name_conversation(typed_before[0]["turn"])
    assert title_of(typed_before) == "My sea"
    assert asked_for_titles(stack) == []

    meanwhile = ask(client, ASKED)
    stack.claude.script("wait 1", match=QUOTED)
    with ThreadPoolExecutor() as threads:
        naming = threads.submit(name_in_a_thread, meanwhile[0]["turn"])
        stack.wait_until(lambda: len(asked_for_titles(stack)) == 1, "the writer is asked")
        path = f"/api/v1/conversations/{meanwhile[0]['conversation']}"
        client.patch(path, json={"title": "Our sea"}).raise_for_status()
        naming.result()
    assert title_of(meanwhile) == "Our sea"
