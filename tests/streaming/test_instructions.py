"""What a person tells the model once for all: before each conversation, and before one."""

from accounts.models import User
from chatapp.conversations.models import Turn
from chatapp.streaming.prompts import HOUSE
from tests.billing.books import CREDIT, give
from tests.conftest import SignIn
from tests.stack import Stack
from tests.streaming.reading import ask

OWN, OF_CHAT = "Always answer in rhymes, quokka.", "Be brief here, wombat."


def test_instructions_stand_before_the_messages_are_held_for_and_not_logged(
    stack: Stack, alice: User, sign_in: SignIn
) -> None:
    give(alice, 10 * CREDIT)
    client = sign_in(alice)
    first = ask(client)[0]
    alice.instructions = OWN
    alice.save()
    path = f"/api/v1/conversations/{first['conversation']}"
    assert client.patch(path, json={"instructions": OF_CHAT}).is_success
    again = ask(client, "", conversation=first["conversation"], regenerate=first["user_message"])[0]

    plain, told = [request.body["system"] for request in stack.claude.requests() if request.body]
    assert plain == HOUSE
    # What changes least comes first: the provider's cache reads a common beginning.
    assert told.startswith(HOUSE)
    assert HOUSE not in told[len(HOUSE) :]
    assert 0 < told.index(OWN) < told.index(OF_CHAT)
    held = {str(turn.pk): turn.held for turn in Turn.objects.of(alice)}
    price = Turn.objects.get(pk=first["turn"]).price
    dearest = int(max(price.input_usd, price.cache_write_5m_usd) * 100)
    assert held[again["turn"]] - held[first["turn"]] == len(told[len(HOUSE) :].encode()) * dearest
    for name in ("web", "worker"):
        log = stack.log_of(name).read_text()
        assert "quokka" not in log
        assert "wombat" not in log
