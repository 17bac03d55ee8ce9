"""A turn over HTTP: streamed, joined, stopped, left, resumed, refused and charged as the contract says."""

import asyncio
import http.client
import json
import select
import socket
import time
from datetime import timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from django.conf import settings
from django.db.models import F

from accounts.models import ApiKey, User
from billing import ledger, pricing
from billing.models import Transfer
from chatapp.conversations.models import Message, Turn
from chatapp.db import in_db
from tests.billing.books import unguarded
from tests.conftest import SignIn, SignInAsync
from tests.stack import Stack
from tests.streaming.reading import (
    TURNS,
    ask,
    ask_async,
    ask_until,
    asking,
    follow,
    follow_until,
    new_id,
    refusal,
    text_of,
)

LARGEST = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
LONG = "[[demo: tokens 4000]] [[demo: pace 200]] tell me everything"
LONGER = "[[demo: tokens 4000]] [[demo: pace 100]] tell me everything"


def has_text(seen: list[dict[str, Any]]) -> bool:
    return len(text_of(seen)) > 20


def started(seen: list[dict[str, Any]]) -> bool:
    return bool(seen)


def left_on(user: User, credits: str) -> None:
    """Take credits away until so many are left."""
    amount = int(Decimal(credits) * 1_000_000) - ledger.wallet_of(user).available
    ledger.adjust(user=user, amount=amount, reason="for a test", made_by=user, key=new_id())


# --- Streaming


def test_an_answer_streams_and_its_price_leaves_the_balance(
    stack: Stack, alice: User, sign_in: SignIn
) -> None:
    client = sign_in(alice)
    stack.claude.script(
        {"deltas": ["Hel", "lo ", "👋\r\n"], "usage": {"input_tokens": 1000, "output_tokens": 500}}
    )

    start, *middle, done = ask(client, "hello")

    turn = Turn.objects.get(pk=start["turn"])
    assert start["model"] == "claude-sonnet-5-5"
    assert Decimal(start["held"]) * 1_000_000 == turn.held
    assert text_of(middle) == "Hello 👋\r\n" == Message.objects.get(pk=start["assistant_message"]).text
    # 1,000 × US$ 2 and 500 × US$ 10 per million are 0.7 cents
    assert done["charged"] == "0.700000"
    assert done["balance"] == {"available": "99.300000", "held": "0.000000"}
    assert done["balance"] == client.get("/api/v1/me").json()["balance"]
    assert (done["status"], done["stop_reason"], done["estimated"]) == ("completed", "end_turn", False)
    assert done["first_token_ms"] == turn.first_token_ms is not None
    assert done["usage"] == {
        "input_tokens": 1000,
        "output_tokens": 500,
        "cache_read_input_tokens": 0,
        "cache_creation_input_tokens": 0,
    }


def test_the_response_is_an_event_stream_that_no_proxy_holds_back(
    stack: Stack, alice: User, sign_in: SignIn
) -> None:
    with sign_in(alice).stream("POST", "/api/v1/turns", json={"text": "hi"}) as response:
        response.read()

    assert response.headers["content-type"] == "text/event-stream"
    assert response.headers["cache-control"] == "no-cache, no-transform"
    assert response.headers["x-accel-buffering"] == "no"
    assert "content-encoding" not in response.headers


def test_an_answer_that_comes_byte_by_byte_is_the_same_for_everybody(
    stack: Stack, alice: User, sign_in: SignIn
) -> None:
    client = sign_in(alice)
    said = ["cafe", "\u0301 ", "👩‍👩‍👧", "\u2028", "\x85\u2029", "\r", "\n日本", "\ufffd\ufeff "]
    stack.claude.script({"deltas": said, "drip": {"bytes": 1, "seconds": 0}})

    events = ask(client, "hello")

    assert text_of(events) == "".join(said) == text_of(follow(client, events[0]["turn"]))
    assert Message.objects.get(pk=events[0]["assistant_message"]).text == "".join(said)
    # Some clients split the stream into lines as Unicode has them.
    with client.stream("GET", f"{TURNS}/{events[0]['turn']}/events") as response:
        lines = list(response.iter_lines())
    assert {line.partition(": ")[0] for line in lines} == {"id", "event", "data", ""}
    read = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
    assert text_of(read) == "".join(said)


def test_thinking_is_an_event_of_its_own(stack: Stack, alice: User, sign_in: SignIn) -> None:
    stack.claude.script({"thinking": {"text": "Two and two."}, "say": {"text": "Four."}})

    events = ask(sign_in(alice), "2+2?", model="claude-opus-5-5")

    assert "".join(event["text"] for event in events if event["type"] == "thinking") == "Two and two."
    assert text_of(events) == "Four."
    answer = Message.objects.get(pk=events[0]["assistant_message"])
    assert (answer.thinking, answer.text) == ("Two and two.", "Four.")


def test_the_history_of_the_branch_is_sent_along(stack: Stack, alice: User, sign_in: SignIn) -> None:
    client = sign_in(alice)
    stack.claude.script({"say": {"text": "Nice to meet you."}})
    first = ask(client, "I am Alice.")
    ask(client, "Who am I?", conversation=first[0]["conversation"])

    sent = stack.claude.requests()[-1].body
    assert sent is not None
    assert [message["content"] for message in sent["messages"]] == [
        "I am Alice.",
        "Nice to meet you.",
        "Who am I?",
    ]
    assert sent["system"]
    assert alice.email not in str(sent)


def test_another_answer_stands_beside_the_first(stack: Stack, alice: User, sign_in: SignIn) -> None:
    client = sign_in(alice)
    first = ask(client, "Flip a coin.")[0]
    again = ask(client, "", conversation=first["conversation"], regenerate=first["user_message"])[0]

    page = client.get(f"/api/v1/conversations/{first['conversation']}/messages").json()
    assert [message["role"] for message in page["items"]] == ["user", "assistant"]
    assert page["items"][1]["id"] == again["assistant_message"]
    assert page["items"][1]["siblings"] == [first["assistant_message"], again["assistant_message"]]


def test_the_first_message_can_be_asked_differently(stack: Stack, alice: User, sign_in: SignIn) -> None:
    client = sign_in(alice)
    first = ask(client, "Flip a coin.")[0]
    other = ask(client, "Roll a die.", conversation=first["conversation"], parent=first["conversation"])[0]

    page = client.get(f"/api/v1/conversations/{first['conversation']}/messages").json()
    assert page["items"][0]["siblings"] == [first["user_message"], other["user_message"]]
    sent = stack.claude.requests()[-1].body
    assert sent is not None
    assert len(sent["messages"]) == 1


# --- Once, however often it is asked


async def test_fifty_copies_of_one_turn_charge_once(
    stack: Stack, alice: User, sign_in_async: SignInAsync
) -> None:
    turn, other = new_id(), await asyncio.to_thread(stack.start_web)
    async with await sign_in_async(alice) as here, await sign_in_async(alice, url=other.url) as there:
        copies = (ask_async(client, "once", id=turn) for _ in range(25) for client in (here, there))
        readers = await asyncio.gather(*copies)

    assert len({text_of(events) for events in readers}) == 1
    assert {events[-1]["type"] for events in readers} == {"done"}
    assert len({str(events[-1]) for events in readers}) == 1
    charges = await in_db(lambda: Transfer.objects.filter(hold=turn, kind="charge").count())
    assert charges == 1
    assert len(await asyncio.to_thread(stack.claude.requests)) == 1


async def test_the_last_credits_are_spent_once(stack: Stack, alice: User, sign_in_async: SignInAsync) -> None:
    await in_db(left_on, alice, "9")
    async with await sign_in_async(alice) as client:
        asked = [
            client.post("/api/v1/turns", json={"text": f"[[demo: pace 50]] number {n}"}) for n in range(50)
        ]
        responses = await asyncio.gather(*asked)

    statuses = [response.status_code for response in responses]
    assert 1 <= statuses.count(200) < 5
    assert statuses.count(200) + statuses.count(402) == 50
    wallet = await in_db(ledger.wallet_of, alice)
    assert 0 <= wallet.balance < 9_000_000
    assert wallet.held == 0


def test_the_same_id_with_other_content_is_a_conflict(stack: Stack, alice: User, sign_in: SignIn) -> None:
    client, turn = sign_in(alice), new_id()
    ask(client, "this", id=turn)

    status, problem = refusal(client, id=turn, text="that")

    assert (status, problem["code"]) == (409, "turn_conflict")


def test_a_finished_turn_is_replayed_and_not_asked_again(stack: Stack, alice: User, sign_in: SignIn) -> None:
    client, turn = sign_in(alice), new_id()
    first = ask(client, "once", id=turn)
    again = ask(client, "once", id=turn)

    assert text_of(again) == text_of(first)
    assert again[-1] == first[-1]
    assert len(stack.claude.requests()) == 1


def test_one_answer_at_a_time_in_a_conversation(stack: Stack, alice: User, sign_in: SignIn) -> None:
    client = sign_in(alice)
    with asking(client, has_text, LONG) as seen:
        status, problem = refusal(client, text="and?", conversation=seen[0]["conversation"])
        client.post(f"/api/v1/turns/{seen[0]['turn']}/stop")

    assert (status, problem["code"]) == (409, "turn_running")


# --- Stopped, left and resumed


def test_a_stopped_answer_is_kept_and_charged_for_what_was_sent(
    stack: Stack, alice: User, sign_in: SignIn
) -> None:
    client, turn = sign_in(alice), new_id()

    def enough(seen: list[dict[str, Any]]) -> bool:
        if has_text(seen) and not asked:
            asked.append(client.post(f"/api/v1/turns/{turn}/stop"))
        return False

    asked: list[httpx.Response] = []
    events = ask_until(client, enough, LONG, id=turn)

    done = events[-1]
    assert asked[0].status_code == 202
    assert (done["type"], done["status"], done["estimated"]) == ("done", "stopped", True)
    stack.claude.wait_for("client_closed")
    row = Turn.objects.select_related("price").get(pk=turn)
    assert row.state == "stopped"
    assert Message.objects.get(pk=row.assistant_message_id).text == text_of(events) != ""
    assert row.output_tokens < 4000
    assert row.charged == pricing.charge(row.usage, row.price) > 0
    assert ledger.wallet_of(alice).available == 100_000_000 - row.charged


def test_an_answer_is_stopped_before_the_provider_has_accepted_it(
    stack: Stack, alice: User, sign_in: SignIn
) -> None:
    client = sign_in(alice, url=stack.start_web({"TURN_CONNECT_SECONDS": "60"}).url)
    stack.claude.script("hang")

    def stop(seen: list[dict[str, Any]]) -> bool:
        if len(seen) == 1:
            stack.claude.wait_for("waiting")
            client.post(f"/api/v1/turns/{seen[0]['turn']}/stop")
            stack.claude.wait_for("client_closed")
        return False

    events = ask_until(client, stop)

    assert [event["type"] for event in events] == ["start", "done"]
    assert (events[-1]["status"], events[-1]["charged"]) == ("stopped", "0.000000")
    assert events[-1]["balance"] == {"available": "100.000000", "held": "0.000000"}
    assert Turn.objects.get(pk=events[0]["turn"]).state == "stopped"


def test_an_answer_is_stopped_from_another_process(stack: Stack, alice: User, sign_in: SignIn) -> None:
    client, other = sign_in(alice), sign_in(alice, url=stack.start_web().url)

    def stop(seen: list[dict[str, Any]]) -> bool:
        if has_text(seen) and not asked:
            asked.append(other.post(f"/api/v1/turns/{seen[0]['turn']}/stop"))
            # At once, and though there is a reader.
            stack.claude.wait_for("client_closed")
        return False

    asked: list[httpx.Response] = []
    events = ask_until(client, stop, LONG)

    assert asked[0].status_code == 202
    assert (events[-1]["type"], events[-1]["status"]) == ("done", "stopped")
    assert Turn.objects.get(pk=events[0]["turn"]).state == "stopped"
    assert follow(other, events[0]["turn"])[-1] == events[-1]


def test_an_answer_that_nobody_waits_for_is_abandoned(stack: Stack, alice: User, sign_in: SignIn) -> None:
    client = sign_in(alice)
    seen = ask_until(client, has_text, LONG)

    stack.claude.wait_for("client_closed")

    turn = seen[0]["turn"]
    stack.wait_until(lambda: Turn.objects.get(pk=turn).state != "running", "the turn is closed")
    row = Turn.objects.get(pk=turn)
    assert row.state == "abandoned"
    assert row.charged > 0
    events = follow(client, turn)
    assert text_of(events).startswith(text_of(seen))
    assert events[-1]["status"] == "stopped"


def test_a_reader_of_another_process_keeps_it_going_until_it_leaves_too(
    stack: Stack, alice: User, sign_in: SignIn
) -> None:
    """However short the patience is with those who left: somebody comes at once, and somebody in its last moments."""
    patience = {"TURN_RECONNECT_SECONDS": "2"}
    here, there = stack.start_web(patience), stack.start_web(patience)
    client, other = sign_in(alice, url=here.url), sign_in(alice, url=there.url)
    other.get("/api/v1/me")
    turn = ask_until(client, has_text, LONGER)[0]["turn"]

    def read_on(seconds: float) -> list[dict[str, Any]]:
        until = time.monotonic() + seconds
        return follow_until(other, turn, lambda _seen: time.monotonic() > until)

    assert read_on(4.4)[-1]["type"] == "text"
    time.sleep(1)
    seen = read_on(3)
    assert seen[-1]["type"] == "text"

    stack.claude.wait_for("client_closed")
    stack.wait_until(lambda: Turn.objects.get(pk=turn).state == "abandoned", "it is abandoned")
    assert text_of(follow(client, turn)).startswith(text_of(seen))


def test_coming_back_in_time_resumes_where_the_reader_was(stack: Stack, alice: User, sign_in: SignIn) -> None:
    client = sign_in(alice)
    seen = ask_until(client, has_text, "[[demo: tokens 300]] [[demo: pace 200]] go on")

    rest = follow(client, seen[0]["turn"], after=seen[-1]["_id"])

    assert rest[-1]["status"] == "completed"
    assert rest[0]["type"] == "text"
    whole = Message.objects.get(pk=seen[0]["assistant_message"]).text
    assert text_of(seen) + text_of(rest) == whole


def test_last_event_id_is_understood_as_browsers_send_it(stack: Stack, alice: User, sign_in: SignIn) -> None:
    client = sign_in(alice)
    stack.claude.script({"deltas": ["Bread 🍞", " and 𝔅utter"]})
    events = ask(client, "hello")
    path, end = f"{TURNS}/{events[0]['turn']}/events", events[-1]["_id"]
    # What stands behind the bread, whether it came as an event of its own or not: characters are counted, not bytes or
    # halves of surrogate pairs.
    seen = "0.7"

    def resumed(last: str, **query: str) -> httpx.Response:
        return client.get(path, params=query, headers={"Last-Event-ID": last})

    rest = resumed(seen)
    assert end == "0.18.end"
    assert rest.text.startswith('id: 0.18\nevent: text\ndata: {"type":"text","text":" and 𝔅utter"}\n\n')
    # A browser comes back to the address that it was made with: what it has seen since counts.
    assert resumed(seen, after="0.0").text == rest.text
    assert resumed("", after=seen).text == rest.text
    assert resumed("").text == resumed("", after="").text == client.get(path).text
    # Who has seen the end comes back no more after a 204; who asks for it by name has it again.
    assert (resumed(end).status_code, resumed(end).content) == (204, b"")
    assert follow(client, events[0]["turn"], after=end) == [events[-1]]


def test_when_to_come_back_is_told_as_long_as_it_makes_sense(
    stack: Stack, alice: User, sign_in: SignIn
) -> None:
    client = sign_in(alice)
    stack.claude.script("status 429 retry_after=600")
    turn = ask(client, "hello")[0]["turn"]

    def told() -> tuple[int | None, int | None]:
        return follow(client, turn)[-1]["retry_after"], client.get(f"{TURNS}/{turn}").json()["error"][
            "retry_after"
        ]

    assert all(seconds is not None and 590 < seconds <= 600 for seconds in told())

    def pass_five_minutes() -> None:
        with unguarded("conversations_turn"):
            Turn.objects.filter(pk=turn).update(retry_at=F("retry_at") - timedelta(minutes=5))

    pass_five_minutes()
    assert all(seconds is not None and 290 < seconds <= 300 for seconds in told())
    pass_five_minutes()
    assert told() == (None, None)


# --- Failures of the provider

# The demo sends half of a surrogate pair as the byte that it stands for: é in Latin-1.
NOT_UTF_8 = '{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"caf\udce9"}}'


@pytest.mark.parametrize(
    ("fault", "code", "retryable"),
    [
        ("status 429 retry_after=7", "rate_limited", True),
        ("status 529", "overloaded", True),
        ("status 500", "provider_unavailable", True),
        ("status 400", "provider_rejected", False),
        ("too_long", "context_too_long", False),
        ("hang", "provider_unavailable", True),
        ("cut after=9", "provider_cut", True),
        ("end after=9", "provider_cut", True),
        ("garbage after=9", "provider_cut", True),
        ("garbage after=9 data=[]", "provider_cut", True),
        ({"garbage": {"after": 9, "data": NOT_UTF_8}}, "provider_cut", True),
        ("drop", "provider_unavailable", True),
        ("stall after=9", "provider_cut", True),
        ("error after=9", "overloaded", True),
        ("refusal after=9", "refused", False),
    ],
)
def test_a_failed_answer_says_why_and_costs_nothing(
    stack: Stack, alice: User, sign_in: SignIn, fault: object, code: str, retryable: bool
) -> None:
    # Twice: on a connection that was kept warm, one that is closed without a word is asked again.
    stack.claude.script("tokens 40", fault, times=2)

    events = ask(sign_in(alice), "hello")

    failed = events[-1]
    assert (failed["type"], failed["code"], failed["retryable"]) == ("error", code, retryable)
    assert failed["charged"] == "0.000000"
    assert failed["balance"] == {"available": "100.000000", "held": "0.000000"}
    assert failed["retry_after"] == (7 if code == "rate_limited" else None)
    assert [event["type"] for event in events].count("error") == 1
    assert Message.objects.get(pk=events[0]["assistant_message"]).text == text_of(events)


def test_what_was_refused_is_left_out_of_the_history(stack: Stack, alice: User, sign_in: SignIn) -> None:
    client = sign_in(alice)
    stack.claude.script("refusal after=3")
    first = ask(client, "something bad")[0]
    ask(client, "something good", conversation=first["conversation"])

    sent = stack.claude.requests()[-1].body
    assert sent is not None
    assert [message["content"] for message in sent["messages"]] == ["something good"]


def test_usage_above_the_hold_is_the_houses(stack: Stack, alice: User, sign_in: SignIn) -> None:
    stack.claude.script({"say": {"text": "x"}, "usage": {"input_tokens": 10, "output_tokens": 1_000_000}})

    start, *_, done = ask(sign_in(alice), "hello")

    assert done["charged"] == start["held"]
    row = Turn.objects.get(pk=start["turn"])
    assert row.overrun > 0
    assert Transfer.objects.get(key=f"overrun:{row.pk}").amount == row.overrun


# --- Money before the call


def test_without_credits_no_provider_is_called(stack: Stack, alice: User, sign_in: SignIn) -> None:
    left_on(alice, "0.1")

    status, problem = refusal(sign_in(alice), text="hello")

    assert (status, problem["code"]) == (402, "insufficient_credits")
    assert problem["available"] == "0.100000"
    assert Decimal(problem["needed"]) > Decimal("0.1")
    assert stack.claude.requests() == []
    assert not Message.objects.filter(conversation__user=alice).exists()


def test_a_small_balance_shortens_the_answer(stack: Stack, alice: User, sign_in: SignIn) -> None:
    left_on(alice, "1")

    events = ask(sign_in(alice), "[[demo: tokens 3000]] [[demo: pace 0]] hello")

    done = events[-1]
    assert done["limited_by_balance"] is True
    assert done["stop_reason"] == "max_tokens"
    sent = stack.claude.requests()[-1].body
    assert sent is not None
    assert 256 <= sent["max_tokens"] < 1000 == done["usage"]["output_tokens"] + 1000 - sent["max_tokens"]
    assert Decimal(done["balance"]["available"]) >= 0


# --- What is refused


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"text": ""}, "text"),
        ({"text": " \n "}, "text"),
        ({}, "text"),
        ({"text": 5}, "text"),
        ({"text": "a\x00b"}, "text"),
        ({"text": "hi", "id": "not-a-uuid"}, "id"),
        ({"text": "hi", "model": "gpt-1"}, "model"),
        ({"text": "hi", "parent": new_id()}, "conversation"),
        ({"text": "hi", "regenerate": new_id()}, "conversation"),
    ],
)
def test_bad_input_is_answered_with_the_field_at_fault(
    stack: Stack, alice: User, sign_in: SignIn, body: dict[str, Any], field: str
) -> None:
    status, problem = refusal(sign_in(alice), **body)

    assert (status, problem["code"]) == (400, "invalid")
    assert list(problem["fields"]) == [field]
    assert problem["detail"].endswith(".")


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff\xfe", b'"text"', b'{"text": "\\ud800"}'])
def test_garbage_is_refused(stack: Stack, alice: User, sign_in: SignIn, body: bytes) -> None:
    response = sign_in(alice).post(
        "/api/v1/turns", content=body, headers={"Content-Type": "application/json"}
    )

    assert response.status_code == 400
    assert response.json()["code"] == "invalid"


@pytest.mark.parametrize("size", [400_001, LARGEST + 1])
def test_too_much_text_is_refused(stack: Stack, alice: User, sign_in: SignIn, size: int) -> None:
    status, problem = refusal(sign_in(alice), text="x" * size)

    assert (status, problem["code"]) == (413, "too_large")


def test_the_longest_text_has_room_in_any_script(stack: Stack, alice: User, sign_in: SignIn) -> None:
    status, problem = refusal(sign_in(alice), text="🦆" * 400_000)

    assert (status, problem["code"]) == (402, "insufficient_credits")


def test_a_request_that_is_too_large_is_refused_whoever_would_have_read_it(
    stack: Stack, alice: User, sign_in: SignIn
) -> None:
    client, large = sign_in(alice), b" " * (LARGEST + 1)
    for answered in (
        client.post("/api/v1/turns", content=iter([large, b"{}"])),  # in chunks, its length untold
        client.post(f"/api/v1/turns/{new_id()}/stop", content=large),
        client.request("GET", "/api/v1/me", content=large),
        client.patch(f"/api/v1/conversations/{new_id()}", content=large),
    ):
        assert (answered.status_code, answered.json()["code"]) == (413, "too_large")


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ("Content-Length: 99999999999", b"", 413),  # refused before any of it is sent
        ("Content-Length: 99999999999\r\nExpect: 100-continue", b"", 413),
        ("Transfer-Encoding: chunked", b"40000\r\n" + b" " * 0x40000 + b"\r\n", 413),  # sent for ever
        (f"Content-Length: {LARGEST}", b" " * LARGEST, 401),
    ],
    ids=["declared", "asked", "chunked", "largest"],
)
def test_the_server_itself_takes_no_body_that_is_too_large(
    stack: Stack, headers: str, body: bytes, status: int
) -> None:
    place = urlsplit(stack.url)
    request = f"POST /api/v1/turns HTTP/1.1\r\nHost: {place.netloc}\r\n{headers}\r\n\r\n"
    with socket.create_connection((place.hostname, place.port), timeout=20) as client:
        client.sendall(request.encode() + body)
        while "chunked" in headers and not select.select([client], [], [], 0)[0]:
            client.sendall(body)
        answer = http.client.HTTPResponse(client)
        answer.begin()
        problem = json.loads(answer.read())
    assert (answer.status, problem["status"]) == (status, status)
    assert answer.headers["Content-Type"] == "application/problem+json"


def test_an_id_of_an_event_that_is_none_is_refused(stack: Stack, alice: User, sign_in: SignIn) -> None:
    client = sign_in(alice)
    turn = ask(client)[0]["turn"]

    for field, response in (
        ("after", client.get(f"{TURNS}/{turn}/events", params={"after": "yesterday"})),
        ("Last-Event-ID", client.get(f"{TURNS}/{turn}/events", headers={"Last-Event-ID": "9" * 5000})),
        # Beyond all that was said: going on there would leave something out.
        ("after", client.get(f"{TURNS}/{turn}/events", params={"after": "99.99999"})),
        ("Last-Event-ID", client.get(f"{TURNS}/{turn}/events", headers={"Last-Event-ID": "0.99999.end"})),
    ):
        problem = response.json()
        assert (response.status_code, problem["code"], list(problem["fields"])) == (400, "invalid", [field])


def test_too_many_at_once_and_too_many_a_minute_wait(
    stack: Stack, alice: User, bob: User, sign_in: SignIn
) -> None:
    web = stack.start_web(env={"TURNS_AT_ONCE": "1", "TURNS_PER_MINUTE": "2"})
    client, other = sign_in(alice, url=web.url), sign_in(bob, url=web.url)

    with asking(client, started, LONG) as seen:
        status, problem = refusal(client, text="another")
        client.post(f"/api/v1/turns/{seen[0]['turn']}/stop")
        running = Turn.objects.filter(pk=seen[0]["turn"], state="running")
        stack.wait_until(lambda: not running.exists(), "the turn is stopped")
    assert (status, problem["code"]) == (429, "rate_limited")

    ask(client, "second")
    response = client.post("/api/v1/turns", json={"text": "third"})
    assert response.status_code == 429
    assert 1 <= int(response.headers["Retry-After"]) <= 60
    assert ask(other, "bob may")[-1]["type"] == "done"


# --- Who may


def test_the_outsider_finds_nothing(stack: Stack, alice: User, charlie: User, sign_in: SignIn) -> None:
    mine, outsider = sign_in(alice), sign_in(charlie)
    with asking(mine, has_text, LONG) as seen:
        turn, conversation = seen[0]["turn"], seen[0]["conversation"]
        assert_nothing_is_there_for(outsider, turn, conversation)
        assert Turn.objects.get(pk=turn).state == "running"
        mine.post(f"/api/v1/turns/{turn}/stop")


def assert_nothing_is_there_for(outsider: httpx.Client, turn: str, conversation: str) -> None:
    for answered in (
        outsider.get(f"/api/v1/turns/{turn}"),
        outsider.get(f"/api/v1/turns/{turn}/events"),
        outsider.post(f"/api/v1/turns/{turn}/stop"),
        outsider.post("/api/v1/turns", json={"id": turn, "text": LONG}),
        outsider.post("/api/v1/turns", json={"text": "hi", "conversation": conversation}),
        outsider.get(f"/api/v1/conversations/{conversation}"),
        outsider.get(f"/api/v1/conversations/{conversation}/messages"),
        outsider.patch(f"/api/v1/conversations/{conversation}", json={"title": "mine now"}),
        outsider.delete(f"/api/v1/conversations/{conversation}"),
    ):
        assert (answered.status_code, answered.json()["code"]) == (404, "not_found"), answered.request.url
    assert outsider.get(f"/chat/{conversation}/").status_code == 404


def test_nobody_is_nobody(stack: Stack) -> None:
    with httpx.Client(base_url=stack.url) as client:
        for method, path in [
            ("POST", "/api/v1/turns"),
            ("GET", f"/api/v1/turns/{new_id()}"),
            ("GET", f"/api/v1/turns/{new_id()}/events"),
            ("POST", f"/api/v1/turns/{new_id()}/stop"),
            ("GET", "/api/v1/me"),
            ("GET", "/api/v1/models"),
            ("GET", "/api/v1/conversations"),
            ("GET", "/api/v1/transactions"),
            ("GET", "/api/v1/usage"),
        ]:
            response = client.request(method, path)
            assert (response.status_code, response.json()["code"]) == (401, "not_signed_in"), path
            assert response.headers["content-type"] == "application/problem+json"


def test_a_browser_needs_its_csrf_token(stack: Stack, alice: User, sign_in: SignIn) -> None:
    client = sign_in(alice)
    del client.headers["X-CSRFToken"]

    response = client.post("/api/v1/turns", json={"text": "forged"})

    assert (response.status_code, response.json()["code"]) == (403, "forbidden")


def test_a_program_uses_a_key_until_it_is_revoked(stack: Stack, alice: User) -> None:
    key, token = ApiKey.issue(user=alice, name="script")
    headers = {"Authorization": f"Bearer {token}"}
    with httpx.Client(base_url=stack.url, headers=headers) as client:
        assert ask(client)[-1]["type"] == "done"
        assert client.get("/api/v1/me").json()["email"] == alice.email

        ApiKey.objects.filter(pk=key.pk).update(revoked_at="2026-01-01T00:00:00Z")
        assert client.get("/api/v1/me").status_code == 401
    for wrong in ("Bearer", "Bearer x", f"Basic {token}", f"Bearer {token[:-1]}", f"Bearer {key.prefix}."):
        assert httpx.get(f"{stack.url}/api/v1/me", headers={"Authorization": wrong}).status_code == 401


def test_the_schema_is_public_and_names_every_call(stack: Stack) -> None:
    paths = httpx.get(f"{stack.url}/api/v1/openapi.json").json()["paths"]

    assert {"/api/v1/turns", "/api/v1/turns/{turn_id}/events", "/api/v1/conversations", "/api/v1/me"} <= set(
        paths
    )
