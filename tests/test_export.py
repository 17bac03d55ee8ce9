"""/settings/export/: everything of one's own in a file, and nothing of others."""

from accounts.models import ApiKey, User
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


def test_who_is_not_signed_in_gets_no_file(db: None) -> None:
    answer = visitor().get("/settings/export/")
    assert answer["Location"] == "/accounts/login/?next=/settings/export/"
