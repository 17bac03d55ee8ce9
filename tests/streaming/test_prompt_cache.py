"""Long conversations: what was said before is read from the provider's cache, for a fraction of its price."""

from dataclasses import replace

from accounts.models import User
from billing import pricing
from billing.pricing import Usage
from chatapp.conversations.models import Turn
from tests.billing.books import CREDIT, give
from tests.conftest import SignIn
from tests.stack import Stack
from tests.streaming.reading import ask

TURNS = 50


def test_the_fiftieth_turn_pays_for_little_but_its_own_text(
    stack: Stack, alice: User, sign_in: SignIn
) -> None:
    give(alice, 1000 * CREDIT)
    client = sign_in(alice)
    conversation = ask(client, "[[demo: tokens 120]] first")[0]["conversation"]
    for number in range(2, TURNS + 1):
        ending = ask(client, f"[[demo: tokens 120]] and {number}", conversation=conversation)[-1]
        assert ending["type"] == "done"
    last = Turn.objects.filter(conversation=conversation).latest("created_at")
    asked = replace(last.usage, output_tokens=0)
    uncached = Usage(input_tokens=asked.prompt_tokens)
    assert asked.prompt_tokens > TURNS * 120
    assert pricing.charge(asked, last.price) <= pricing.charge(uncached, last.price) / 4
    # And it is charged by these very numbers.
    assert last.charged == pricing.charge(last.usage, last.price)
