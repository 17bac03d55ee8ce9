"""Processes die, servers vanish, and nothing is lost or charged wrongly."""

import asyncio
import secrets
import select
import socket
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from threading import Event
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import httpx
import pytest
import redis
from asgiref.sync import async_to_sync
from django.conf import settings
from django.core.management import call_command
from django.db import OperationalError, connection, connections, transaction
from django.db.models import F
from django.db.models.functions import Now

from accounts.models import ApiKey, User
from billing import ledger
from billing.credits import as_string
from billing.models import Hold, Transfer
from billing.pricing import Usage
from chatapp.conversations.models import Message, Turn
from chatapp.db import NoAnswer, in_db
from chatapp.streaming import journal, limits, running, turns
from chatapp.streaming.events import Balance, Done, Ending, Failed
from chatapp.streaming.live import LiveTurn
from chatapp.streaming.models import UsageRecord
from chatapp.streaming.tasks import DEAD_AFTER, LATE_AFTER, record_missing_usage, sweep
from tests.billing.books import unguarded
from tests.billing.ledger_driver import Lost, cut
from tests.conftest import SignIn
from tests.stack import Stack
from tests.streaming.reading import TURNS, ask, ask_async, ask_until, asking, follow, follow_until, text_of

SLOW = "[[demo: tokens 4000]] [[demo: pace 100]] go on and on"


def has_text(seen: list[dict[str, Any]]) -> bool:
    return len(text_of(seen)) > 60


def assert_books_balance() -> None:
    """Raises CommandError, with every broken row in the output, if they do not."""
    call_command("ledger_audit")


def grow_old(turn: str | UUID, by: timedelta) -> None:
    """Let its last heartbeat lie so much further back."""
    Turn.objects.filter(pk=turn).update(heartbeat_at=F("heartbeat_at") - by)


def test_a_killed_web_process_charges_nothing_and_keeps_the_text(
    stack: Stack, alice: User, sign_in: SignIn
) -> None:
    doomed = stack.start_web()
    client = sign_in(alice)
    seen: list[dict[str, Any]] = []

    def kill(so_far: list[dict[str, Any]]) -> bool:
        seen[:] = so_far
        if has_text(so_far):
            doomed.kill()
        return False

    with pytest.raises(httpx.RemoteProtocolError):
        ask_until(sign_in(alice, url=doomed.url), kill, SLOW)
    turn = seen[0]["turn"]
    assert Hold.objects.get(pk=turn).state == "pending"

    grow_old(turn, LATE_AFTER)
    sweep_until_ended(stack, turn)
    events = follow(client, turn)
    rest = follow(client, turn, after=seen[-1]["_id"])

    assert (events[-1]["type"], events[-1]["code"]) == ("error", "interrupted")
    assert events[-1]["balance"] == {"available": "100.000000", "held": "0.000000"}
    assert Hold.objects.get(pk=turn).state == "released"
    kept = Message.objects.get(pk=seen[0]["assistant_message"]).text
    # Whatever somebody saw is kept, though its process had no time to say goodbye.
    assert kept == text_of(events) == text_of(seen) + text_of(rest) != ""
    assert rest[-1] == events[-1]
    assert_books_balance()


def test_a_turn_whose_process_lives_is_not_swept(
    stack: Stack, alice: User, sign_in: SignIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = sign_in(alice)
    with asking(client, has_text, SLOW) as seen:
        turn = seen[0]["turn"]
        first = Turn.objects.get(pk=turn).heartbeat_at
        stack.wait_until(lambda: Turn.objects.get(pk=turn).heartbeat_at > first, "a heartbeat")
        # One that is late proves nothing while its process is seen in Valkey, or could not be.
        for valkey in (settings.REDIS_URL, "redis://127.0.0.1:1/0"):
            monkeypatch.setattr(settings, "REDIS_URL", valkey)
            grow_old(turn, LATE_AFTER)
            sweep()
            assert Turn.objects.get(pk=turn).state == "running"
        client.post(f"/api/v1/turns/{turn}/stop")


def test_who_has_no_heartbeat_for_long_is_dead_whatever_else_is_seen(stack: Stack, alice: User) -> None:
    turn = turns.open(alice, turns.Ask(id=uuid4(), text="hello")).turn
    Turn.objects.filter(pk=turn.pk).update(writer=None)
    grow_old(turn.pk, LATE_AFTER)
    sweep()
    assert Turn.objects.get(pk=turn.pk).state == "running"
    grow_old(turn.pk, DEAD_AFTER)
    with redis.Redis.from_url(settings.REDIS_URL) as client, client.pubsub() as follower:
        follower.subscribe(journal.channel(turn.pk))
        assert follower.get_message(timeout=20)["type"] == "subscribe"
        sweep_until_ended(stack, turn.pk)
        told = follower.get_message(timeout=20)
    assert told is not None
    assert told["data"] == journal.ENDED.encode()
    assert Turn.objects.get(pk=turn.pk).state == "interrupted"


def sweep_until_ended(stack: Stack, turn: Any) -> None:
    """As the beat does. A heartbeat from before PostgreSQL was started, for another test, is late only later."""

    def ended() -> bool:
        sweep()
        return Turn.objects.get(pk=turn).state != "running"

    stack.wait_until(ended, "the turn is swept")


def test_an_answer_whose_commit_was_done_and_not_told_is_charged_once(
    committed_db: None, alice: User, bob: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection is lost between PostgreSQL's COMMIT and its answer: who closes again is told the same ending."""
    # One closes undisturbed. The other's exchanges are the lock, what ends with COMMIT, and its answer; then again.
    cuts: Iterator[int | None] = iter([None, 2, None])

    def close_and_be_cut(*answered: Any) -> Ending:
        with cut(next(cuts)) as cutting:
            try:
                return close(*answered)
            finally:
                lost.append(cutting.lost)

    close, lost = turns.close, list[Lost | None]()
    monkeypatch.setattr(turns, "close", close_and_be_cut)
    calm, disturbed = (async_to_sync(answered)(person) for person in (alice, bob))

    assert lost == [None, Lost(done=True), None]
    assert disturbed == calm
    for person in (alice, bob):
        charges = Transfer.objects.filter(debit__user=person).values_list("kind", "amount")
        assert [(kind, as_string(amount)) for kind, amount in charges] == [("charge", calm.charged)]


async def answered(person: User) -> Ending:
    """What its readers are told at the end of an answer of a few words."""
    turn = (await in_db(turns.open, person, turns.Ask(id=uuid4(), text="hello"))).turn
    usage = Usage(input_tokens=8, output_tokens=100)
    outcome = turns.Outcome(turn.model_id, usage=usage, finished=True, counted=True)
    return await running._close(turn, LiveTurn(turns.started(turn)), outcome)


async def test_an_answer_that_our_own_mistake_keeps_from_closing_ends_at_once_and_costs_nothing(
    committed_db: None, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def generate(here: LiveTurn, *_: object) -> turns.Outcome:
        here.say("Hel")
        return turns.Outcome(finished=True)

    def close(*_: object) -> Ending:
        raise LookupError("our mistake")

    async def finish(_here: LiveTurn) -> None:
        """It was never kept up."""

    monkeypatch.setattr(turns, "generate", generate)
    monkeypatch.setattr(turns, "close", close)
    monkeypatch.setattr(running.upkeep, "finish", finish)
    opened = await in_db(turns.open, alice, turns.Ask(id=uuid4(), text="hello"))
    assert opened.request is not None
    here = LiveTurn(turns.started(opened.turn))
    await running._run(here, turn=opened.turn, request=opened.request)

    assert isinstance(here.ending, Failed)
    assert (here.ending.code, here.ending.charged) == ("interrupted", as_string(0))
    assert here.ending.balance == Balance(available=as_string(100_000_000), held=as_string(0))

    def as_stored() -> tuple[str, str]:
        turn = Turn.objects.select_related("assistant_message").get(pk=opened.turn.pk)
        return turn.state, turn.assistant_message.text

    assert await in_db(as_stored) == ("interrupted", "Hel")
    assert await in_db(lambda: Hold.objects.get(pk=here.id).state) == "released"


async def test_a_mistake_behind_the_close_of_an_answer_does_not_hide_what_it_cost(
    committed_db: None, alice: User
) -> None:
    turn = (await in_db(turns.open, alice, turns.Ask(id=uuid4(), text="hello"))).turn
    here = LiveTurn(turns.started(turn))
    usage = Usage(input_tokens=8, output_tokens=100)
    outcome = turns.Outcome(turn.model_id, usage=usage, finished=True, counted=True)
    ending = await running._close(turn, here, outcome)

    assert await running._give_up(here) == ending
    assert isinstance(ending, Done)


async def test_a_turn_whose_commit_was_done_and_not_told_keeps_no_hold(
    committed_db: None, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    def open_and_be_cut(*asked: Any) -> None:
        open_turn(*asked)
        raise OperationalError("the connection is lost")

    open_turn, question = turns.open, turns.Ask(id=uuid4(), text="hello")
    monkeypatch.setattr(turns, "open", open_and_be_cut)
    with pytest.raises(OperationalError):
        await running.open_and_start(alice, question, limits.ITSELF)
    async with asyncio.timeout(20):
        await asyncio.gather(*running._rescuing)

    assert await in_db(lambda: Turn.objects.get(pk=question.id).state) == "interrupted"
    assert await in_db(lambda: Hold.objects.get(pk=question.id).state) == "released"


async def test_a_turn_that_is_opened_when_nobody_waits_any_more_keeps_no_hold(
    committed_db: None, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    def open_late(*asked: Any) -> turns.Opened:
        may_open.wait(20)
        return open_turn(*asked)

    open_turn, may_open, question = turns.open, Event(), turns.Ask(id=uuid4(), text="hello")
    monkeypatch.setattr(turns, "open", open_late)
    monkeypatch.setattr(running, "PATIENCE_SECONDS", 0.1)
    with pytest.raises(NoAnswer):
        await running.open_and_start(alice, question, limits.ITSELF)
    may_open.set()
    async with asyncio.timeout(20):
        await asyncio.gather(*running._rescuing)

    assert await in_db(lambda: Turn.objects.get(pk=question.id).state) == "interrupted"
    assert await in_db(lambda: Hold.objects.get(pk=question.id).state) == "released"


def test_who_tells_that_it_lives_in_the_last_moment_is_not_swept(alice: User) -> None:
    turn = turns.open(alice, turns.Ask(id=uuid4(), text="hello")).turn
    before = Turn.objects.get(pk=turn.pk).heartbeat_at
    Turn.objects.filter(pk=turn.pk).update(heartbeat_at=Now())
    assert turns.interrupt(turn.pk, thinking="", text="", heartbeat=before) is None
    assert turns.interrupt(turn.pk, thinking="", text="", heartbeat=Turn.objects.get(pk=turn.pk).heartbeat_at)


def test_a_valkey_that_has_just_come_back_knows_nobody_and_says_of_nobody_that_they_are_dead(
    stack: Stack, alice: User, sign_in: SignIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = sign_in(alice)
    known, asked = journal.alive, []

    def alive(writers: set[UUID]) -> set[UUID]:
        asked.append(writers)
        return known(writers) if len(asked) > 1 else set()

    monkeypatch.setattr(journal, "alive", alive)
    with asking(client, has_text, SLOW) as seen:
        turn = seen[0]["turn"]
        grow_old(turn, LATE_AFTER)
        sweep()
        assert Turn.objects.get(pk=turn).state == "running"
        client.post(f"/api/v1/turns/{turn}/stop")
    assert asked[0] == asked[1] != set()


def test_a_client_that_leaves_at_once_leaves_no_hold_behind(stack: Stack, alice: User) -> None:
    token = ApiKey.issue(user=alice, name="hasty")[1]
    host = urlsplit(stack.url).netloc
    body = '{"text": "[[demo: tokens 4000]] [[demo: pace 50]] hello"}'
    request = (
        f"POST /api/v1/turns HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    )
    for milliseconds in range(0, 60, 4):
        with socket.create_connection((urlsplit(stack.url).hostname, urlsplit(stack.url).port)) as client:
            client.sendall(request.encode())
            select.select([client], [], [], milliseconds / 1000)  # until it is answered, or so long

    turns = Turn.objects.of(alice)

    def all_is_over() -> bool:
        # The last of them may be opened only now: a hold that stays is what must not be.
        return not turns.running().exists() and ledger.wallet_of(alice).held == 0

    stack.wait_until(all_is_over, "every turn that was opened has ended, and holds nothing", 25)
    assert not turns.filter(state="interrupted").exists()


def test_without_valkey_turns_work_and_usage_is_recorded_later(
    stack: Stack, alice: User, sign_in: SignIn
) -> None:
    client = sign_in(alice)
    stack.valkey.kill()

    events = ask(client, "hello")

    assert events[-1]["status"] == "completed"
    turn = events[0]["turn"]
    assert not UsageRecord.objects.filter(pk=turn).exists()
    an_hour = timedelta(hours=1)
    with unguarded("conversations_turn"):
        Turn.objects.filter(pk=turn).update(
            created_at=F("created_at") - an_hour, ended_at=F("ended_at") - an_hour
        )
    stack.restart(stack.valkey)
    record_missing_usage.delay()
    stack.wait_until(lambda: UsageRecord.objects.filter(pk=turn).exists(), "the usage is recorded", 60)


def test_a_worker_goes_on_when_valkey_dies_in_the_middle_of_its_job(
    stack: Stack, alice: User, sign_in: SignIn
) -> None:
    client, pid, log = sign_in(alice), stack.worker.pid, stack.log_of("worker")
    beginning = len(log.read_text())
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("LOCK TABLE streaming_usagerecord IN EXCLUSIVE MODE")
        ask(client, "hello")
        stack.wait_until(somebody_waits_for_a_table, "the worker is in the middle of a job")
        stack.valkey.kill()
        stack.wait_until(lambda: "broker lost" in log.read_text()[beginning:], "the worker has noticed")
    stack.restart(stack.valkey)
    stack.wait_until(stack.is_ready, "the worker is there again")

    turn = ask(client, "hello again")[0]["turn"]
    stack.wait_until(lambda: UsageRecord.objects.filter(pk=turn).exists(), "it does another job")
    assert stack.worker.pid == pid
    assert stack.worker.running


def somebody_waits_for_a_table() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'relation' AND NOT granted)")
        return cursor.fetchone() == (True,)


def test_valkey_dying_in_mid_answer_harms_nobody(stack: Stack, alice: User, sign_in: SignIn) -> None:
    client, other = sign_in(alice), sign_in(alice, url=stack.start_web().url)
    elsewhere: list[Future[list[dict[str, Any]]]] = []
    there: list[dict[str, Any]] = []

    def note(seen: list[dict[str, Any]]) -> bool:
        there[:] = seen
        return False

    def kill(seen: list[dict[str, Any]]) -> bool:
        if has_text(seen) and not elsewhere:
            turn = seen[0]["turn"]
            elsewhere.append(threads.submit(follow_until, other, turn, note))
            stack.wait_until(lambda: journal_is_followed(turn), "another process follows")
            stack.valkey.kill()
            stack.restart(stack.valkey)  # empty
            said = len(stack.claude.requests()[-1].text_sent)
            stack.wait_until(lambda: len(text_of(there)) > said, "it hears of the rest as it is said")
            client.post(f"{TURNS}/{turn}/stop")
        return False

    with ThreadPoolExecutor() as threads:
        events = ask_until(client, kill, SLOW)

    assert events[-1]["status"] == "stopped"  # and was not over before the other process heard of the rest
    assert Message.objects.get(pk=events[0]["assistant_message"]).text == text_of(events)
    assert text_of(elsewhere[0].result()) == text_of(events)
    assert_books_balance()


def journal_is_followed(turn: str) -> bool:
    with redis.Redis.from_url(settings.REDIS_URL) as client:
        return bool(client.pubsub_numsub(journal.channel(UUID(turn)))[0][1])


def test_an_answer_is_stopped_from_another_process_without_valkey(
    stack: Stack, alice: User, sign_in: SignIn
) -> None:
    client, other = sign_in(alice), sign_in(alice, url=stack.start_web().url)

    def stop(seen: list[dict[str, Any]]) -> bool:
        if has_text(seen) and stack.valkey.running:
            stack.valkey.kill()
            assert other.post(f"/api/v1/turns/{seen[0]['turn']}/stop").status_code == 202
        return False

    events = ask_until(client, stop, SLOW)

    assert (events[-1]["type"], events[-1]["status"]) == ("done", "stopped")
    stack.claude.wait_for("client_closed")


@contextmanager
def full_disk(table: str, event: str) -> Iterator[None]:
    """What PostgreSQL says when it has no room left, for each `event` on `table`."""
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            "RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = 'disk_full'; END $$"
        )
        cursor.execute(f"CREATE TRIGGER no_room BEFORE {event} ON {table} EXECUTE FUNCTION no_room()")
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP FUNCTION no_room CASCADE")


def assert_nothing_opened(stack: Stack, response: httpx.Response, user: User) -> None:
    assert (response.status_code, response.json()["code"]) == (503, "unavailable")
    assert response.headers["Retry-After"]
    assert stack.claude.requests() == []
    assert not Turn.objects.of(user).exists()
    assert ledger.wallet_of(user).available == 100_000_000


def test_a_full_disk_is_answered_with_503_and_nothing_is_charged(
    stack: Stack, alice: User, sign_in: SignIn
) -> None:
    with full_disk(Turn._meta.db_table, "INSERT"):
        response = sign_in(alice).post("/api/v1/turns", json={"text": "hello"})

    assert_nothing_opened(stack, response, alice)


def test_a_read_only_database_is_answered_with_503_and_nothing_is_charged(
    stack: Stack, alice: User, sign_in: SignIn
) -> None:
    url = f"{stack.env['DATABASE_URL']}?options=-c%20default_transaction_read_only%3Don"
    web = stack.start_web({"DATABASE_URL": url})

    response = sign_in(alice, url=web.url).post("/api/v1/turns", json={"text": "hello"})

    assert_nothing_opened(stack, response, alice)


def test_an_answer_that_ends_while_the_disk_is_full_waits_for_room(
    stack: Stack, alice: User, sign_in: SignIn
) -> None:
    client = sign_in(alice)
    with ThreadPoolExecutor() as threads:
        with full_disk(Message._meta.db_table, "UPDATE"):
            asking = threads.submit(ask, client, "hello")
            stack.claude.wait_for("completed")
        events = asking.result()

    assert events[-1]["status"] == "completed"
    assert Message.objects.get(pk=events[0]["assistant_message"]).text == text_of(events)
    assert_books_balance()


def test_postgresql_dying_in_mid_answer_loses_nothing(stack: Stack, alice: User, sign_in: SignIn) -> None:
    client, other = sign_in(alice), sign_in(alice, url=stack.start_web().url)
    elsewhere: list[Future[list[dict[str, Any]]]] = []

    def kill(seen: list[dict[str, Any]]) -> bool:
        if has_text(seen) and not elsewhere:
            elsewhere.append(threads.submit(follow, other, seen[0]["turn"]))
            stack.wait_until(lambda: journal_is_followed(seen[0]["turn"]), "another process follows")
            stack.postgres.kill()
            stack.restart(stack.postgres)
            connections.close_all()
        return False

    with ThreadPoolExecutor() as threads:
        events = ask_until(client, kill, "[[demo: tokens 300]] [[demo: pace 150]] go on")

    assert events[-1]["status"] == "completed"
    assert Message.objects.get(pk=events[0]["assistant_message"]).text == text_of(events)
    there = elsewhere[0].result()
    assert (text_of(there), there[-1]) == (text_of(events), events[-1])
    assert_books_balance()


def test_a_database_that_is_away_is_answered_with_503(stack: Stack, alice: User, sign_in: SignIn) -> None:
    """And nobody waits for those before them to find it out once more."""
    client = sign_in(alice)

    def post(_number: int) -> httpx.Response:
        return client.post("/api/v1/turns", json={"text": "hello"}, timeout=10)

    stack.postgres.kill()
    try:
        with ThreadPoolExecutor(60) as threads:
            responses = list(threads.map(post, range(60)))
        ready = client.get("/readyz")
        alive = client.get("/healthz")
    finally:
        stack.restart(stack.postgres)
        connections.close_all()
    stack.wait_until(lambda: client.get("/readyz").is_success, "the web process has found it again")

    assert {(answer.status_code, answer.json()["code"]) for answer in responses} == {(503, "unavailable")}
    assert all(answer.headers["Retry-After"] for answer in responses)
    assert (ready.status_code, ready.json()["database"]) == (503, False)
    assert alive.status_code == 200
    assert stack.claude.requests() == []


def test_a_database_that_hangs_is_answered_with_503(stack: Stack, alice: User, sign_in: SignIn) -> None:
    client, question = sign_in(alice), {"id": str(uuid4()), "text": "hello"}
    with ThreadPoolExecutor() as threads, stack.paused(stack.postgres):
        asking = threads.submit(client.post, "/api/v1/turns", json=question, timeout=20)
        ready = client.get("/readyz", timeout=20)
        response = asking.result()

    assert (response.status_code, response.json()["code"]) == (503, "unavailable")
    assert response.headers["Retry-After"]
    assert (ready.status_code, ready.json()["database"]) == (503, False)
    stack.wait_until(lambda: client.get("/readyz").is_success, "the web process is heard again")
    assert ledger.wallet_of(alice).held == 0
    assert ask(client, **question)[-1]["status"] == "completed"
    assert_books_balance()


def test_a_killed_worker_does_its_work_after_all(stack: Stack, alice: User, sign_in: SignIn) -> None:
    stack.worker.kill()
    turn = ask(sign_in(alice))[0]["turn"]
    stack.worker.start()

    stack.wait_until(lambda: UsageRecord.objects.filter(pk=turn).exists(), "the usage is recorded", 60)


async def test_sixty_streams_share_ten_connections(stack: Stack, committed_db: None) -> None:
    """As many people read at once; each answer is whole, and the pool never grows beyond its size."""

    def people() -> list[str]:
        tag = secrets.token_hex(4)
        users = User.objects.bulk_create([User(email=f"reader-{tag}-{n}@example.org") for n in range(60)])
        return [ApiKey.issue(user=user, name="reader")[1] for user in users]

    tokens = await in_db(people)

    async def read(token: str) -> list[dict[str, Any]]:
        headers = {"Authorization": f"Bearer {token}"}
        async with httpx.AsyncClient(base_url=stack.url, timeout=120, headers=headers) as client:
            return await ask_async(client, "[[demo: tokens 40]] [[demo: pace 20]] hello")

    answers = await asyncio.gather(*map(read, tokens))

    assert {events[-1].get("status") for events in answers} == {"completed"}
    assert {len(text_of(events)) for events in answers} == {len(text_of(answers[0]))}


def test_a_wallet_is_whole_after_all_of_it(stack: Stack, alice: User, sign_in: SignIn) -> None:
    events = ask(sign_in(alice))
    turn = Turn.objects.get(pk=events[0]["turn"])

    wallet = ledger.wallet_of(alice)
    assert wallet.balance == 100_000_000 - turn.charged
    assert wallet.held == 0
    assert_books_balance()


def test_an_ended_answer_that_the_database_cannot_give_is_a_503(
    stack: Stack, alice: User, sign_in: SignIn
) -> None:
    client = sign_in(alice)
    turn = ask(client, "hello")[0]["turn"]
    with ThreadPoolExecutor() as threads:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("LOCK TABLE billing_account IN ACCESS EXCLUSIVE MODE")
            asked = threads.submit(client.get, f"{TURNS}/{turn}/events")

            def is_answered() -> bool:
                # Others may wait as well, and before it does.
                cursor.execute("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE NOT granted")
                return asked.done()

            stack.wait_until(is_answered, "it is answered")
        assert asked.result().status_code == 503
        assert asked.result().json()["code"] == "unavailable"
