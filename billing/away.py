"""A database that is away: how that shows, and what a job of the worker does then."""

import functools
from collections.abc import Callable, Iterable
from typing import ParamSpec, TypeVar

import structlog
from django.db.utils import InterfaceError, InternalError, OperationalError

log = structlog.get_logger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

# How PostgreSQL shows that it is away, full or read-only. No other database error is one to put up with.
DATABASE_AWAY = (OperationalError, InterfaceError, InternalError)


def later_if_the_database_is_away(work: Callable[P, None]) -> Callable[P, None]:
    """One line says so instead of a traceback: beat's next round finds what was left."""

    @functools.wraps(work)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            work(*args, **kwargs)
        except DATABASE_AWAY as error:
            log.warning("database away, left for later", task=work.__name__, error=type(error).__name__)

    return run


def each_by_itself(
    found: Iterable[T], work: Callable[[T], object], *, away: tuple[type[Exception], ...] = ()
) -> None:
    """Do something for each of many, so that one for whom it cannot be done keeps nobody else from theirs.

    Its traceback is logged. A database that is away is away for all, and so is what else shows as `away`: that comes
    through.
    """
    for_all = DATABASE_AWAY + away
    for one in found:
        try:
            work(one)
        except for_all:
            raise
        except Exception:
            log.exception("not done for one of many", work=work.__qualname__, one=str(one))
