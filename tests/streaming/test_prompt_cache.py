"""Long conversations: what was said before is read from the provider's cache, for a fraction of its price."""

from dataclasses import replace

from accounts.models import User
from billing import pricing
from billing.pricing import Usage
from chatapp.conversations.models import Message, Turn
from tests.billing.books import CREDIT, give
from tests.conftest import SignIn
from tests.conversations.talk import conversation as chat
from tests.conversations.talk import dialogue
from tests.stack import Stack
from tests.streaming.reading import ask

TURNS = 50
# So many of them, the last ones, are really asked.
ASKED = 4


def test_the_fiftieth_turn_pays_for_little_but_its_own_text(
    stack: Stack, alice: User, sign_in: SignIn
) -> None:
    give(alice, 1000 * CREDIT)
    client = sign_in(alice)
    # What was said before matters to the last turn only as far as the one before it has sent it.
    before = chat(alice)
    said = [message.pk for message in dialogue(before, 2 * (TURNS - ASKED))]
    Message.objects.filter(pk__in=said).update(text="And so it goes on. " * 20)
    conversation = str(before.pk)
    for number in range(ASKED):
        ending = ask(client, f"[[demo: tokens 120]] and {number}", conversation=conversation)[-1]
        assert ending["type"] == "done"
    last = Turn.objects.filter(conversation=conversation).latest("created_at")
    asked = replace(last.usage, output_tokens=0)
    uncached = Usage(input_tokens=asked.prompt_tokens)
    assert asked.prompt_tokens > TURNS * 120
    assert pricing.charge(asked, last.price) <= pricing.charge(uncached, last.price) / 4
    # And it is charged by these very numbers.
    assert last.charged == pricing.charge(last.usage, last.price)
