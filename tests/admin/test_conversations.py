"""Conversations in the admin: what was said stays unsaid until somebody with the right asks, and that is kept."""

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client

from accounts.models import User
from chatapp.conversations.models import Conversation, Message, Turn
from tests.admin.conftest import browser_of
from tests.admin.desk import SECRET, allow, conversation, ended_turn, page, text_of
from tests.billing.books import open_turn

LIST = "/admin/conversations/conversation/"


def messages_of(chat: Conversation) -> str:
    return f"{LIST}{chat.pk}/messages/"


def readings(chat: Conversation) -> list[str]:
    return [entry.change_message for entry in LogEntry.objects.filter(object_id=chat.pk).order_by("pk")]


def test_the_list_tells_title_owner_size_and_what_runs(desk: Client, alice: User) -> None:
    chat = conversation(alice, "Spare keys", messages=5)
    assert f"Spare keys {alice.email} 5 – " in page(desk, LIST, q=str(chat.pk))
    Turn.objects.filter(pk=open_turn(alice, 1)).update(conversation=chat)
    assert f"Spare keys {alice.email} 5 an answer " in page(desk, LIST, q=str(chat.pk))


@pytest.mark.parametrize("word", ["title", "pk", "email"])
def test_conversations_are_found_but_not_by_what_was_said(word: str, desk: Client, alice: User) -> None:
    chat = conversation(alice, "Spare keys of the shed")
    wanted = alice.email if word == "email" else str(getattr(chat, word))
    assert str(chat.pk) in desk.get(LIST, {"q": wanted}).content.decode()
    assert str(chat.pk) not in desk.get(LIST, {"q": "under the doormat"}).content.decode()


def test_no_page_shows_what_was_said(desk: Client, alice: User) -> None:
    chat = conversation(alice)
    turn = ended_turn(alice, conversation=chat, user_message=chat.messages.earliest("created_at"))
    for url in (
        f"{LIST}?q={chat.pk}",
        f"{LIST}{chat.pk}/change/",
        f"{LIST}{chat.pk}/delete/",
        f"{LIST}{chat.pk}/history/",
        messages_of(chat),
        f"/admin/conversations/turn/{turn.pk}/change/",
        f"/admin/streaming/usagerecord/{turn.pk}/change/",
        f"/admin/accounts/user/{alice.pk}/change/",
        f"/admin/accounts/user/{alice.pk}/delete/",
    ):
        answer = desk.get(url)
        assert answer.status_code == 200, url
        assert SECRET not in answer.content.decode(), url
    assert readings(chat) == [], "nothing was read"


def test_messages_are_shown_after_a_click_that_is_kept(desk: Client, alice: User, operator: User) -> None:
    chat = conversation(alice, messages=3)
    Message.objects.create(conversation=chat, role="user", text="<img src=x onerror=alert(1)>")
    assert f"private messages of {alice.email}. That you read them is recorded" in page(
        desk, messages_of(chat)
    )
    answer = desk.post(messages_of(chat))
    assert all(f"{SECRET} {count}" in text_of(answer) for count in range(3))
    assert "<img src=x" not in answer.content.decode()
    assert "no-store" in answer.headers["Cache-Control"]
    assert readings(chat) == ["Read the messages 1 to 4 of 4."]
    entry = LogEntry.objects.get(object_id=chat.pk)
    assert entry.user == operator
    assert "Read the messages 1 to 4 of 4." in page(desk, "/admin/admin/logentry/", q=operator.email)


def test_a_long_conversation_is_read_page_by_page(desk: Client, alice: User) -> None:
    chat = conversation(alice, messages=60)
    first, second = desk.post(messages_of(chat)), desk.post(messages_of(chat), {"page": "2"})
    assert f"{SECRET} 49 " in text_of(first)
    assert f"{SECRET} 50 " not in text_of(first)
    assert f"{SECRET} 50 " in text_of(second)
    assert readings(chat) == ["Read the messages 1 to 50 of 60.", "Read the messages 51 to 60 of 60."]


def test_reading_is_a_right_of_its_own(clerk: User, alice: User) -> None:
    chat = conversation(alice)
    allow(clerk, "conversations.view_conversation", "conversations.change_conversation")
    desk = browser_of(clerk)
    assert messages_of(chat) not in desk.get(f"{LIST}{chat.pk}/change/").content.decode()
    for answer in (desk.get(messages_of(chat)), desk.post(messages_of(chat))):
        assert answer.status_code == 403
        assert SECRET not in answer.content.decode()
    assert readings(chat) == []
    allow(clerk, "conversations.read_messages")
    assert SECRET in desk.post(messages_of(chat)).content.decode()
    assert len(readings(chat)) == 1


def test_nobody_writes_a_conversation_here(desk: Client, alice: User) -> None:
    chat = conversation(alice)
    assert desk.get(f"{LIST}add/").status_code == 403
    assert desk.post(f"{LIST}{chat.pk}/change/", {"title": "Changed"}).status_code == 403
    chat.refresh_from_db()
    assert chat.title == "Spare keys"


def test_only_a_superuser_deletes_one(desk: Client, clerk: User, alice: User) -> None:
    chat = conversation(alice)
    turn = ended_turn(alice, conversation=chat)
    allow(clerk, "conversations.view_conversation", "conversations.delete_conversation")
    assert browser_of(clerk).post(f"{LIST}{chat.pk}/delete/", {"post": "yes"}).status_code == 403
    assert desk.post(f"{LIST}{chat.pk}/delete/", {"post": "yes"}).status_code == 302
    assert not Conversation.objects.filter(pk=chat.pk).exists()
    turn.refresh_from_db()
    assert turn.conversation is None
    assert "deleted" in page(desk, f"/admin/conversations/turn/{turn.pk}/change/")


def test_one_that_is_none_is_not_found(desk: Client) -> None:
    for nothing in ("7a1c7a5e-0000-4000-8000-000000000000", "nonsense"):
        assert desk.get(f"{LIST}{nothing}/messages/").status_code == 404


TURNS = "/admin/conversations/turn/"


def test_the_list_of_turns_tells_all_that_was_read_and_what_of_it_was_cached(
    desk: Client, alice: User
) -> None:
    ended_turn(alice, input_tokens=1, cache_read_tokens=12_000, cache_write_5m_tokens=200, output_tokens=7)
    assert "12,201 12,000 cached 7" in page(desk, TURNS, q=alice.email)


def test_a_list_without_rows_says_why(desk: Client) -> None:
    assert "No turns are left by this search" in page(desk, TURNS, q="nobody at all")
    assert "There are no guard findings so far." in page(desk, "/admin/streaming/guardfinding/")
