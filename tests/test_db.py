"""From async code to the database: bounded threads, and connections that are handed back at once."""

import asyncio
from threading import Event
from typing import Any

import pytest
from django.conf import settings
from django.db import InterfaceError, connection, connections
from psycopg_pool import ConnectionPool

from chatapp.db import at_once_in_db, in_db
from tests.servers import wait_until


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
    many = 5 * settings.DATABASES["default"]["OPTIONS"]["pool"]["max_size"]
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
    many = 2 * settings.DATABASES["default"]["OPTIONS"]["pool"]["max_size"]
    busy = [asyncio.create_task(in_db(may_end.wait, 20)) for _ in range(many)]
    await asyncio.sleep(0)  # they have taken all threads there are

    answer, _ = await at_once_in_db(ask, "SELECT 1")

    assert answer == 1
    assert not any(task.done() for task in busy)
    may_end.set()
    await asyncio.gather(*busy)


def test_a_connection_that_the_server_ended_is_not_used_again(committed_db: None) -> None:
    """Nobody was using it, so nobody has noticed yet."""
    options = dict(connection.settings_dict["OPTIONS"]["pool"]) | {"min_size": 1, "max_size": 1}
    with ConnectionPool(
        kwargs=connection.get_connection_params(), check=ConnectionPool.check_connection, **options
    ) as pool:
        with pool.connection() as used:
            pid = used.info.backend_pid
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
        with pool.connection() as another:
            assert another.execute("SELECT 1").fetchone() == (1,)
            assert another.info.backend_pid != pid
