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
    with connection.cursor() as cursor:
        with connection.wrap_database_errors:
            text = ";\n".join(cursor.mogrify(each.sql, each.values) for each in statements)
        cursor.execute(text)
        given = []
        for statement in statements:
            given.append(statement.read(cursor.fetchall() if cursor.description else []))
            cursor.nextset()
        return given
