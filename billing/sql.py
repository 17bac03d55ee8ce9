"""Statements that are sent together, in one round trip, where a turn is waited for.

PostgreSQL runs them one after the other in the caller's transaction, and each sees what those before it did and waited
for: a statement behind one that takes a lock reads what is true once the lock is there.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from django.db import connection

T = TypeVar("T")
Rows = list[tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Statement(Generic[T]):
    """One statement, its values, and what to make of the rows that it gives."""

    sql: str
    values: Mapping[str, Any] | Sequence[Any]
    read: Callable[[Rows], T]


def run(*statements: Statement[Any]) -> list[Any]:
    """What each of them gives, in their order; IntegrityError and the like as from the ORM.

    PostgreSQL takes several at once only in its simple protocol, in which the values are written into the text: psycopg
    does that for Django unless `server_side_binding` is set.
    """
    with connection.cursor() as wrapped, connection.wrap_database_errors:
        cursor = wrapped.cursor  # psycopg's own: Django's would look for each name again and wrap each call
        wrapped.execute(";\n".join(cursor.mogrify(each.sql, each.values) for each in statements))
        given = []
        for statement in statements:
            gives_rows = cursor.rownumber is not None  # `description` would make an object of each column
            given.append(statement.read(cursor.fetchall() if gives_rows else []))
            cursor.nextset()
        return given
