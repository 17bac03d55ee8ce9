"""The one way from async code to the database.

Django's ORM is synchronous, keeps a connection per thread and gives it back when a request ends: for a stream
that is minutes too late. `in_db` runs one synchronous unit of work in a bounded set of threads of its own and
hands the connection back to the pool just after its result is told, so any number of live turns shares
`DATABASE_POOL` connections.
"""

import asyncio
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, ParamSpec, TypeVar

import structlog
from django.conf import settings
from django.db import connections

log = structlog.get_logger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

# Fewer threads than connections: the heartbeat has one, and request threads of Django's own need some too.
_threads = ThreadPoolExecutor(
    max_workers=max(1, settings.DATABASES["default"]["OPTIONS"]["pool"]["max_size"] - 3),
    thread_name_prefix="db",
)
_heartbeat_thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="db-heartbeat")


async def in_db(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run `work` in a database thread and return what it returns; its exceptions come through.

    Keep a transaction inside one `work`: Django has no atomic block that spans awaits. If the awaiting task is
    cancelled, `work` still runs to its end once it has begun.
    """
    return await _in(_threads, functools.partial(work, *args, **kwargs))


async def at_once_in_db(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """`in_db` that does not queue behind the rest: for the heartbeat, by which others judge that we live."""
    return await _in(_heartbeat_thread, functools.partial(work, *args, **kwargs))


async def _in(threads: ThreadPoolExecutor, work: Callable[[], T]) -> T:
    """`loop.run_in_executor`, but that it hears the result before the connection is back in the pool."""
    loop = asyncio.get_running_loop()
    told: asyncio.Future[T] = loop.create_future()
    queued = threads.submit(_tell, loop, told, work)
    try:
        return await told
    except asyncio.CancelledError:
        queued.cancel()  # nobody wants it, if it has not begun
        raise
    finally:
        del told  # it and an error that went through here would keep each other


def _tell(loop: asyncio.AbstractEventLoop, told: asyncio.Future[T], work: Callable[[], T]) -> None:
    try:
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001  it is raised where it is waited for
            _in_loop(loop, told, told.set_exception, error)
        else:
            _in_loop(loop, told, told.set_result, result)
    finally:
        del told  # as above
        _hand_back()  # the loop wakes up meanwhile


def _hand_back() -> None:
    try:
        connections.close_all()
    except Exception as error:  # noqa: BLE001  the result has been told, so nobody waits for this
        log.error("connection not handed back", error=type(error).__name__)


def _in_loop(
    loop: asyncio.AbstractEventLoop, told: asyncio.Future[Any], tell: Callable[[Any], None], what: Any
) -> None:
    def tell_who_waits() -> None:
        if not told.cancelled():
            tell(what)

    # A loop that has been closed has nobody who waits.
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(tell_who_waits)
