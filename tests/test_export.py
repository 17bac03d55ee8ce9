"""/settings/export/: everything of one's own in a file, and nothing of others."""

import json

import pytest
from asgiref.sync import async_to_sync
from django.db.models import Q

from accounts.models import ApiKey, User
from billing.models import Transfer
from chatapp import export
from tests.admin.desk import ended_turn
from tests.calling import visitor
from tests.conftest import SignIn
from tests.conversations.talk import conversation, dialogue, said


def test_the_file_has_all_that_is_ones_own_and_nothing_of_others(
    stack: object, alice: User, charlie: User, sign_in: SignIn
) -> None:
    User.objects.filter(pk=alice.pk).update(instructions="Be “brief”.\n")
    _, token = ApiKey.issue(user=alice, name="cron")
    chats = [conversation(alice, title) for title in ("First", "Second")]
    messages = dialogue(chats[0], 4)
    aside = said(chats[0], "an other branch 👋", after=messages[1], minute=9)
    turn = ended_turn(alice, conversation=chats[0], assistant_message=messages[3])
    dialogue(conversation(charlie, "Outside"), 2)
    ended_turn(charlie)

    client = sign_in(alice)
    answer = client.get("/settings/export/")
    assert answer.headers["content-disposition"].startswith('attachment; filename="chatapp-')
    file = answer.json()

    assert file["profile"]["email"] == file["profile"]["addresses"][0]["email"] == alice.email
    assert file["profile"]["instructions"] == "Be “brief”.\n"
    assert file["profile"]["balance"] == {"available": "99.000000", "held": "0.000000"}
    assert [key["name"] for key in file["api_keys"]] == ["cron"]
    assert token.partition(".")[2] not in answer.text
    assert [chat["title"] for chat in file["conversations"]] == ["First", "Second"]
    first, second = file["conversations"]
    assert {message["id"]: message["text"] for message in first["messages"]} == {
        str(message.pk): message.text for message in (*messages, aside)
    }
    assert [message["turn"] for message in first["messages"] if "turn" in message] == [
        {"id": str(turn.pk), "state": "completed", "model": "claude-sonnet-5-5", "charged": "1.000000"}
    ]
    assert second["messages"] == []
    assert file["statement"] == client.get("/api/v1/transactions").json()["items"]
    assert len(file["statement"]) == 2

    theirs = sign_in(charlie).get("/settings/export/").json()
    assert [chat["title"] for chat in theirs["conversations"]] == ["Outside"]
    assert alice.email not in str(theirs)
    assert str(turn.pk) not in str(theirs)


def test_a_long_life_is_read_piece_by_piece_and_told_whole(
    committed_db: None, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "CONVERSATIONS_AT_ONCE", 2)
    monkeypatch.setattr(export, "MOVEMENTS_AT_ONCE", 2)
    titles = [f"chat {number}" for number in range(5)]
    for title in titles:
        said(conversation(alice, title), f"in {title}")
    for _ in range(4):
        ended_turn(alice)

    async def whole() -> str:
        return "".join([piece async for piece in export.as_json(alice)])

    file = json.loads(async_to_sync(whole)())

    assert [chat["title"] for chat in file["conversations"]] == titles
    assert [[said["text"] for said in chat["messages"]] for chat in file["conversations"]] == [
        [f"in {title}"] for title in titles
    ]
    made = Transfer.objects.filter(Q(debit__user=alice) | Q(credit__user=alice)).order_by("-pk")
    assert [line["id"] for line in file["statement"]] == [transfer.pk for transfer in made]
    assert len(file["statement"]) == 5


def test_who_is_not_signed_in_gets_no_file(db: None) -> None:
    answer = visitor().get("/settings/export/")
    assert answer["Location"] == "/accounts/login/?next=/settings/export/"
