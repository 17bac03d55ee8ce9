"""Statements that are sent together, in one round trip, where a turn is waited for.

PostgreSQL runs them one after the other in the caller's transaction, and each sees what those before it did and waited
for: a statement behind one that takes a lock reads what is true once the lock is there. If one of them fails, those
behind it are not run.

A round trip costs more than the work in it: who waits sleeps, and wakes up cold. So a transaction's BEGIN goes with its
first statement, and its COMMIT with those that are known to be the last.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import psycopg
from django.db import DataError, connection
from psycopg.pq import TransactionStatus

T = TypeVar("T")
Rows = list[tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Statement(Generic[T]):
    """One statement, its values, and what to make of the rows that it gives."""

    sql: str
    values: Mapping[str, Any] | Sequence[Any]
    read: Callable[[Rows], T]


def nothing(_rows: Rows) -> None:
    """What to make of the rows of a statement that is sent for what it does."""


class NotFound(Exception):
    """What had to be there is not: what was sent behind `must_find` was not run."""


def must_find(query: str, values: Mapping[str, Any]) -> Statement[None]:
    """Fails with NotFound unless `query` finds a row: before a COMMIT, when Python has no say any more."""
    # SQL has no statement that fails on a condition. Nothing else that we send divides.
    return Statement(f"SELECT 1 / count(*) FROM ({query}) AS found", values, nothing)  # noqa: S608


def run(*statements: Statement[Any], commit: bool = False) -> list[Any]:
    """What each of them gives, in their order; IntegrityError and the like as from the ORM.

    With `commit` they are the last of the innermost `atomic` block: if that is the whole transaction, it ends with
    them; nothing but reading what they gave may follow in the block. What is to run `on_commit` still runs when the
    block is left.

    PostgreSQL takes several at once only in its simple protocol, in which the values are written into the text: psycopg
    does that for Django unless `server_side_binding` is set.
    """
    with connection.cursor() as wrapped, connection.wrap_database_errors:
        cursor = wrapped.cursor  # psycopg's own: Django's would look for each name again and wrap each call
        sent = [cursor.mogrify(each.sql, each.values) for each in statements]
        begins, commits = _would_begin(cursor.connection), commit and _is_whole_transaction()
        if begins:
            sent.insert(0, "BEGIN")
        if commits:
            sent.append("COMMIT")
        try:
            if begins:
                cursor.connection.autocommit = True  # else it would send a BEGIN of its own before ours
            wrapped.execute(";\n".join(sent))
        except DataError as error:
            if isinstance(error.__cause__, psycopg.errors.DivisionByZero):
                raise NotFound from error
            raise
        finally:
            # It tells a transaction by PostgreSQL's word, not by this. But where there is none (any more), what else is
            # sent in Django's block belongs into one.
            if (begins or commits) and _is_idle(cursor.connection):
                cursor.connection.autocommit = False
        if begins:
            cursor.nextset()
        given = []
        for statement in statements:
            gives_rows = cursor.rownumber is not None  # `description` would make an object of each column
            given.append(statement.read(cursor.fetchall() if gives_rows else []))
            cursor.nextset()
        return given


def _would_begin(raw: psycopg.Connection[Any]) -> bool:
    """Whether psycopg would send a plain BEGIN before the next statement, in a round trip of its own."""
    characteristics = (raw.isolation_level, raw.read_only, raw.deferrable)
    return not raw.autocommit and _is_idle(raw) and characteristics == (None, None, None)


def _is_idle(raw: psycopg.Connection[Any]) -> bool:
    return raw.pgconn.transaction_status == TransactionStatus.IDLE


def _is_whole_transaction() -> bool:
    """Whether the innermost `atomic` block is the outermost one, and its end the end of the transaction."""
    return connection.in_atomic_block and not connection.savepoint_ids
