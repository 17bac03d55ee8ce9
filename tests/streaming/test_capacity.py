"""A web process that writes as many answers as it has connections for refuses the next one, in words."""

from typing import Any

from accounts.models import User
from billing import ledger
from chatapp.conversations.models import Turn
from tests.conftest import SignIn
from tests.stack import Stack
from tests.streaming.reading import TURNS, ask_until, new_id, text_of

SLOW = "[[demo: tokens 4000]] [[demo: pace 100]] go on and on"


def test_a_turn_more_than_a_process_can_write_is_refused_and_costs_nothing(
    stack: Stack, alice: User, bob: User, sign_in: SignIn
) -> None:
    web = stack.start_web({"TURNS_PER_PROCESS": "1"})
    first, second = sign_in(alice, url=web.url), sign_in(bob, url=web.url)
    asked = {"id": new_id(), "text": "hello"}
    refused: list[Any] = []

    def ask_for_one_more(seen: list[dict[str, Any]]) -> bool:
        if not refused and text_of(seen):
            refused.append(second.post(TURNS, json=asked))
        return bool(refused)

    seen = ask_until(first, ask_for_one_more, SLOW)
    answer = refused[0]
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert answer.headers["Retry-After"] == "5"
    assert not Turn.objects.filter(user=bob).exists()
    assert ledger.wallet_of(bob).held == 0

    # Whoever comes back to the answer that is being written is let in, and the next has room when it has ended.
    assert first.post(f"{TURNS}/{seen[0]['turn']}/stop").status_code == 202
    stack.wait_until(lambda: second.post(TURNS, json=asked).status_code == 200, "there is room again")
