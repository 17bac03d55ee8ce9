"""A web process is told to end while it answers: a deploy hands its readers over and finishes its turns, or ends them
without a charge."""

import asyncio
import json
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from django.db import connection, transaction

from accounts.models import ApiKey, User
from billing import ledger
from chatapp.conversations.models import Message, Turn
from chatapp.streaming import running
from tests.conftest import SignIn
from tests.proxy import Proxy
from tests.servers import PLAIN
from tests.stack import Stack, Web, run_node
from tests.streaming.reading import TURNS, ask_until, follow, follow_through_drops, new_id, refusal, text_of

# Long enough for Node to start beside it.
SHORT = "[[demo: tokens 500]] [[demo: pace 100]] go on for a moment"
LONG = "[[demo: tokens 4000]] [[demo: pace 100]] go on and on"


def has_text(seen: list[dict[str, Any]]) -> bool:
    return len(text_of(seen)) > 60


def ask_and_once(client: httpx.Client, act: Any, text: str, **fields: Any) -> list[dict[str, Any]]:
    """Ask, `act` as soon as there is some text, and read on to the end."""
    acted = False

    def look(seen: list[dict[str, Any]]) -> bool:
        nonlocal acted
        if not acted and has_text(seen):
            acted = True
            act()
        return False

    return ask_until(client, look, text, **fields)


def is_closed(web: Web) -> bool:
    """Whether it takes no more connections."""
    try:
        httpx.get(f"{web.url}/healthz", verify=PLAIN)
    except httpx.ConnectError:
        return True
    except httpx.TransportError:
        return False  # it was closed while this one waited in front of it
    return False


def saved(turn: str) -> Turn:
    return Turn.objects.select_related("assistant_message").get(pk=turn)


def test_web_processes_swap_under_a_running_answer(stack: Stack, alice: User, sign_in: SignIn) -> None:
    """Behind a proxy: the old process ends, the new one takes its readers over, and each reads the same answer."""
    old = stack.start_web({"TURN_DRAIN_SECONDS": "60"})
    key = ApiKey.issue(user=alice, name="reader")[1]
    with Proxy(old.url) as proxy, Proxy(old.url) as proxy_of_node, ThreadPoolExecutor() as threads:
        readers: list[Future[Any]] = []

        def swap(seen: list[dict[str, Any]]) -> bool:
            if not has_text(seen):
                return False
            client, turn = sign_in(alice, url=proxy.url), seen[0]["turn"]
            readers.append(threads.submit(follow_through_drops, client, turn))
            address = f"{proxy_of_node.url}{TURNS}/{turn}/events"
            readers.append(threads.submit(run_node, "tests/streaming/read_stream.mjs", address, key))
            stack.wait_until(lambda: proxy.accepted > 1 and proxy_of_node.accepted > 0, "everybody reads")
            proxy.target = proxy_of_node.target = stack.url
            old.program.ask_to_stop()
            proxy.drop()
            proxy_of_node.drop()
            return True

        seen = ask_until(sign_in(alice, url=proxy.url), swap, SHORT)
        rest = follow(sign_in(alice, url=proxy.url), seen[0]["turn"], after=seen[-1]["_id"])
        events, read = readers[0].result(), json.loads(readers[1].result())
    turn = saved(seen[0]["turn"])
    assert turn.state == "completed"
    assert turn.assistant_message is not None
    assert turn.assistant_message.text == text_of(seen) + text_of(rest) == text_of(events) == read["text"]
    assert rest[-1] == events[-1]
    assert (read["types"][0], read["types"][-1]) == ("start", "done")
    assert proxy_of_node.accepted > 1
    stack.wait_until(lambda: not old.program.running, "the old process has ended")


def test_meanwhile_it_begins_nothing_new(stack: Stack, alice: User, bob: User, sign_in: SignIn) -> None:
    web = stack.start_web({"TURN_DRAIN_SECONDS": "60"})
    connected = sign_in(bob, url=web.url)
    assert connected.get("/healthz").status_code == 200
    refusals: list[Any] = []

    def end_and_ask_for_more() -> None:
        web.program.ask_to_stop()
        stack.wait_until(lambda: is_closed(web), "it takes no more connections")
        refusals.append(refusal(connected, id=new_id(), text="hello"))
        sign_in(alice).post(f"{TURNS}/{turn}/stop")  # by another process: nothing else keeps it from ending

    turn = new_id()
    events = ask_and_once(sign_in(alice, url=web.url), end_and_ask_for_more, LONG, id=turn)
    assert (events[-1]["type"], events[-1]["status"]) == ("done", "stopped")
    [(status, problem)] = refusals
    assert (status, problem["code"]) == (503, "unavailable")
    assert not Turn.objects.filter(user=bob).exists()


def test_an_answer_that_takes_too_long_is_kept_and_costs_nothing(
    stack: Stack, alice: User, sign_in: SignIn
) -> None:
    web = stack.start_web({"TURN_DRAIN_SECONDS": "0.1"})
    before = ledger.wallet_of(alice).balance
    events = ask_and_once(sign_in(alice, url=web.url), web.program.ask_to_stop, LONG)
    ending = events[-1]
    assert (ending["type"], ending["code"], ending["retryable"], ending["charged"]) == (
        *("error", "interrupted", True),
        "0.000000",
    )
    wallet = ledger.wallet_of(alice)
    assert (wallet.balance, wallet.held) == (before, 0)
    turn = saved(events[0]["turn"])
    assert turn.state == Turn.State.INTERRUPTED
    assert turn.assistant_message is not None
    assert turn.assistant_message.text == text_of(events) != ""
    # Another process tells the same, to who comes back.
    assert sign_in(alice).get(f"{TURNS}/{turn.pk}").json()["state"] == "interrupted"


def test_a_second_signal_hurries_it(stack: Stack, alice: User, sign_in: SignIn) -> None:
    web = stack.start_web({"TURN_DRAIN_SECONDS": "600"})

    def end_twice() -> None:
        web.program.ask_to_stop()
        stack.wait_until(lambda: is_closed(web), "it is ending")
        web.program.ask_to_stop()

    events = ask_and_once(sign_in(alice, url=web.url), end_twice, LONG)
    assert events[-1]["code"] == "interrupted"
    stack.wait_until(lambda: not web.program.running, "the process has ended")


def test_a_process_without_answers_ends_at_once(stack: Stack, alice: User, sign_in: SignIn) -> None:
    web = stack.start_web({"TURN_DRAIN_SECONDS": "600"})
    events = ask_until(sign_in(alice, url=web.url), lambda _seen: False)
    assert events[-1]["type"] == "done"
    assert Message.objects.filter(conversation=events[0]["conversation"]).count() == 2
    web.program.ask_to_stop()
    stack.wait_until(lambda: not web.program.running, "the process has ended")


def test_a_process_ends_though_the_database_hangs(stack: Stack, alice: User, sign_in: SignIn) -> None:
    web = stack.start_web()
    client = sign_in(alice, url=web.url)
    with ThreadPoolExecutor() as threads, transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("LOCK TABLE accounts_user IN ACCESS EXCLUSIVE MODE")
        threads.submit(client.get, "/api/v1/me")
        stack.wait_until(somebody_waits_for_a_lock, "a request hangs")
        web.program.ask_to_stop()
        stack.wait_until(lambda: not web.program.running, "the process has ended")


def somebody_waits_for_a_lock() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM pg_locks WHERE NOT granted")
        return cursor.fetchone() is not None


async def test_it_waits_a_while_for_a_turn_that_is_being_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    hangs, opens = (asyncio.get_running_loop().create_future() for _ in range(2))
    monkeypatch.setattr(running, "_opening", {hangs, opens})
    monkeypatch.setattr(running, "_ending", asyncio.Event())
    ended = asyncio.create_task(running.drain(0, asyncio.Event()))
    await asyncio.sleep(0)
    opens.set_result(None)
    for _ in range(20):  # rounds of the loop, in which it would end if it did not wait
        await asyncio.sleep(0)
    assert not ended.done()
    monkeypatch.setattr(running, "OPENING_SECONDS", 0)
    hangs.set_result(None)
    await ended
    monkeypatch.setattr(running, "_opening", {asyncio.get_running_loop().create_future()})
    async with asyncio.timeout(30):
        await running.drain(0, asyncio.Event())
