"""From async code to the database: bounded threads, and connections that are handed back at once."""

import asyncio
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any

import pytest
from django.conf import settings
from django.db import InterfaceError, connection, connections
from psycopg_pool import ConnectionPool

from chatapp import db, postgres
from chatapp.absence import PRESENT
from chatapp.db import NoAnswer, at_once_in_db, in_db, in_db_within
from tests.servers import wait_until

POOL_SIZE = settings.DATABASES["default"]["OPTIONS"]["pool"]["max_size"]
THREADS = POOL_SIZE - 3


def ask(question: str) -> tuple[Any, Any]:
    """What PostgreSQL answers, and the connection it was asked over."""
    with connection.cursor() as cursor:
        cursor.execute(question)
        return cursor.fetchone()[0], connections["default"]


async def test_a_connection_is_handed_back_as_soon_as_the_work_is_done(committed_db: None) -> None:
    answer, used = await in_db(ask, "SELECT 2 + 2")
    assert answer == 4
    await handed_back(used)


async def handed_back(used: Any) -> None:
    """It is, by the thread that used it, which tells its result first."""
    await asyncio.to_thread(wait_until, lambda: used.connection is None, "the connection is back", 20)


async def test_errors_come_through_and_keep_no_connection(committed_db: None) -> None:
    kept: list[Any] = []

    def fail() -> None:
        kept.append(ask("SELECT 1")[1])
        raise LookupError("nothing there")

    with pytest.raises(LookupError, match="nothing there"):
        await in_db(fail)
    await handed_back(kept[0])


async def test_a_connection_that_cannot_be_handed_back_is_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def away() -> None:
        raise InterfaceError("the connection is lost")

    monkeypatch.setattr(connections, "close_all", away)
    assert await in_db(lambda: "told") == "told"
    await asyncio.to_thread(wait_until, lambda: caplog.records, "it is logged", 20)
    (line,) = caplog.records
    assert (line.levelname, line.exc_info) == ("ERROR", None)
    assert "InterfaceError" in line.getMessage()


async def test_more_work_than_connections_waits_its_turn(committed_db: None) -> None:
    many = 5 * POOL_SIZE
    asked = [in_db(ask, f"SELECT {number} FROM pg_sleep(0.01)") for number in range(many)]
    assert [answer for answer, _ in await asyncio.gather(*asked)] == list(range(many))


async def test_work_goes_on_though_nobody_waits_for_it_any_more(committed_db: None) -> None:
    begun, may_end, ended = Event(), Event(), Event()

    def work() -> None:
        begun.set()
        may_end.wait(20)
        ask("SELECT 1")
        ended.set()

    waiting = asyncio.create_task(in_db(work))
    await asyncio.to_thread(begun.wait, 20)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    may_end.set()
    await asyncio.to_thread(wait_until, ended.is_set, "the work has ended", 20)


async def test_a_heartbeat_does_not_queue_behind_the_rest(committed_db: None) -> None:
    may_end = Event()
    many = 2 * POOL_SIZE
    busy = [asyncio.create_task(in_db(may_end.wait, 20)) for _ in range(many)]
    await asyncio.sleep(0)  # they have taken all threads there are

    answer, _ = await at_once_in_db(ask, "SELECT 1")

    assert answer == 1
    assert not any(task.done() for task in busy)
    may_end.set()
    await asyncio.gather(*busy)


async def test_who_waits_too_long_is_told_and_when_all_threads_are_stuck_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(db, "PATIENCE_SECONDS", 0.2)

    async def give_up(seconds: float) -> NoAnswer:
        with pytest.raises(NoAnswer) as refused:
            await in_db_within(seconds, may_end.wait, 20)
        return refused.value

    may_end = Event()
    given_up = [error.work for error in await asyncio.gather(*(give_up(0.2) for _ in range(THREADS + 3)))]
    begun = [work for work in given_up if work is not None]
    assert len(begun) == THREADS
    assert (await give_up(3600)).work is None

    may_end.set()
    assert await asyncio.gather(*begun) == [True] * THREADS
    assert await in_db(lambda: "done") == "done"
    assert await in_db_within(20, lambda: "done") == "done"


async def test_who_gives_up_soon_does_not_decide_for_others() -> None:
    may_end = Event()
    busy = [asyncio.create_task(in_db(may_end.wait, 20)) for _ in range(THREADS)]
    await asyncio.sleep(0)  # they have taken all threads there are
    with pytest.raises(NoAnswer):
        await in_db_within(0.1, lambda: "ready")
    waiting = asyncio.create_task(in_db_within(20, lambda: "done"))
    await asyncio.sleep(0)  # it would have been refused
    may_end.set()
    assert await waiting == "done"
    await asyncio.gather(*busy)


async def test_a_line_that_moves_is_waited_in_for_as_long_as_it_takes() -> None:
    slow = [in_db_within(0.8, time.sleep, 0.2) for _ in range(6 * THREADS)]
    assert await asyncio.gather(*slow) == [None] * len(slow)


@contextmanager
def pool_of(size: int, **where: Any) -> Iterator[ConnectionPool[Any]]:
    """A pool as Django makes it, of its own."""
    options = dict(connection.settings_dict["OPTIONS"]["pool"]) | {"min_size": 1, "max_size": size}
    params = connection.get_connection_params() | where
    with ConnectionPool(kwargs=params, check=ConnectionPool.check_connection, **options) as pool:
        yield pool


def test_a_server_that_is_away_is_asked_once_in_a_while_for_all_who_come(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    attempts = list[socket.socket]()

    def hang_up() -> None:
        while True:
            try:
                attempts.append(listening.accept()[0])
            except OSError:
                return
            attempts[-1].close()

    def is_refused(_number: int) -> bool:
        with pytest.raises(postgres.Away):
            pool.getconn(timeout=60)
        return True

    monkeypatch.setattr(postgres._absence, "until", PRESENT)
    monkeypatch.setattr(postgres._absence, "retry_seconds", 3600.0)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = Thread(target=hang_up)
        thread.start()
        port = listening.getsockname()[1]
        with pool_of(10, host="127.0.0.1", port=port) as pool, ThreadPoolExecutor(20) as threads:
            assert all(threads.map(is_refused, range(60)))
            first = len(attempts)
            monkeypatch.setattr(postgres._absence, "until", time.monotonic())  # the hour is over
            assert all(threads.map(is_refused, range(60)))
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()
    # The first to come may make theirs side by side, as many as the pool has threads for it.
    assert first in range(1, pool.num_workers + 1)
    assert len(attempts) == first + 1


def test_a_pool_that_is_only_busy_keeps_its_people_waiting(committed_db: None) -> None:
    """A server that has no more connections to give is not away: there are those that others give back."""
    with pool_of(2) as pool, ThreadPoolExecutor() as threads:
        pool.wait()
        used = pool.getconn()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(postgres._absence, "lets_try", lambda: False)
            waiting = threads.submit(pool.getconn, timeout=60)
            wait_until(lambda: pool.get_stats().get("connections_errors", 0) > 1, "no other can be made", 20)
            pool.putconn(used)
        assert waiting.result() is used
        pool.putconn(used)


def test_a_connection_that_the_server_ended_is_not_used_again(committed_db: None) -> None:
    """Nobody was using it, so nobody has noticed yet."""
    with pool_of(1) as pool:
        with pool.connection() as used:
            pid = used.info.backend_pid
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
        with pool.connection() as another:
            assert another.execute("SELECT 1").fetchone() == (1,)
            assert another.info.backend_pid != pid
