"""The one way from async code to the database.

Django's ORM is synchronous, keeps a connection per thread and gives it back when a request ends: for a stream
that is minutes too late. `in_db` runs one synchronous unit of work in a bounded set of threads of its own and
hands the connection back to the pool just after its result is told, so any number of live turns shares
`DATABASE_POOL` connections.
"""

import asyncio
import functools
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, ParamSpec, TypeVar

import structlog
from django.conf import settings
from django.db import OperationalError, connections

log = structlog.get_logger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

# So long a request waits for a PostgreSQL that says nothing.
PATIENCE_SECONDS = 5.0
# A wait goes by in so many steps. However late the loop comes to the end of one, no more than the step is counted.
STEPS = 20


class NoAnswer(OperationalError):
    """PostgreSQL took too long for somebody who waits.

    `work` is done when what was asked has come to its end, whatever end that is; None if nothing was asked.
    """

    def __init__(self, work: "asyncio.Future[Any] | None") -> None:
        super().__init__("PostgreSQL does not answer")
        self.work = work


class _Threads:
    """Where work is done, piece by piece. Each is known by the future in which its end is told."""

    def __init__(self, count: int, name: str) -> None:
        self._count = count
        self._executor = ThreadPoolExecutor(max_workers=count, thread_name_prefix=name)
        self._begun: set[asyncio.Future[Any]] = set()
        # With what all threads were found to be stuck.
        self._stuck: set[asyncio.Future[Any]] = set()

    def submit(
        self, loop: asyncio.AbstractEventLoop, told: asyncio.Future[T], work: Callable[[], T]
    ) -> Future[None]:
        return self._executor.submit(self._do, loop, told, work)

    def are_stuck(self) -> bool:
        """Whether all of them are still at what somebody has given up."""
        if not self._stuck <= self._begun:
            self._stuck = set()
        return bool(self._stuck)

    async def end(self, told: asyncio.Future[Any], seconds: float) -> bool:
        """Wait until the end of a piece of work is told: False if it took longer than `seconds` from its beginning, or
        if in all that time it was not begun and no other ended. A line that moves is worth waiting in.
        """
        left, begun, still = seconds, False, self._begun.copy()
        while left > 0:
            step = seconds / STEPS
            if (await asyncio.wait([told], timeout=step))[0]:
                return True
            now = self._begun.copy()
            moved = len(still) < self._count or not still <= now
            if not begun and (moved or told in now):
                left, begun, still = seconds, told in now, now
            else:
                left -= step
                still &= now
        if len(still) == self._count and seconds >= PATIENCE_SECONDS:
            self._stuck = still
        return False

    def _do(self, loop: asyncio.AbstractEventLoop, told: asyncio.Future[T], work: Callable[[], T]) -> None:
        self._begun.add(told)
        try:
            _tell(loop, told, work)
        finally:
            self._begun.discard(told)


# Fewer threads than connections: the heartbeat has one, and request threads of Django's own need some too.
_threads = _Threads(max(1, settings.DATABASES["default"]["OPTIONS"]["pool"]["max_size"] - 3), "db")
_heartbeat_thread = _Threads(1, "db-heartbeat")


async def in_db(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run `work` in a database thread and return what it returns; its exceptions come through.

    Keep a transaction inside one `work`: Django has no atomic block that spans awaits. If the awaiting task is
    cancelled, `work` still runs to its end once it has begun.

    However long that takes: for what has to be done in the end, such as closing a turn.
    """
    return await _in(_threads, functools.partial(work, *args, **kwargs))


async def at_once_in_db(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """`in_db` that does not queue behind the rest: for the heartbeat, by which others judge that we live."""
    return await _in(_heartbeat_thread, functools.partial(work, *args, **kwargs))


async def in_db_within(seconds: float, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """`in_db` for somebody who waits for an answer: NoAnswer if PostgreSQL leaves `work` without an end so long.

    It is for what takes milliseconds, and is no limit for the load: waiting for a thread is not counted as long as any
    other work comes to an end. What has begun goes on by itself; as long as all threads are at such work, whoever else
    comes is refused at once. Who gives up sooner than PATIENCE_SECONDS proves nothing to others.
    """
    if _threads.are_stuck():
        raise NoAnswer(None)
    return await _in(_threads, functools.partial(work, *args, **kwargs), seconds)


async def _in(threads: _Threads, work: Callable[[], T], seconds: float | None = None) -> T:
    """`loop.run_in_executor`, but that it hears the result before the connection is back in the pool."""
    loop = asyncio.get_running_loop()
    told: asyncio.Future[T] = loop.create_future()
    queued = threads.submit(loop, told, work)
    try:
        if seconds is not None and not await threads.end(told, seconds):
            if queued.cancel():
                raise NoAnswer(None)
            told.add_done_callback(_note_late_end)
            raise NoAnswer(told)
        return await told
    except asyncio.CancelledError:
        queued.cancel()  # nobody wants it, if it has not begun
        told.cancel()
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


def _note_late_end(told: asyncio.Future[Any]) -> None:
    error = None if told.cancelled() else told.exception()
    log.warning("work ended that was given up", error=type(error).__name__ if error else None)


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
