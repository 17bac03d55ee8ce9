"""Statements that are sent together: what a transaction is when its BEGIN and COMMIT go with them."""

import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
import pytest
from asgiref.sync import async_to_sync
from django.db import IntegrityError, ProgrammingError, connection, transaction
from psycopg.pq import TransactionStatus

from accounts.models import User
from billing.pricing import Usage
from billing.sql import NotFound, Statement, must_find, run
from chatapp.conversations import rows
from chatapp.conversations.models import Turn
from chatapp.streaming import turns
from chatapp.streaming.live import LiveTurn

NEVER = must_find("SELECT WHERE false", {})


def name_it(person: User, name: str | None) -> Statement[None]:
    return rows.update(User, person.pk, name=name)


def name_of(person: User) -> str:
    return str(User.objects.values_list("name", flat=True).get(pk=person.pk))


def raw() -> psycopg.Connection[Any]:
    connection.ensure_connection()
    return connection.connection


@contextmanager
def round_trips() -> Iterator[list[str]]:
    """The queries that this thread's connection sends, by libpq's own account of them."""
    sent: list[str] = []
    with tempfile.TemporaryFile("w+") as trace:
        raw().pgconn.trace(trace.fileno())
        try:
            yield sent
        finally:
            raw().pgconn.untrace()
            trace.seek(0)
            sent += [line for line in trace if "\tF\t" in line and "\tQuery\t" in line]


@pytest.fixture(autouse=True)
def _nothing_is_left_open(committed_db: None) -> Iterator[None]:
    yield
    assert raw().pgconn.transaction_status == TransactionStatus.IDLE
    assert raw().autocommit


def test_a_transaction_of_known_statements_is_one_round_trip(alice: User) -> None:
    told: list[str] = []
    with round_trips() as sent, transaction.atomic():
        transaction.on_commit(lambda: told.append("committed"))
        run(name_it(alice, "first"), name_it(alice, "second"), commit=True)
        assert not told
    assert told == ["committed"]
    assert name_of(alice) == "second"
    assert len(sent) == 1


def test_a_turn_is_opened_and_closed_in_two_round_trips_each(alice: User) -> None:
    def turn() -> tuple[int, int]:
        with round_trips() as opening:
            opened = turns.open(alice, turns.Ask(id=uuid.uuid4(), text="hello")).turn
        usage = Usage(input_tokens=8, output_tokens=100)
        outcome = turns.Outcome(opened.model_id, usage=usage, finished=True, counted=True)
        live = async_to_sync(live_turn)(opened)
        with round_trips() as closing:
            turns.close(opened, live, outcome)
        ended = Turn.objects.get(pk=opened.pk)
        assert (ended.state, ended.charged) == (Turn.State.COMPLETED, opened.charged)
        assert ended.charged > 0
        return len(opening), len(closing)

    turn()  # the wallet is open, and what is looked up once is known
    assert turn() == (2, 2)


async def live_turn(opened: Turn) -> LiveTurn:
    return LiveTurn(turns.started(opened))


@pytest.mark.parametrize(
    ("breaks", "error"),
    [
        (lambda person: NEVER, NotFound),
        (lambda person: name_it(person, None), IntegrityError),
        (lambda person: Statement("SELEC", [], bool), ProgrammingError),
    ],
    ids=["not found", "not null", "syntax"],
)
@pytest.mark.parametrize("begun", [True, False], ids=["begun before", "all at once"])
def test_what_fails_in_the_last_round_trip_leaves_nothing(
    alice: User, breaks: Callable[[User], Statement[Any]], error: type[Exception], begun: bool
) -> None:
    @transaction.atomic
    def work() -> None:
        if begun:
            run(name_it(alice, "begun"))
        run(name_it(alice, "then"), breaks(alice), name_it(alice, "last"), commit=True)

    with pytest.raises(error):
        work()
    assert name_of(alice) == "Alice"


def test_a_block_within_another_does_not_commit(alice: User) -> None:
    @transaction.atomic
    def outer() -> None:
        with transaction.atomic():
            run(name_it(alice, "inner"), commit=True)
        raise LookupError

    with pytest.raises(LookupError):
        outer()
    assert name_of(alice) == "Alice"


@pytest.mark.parametrize(
    "first", [name_it, lambda person, name: Statement("SELEC", [], bool)], ids=["done", "failed"]
)
def test_what_follows_all_the_same_is_in_a_transaction(
    alice: User, first: Callable[[User, str], Statement[Any]]
) -> None:
    """Whether the one that was sent has ended, or was never begun."""

    @transaction.atomic
    def work() -> None:
        with suppress(ProgrammingError):
            run(first(alice, "first"), commit=True)
        User.objects.filter(pk=alice.pk).update(name="second")
        raise LookupError

    with pytest.raises(LookupError):
        work()
    assert name_of(alice) != "second"


def test_without_a_block_there_is_no_transaction(alice: User) -> None:
    run(name_it(alice, "first"), commit=True)
    assert raw().pgconn.transaction_status == TransactionStatus.IDLE
    assert name_of(alice) == "first"


def test_a_transaction_keeps_what_its_connection_asks_of_it(alice: User) -> None:
    raw().isolation_level = psycopg.IsolationLevel.SERIALIZABLE
    try:
        with transaction.atomic():
            assert run(Statement("SHOW transaction_isolation", [], list)) == [[("serializable",)]]
    finally:
        raw().isolation_level = None
