"""Rows that every turn writes, as SQL made here: the ORM takes longer to make it than PostgreSQL to run it.

What is written is the same, with the same names; `run` sends any number of statements in one round trip.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from django.db import connection, models
from django.db.models.expressions import DatabaseDefault


@dataclass(frozen=True, slots=True)
class FromNow:
    """The time of the statement, by the database's clock, and so many seconds later."""

    seconds: float = 0


@dataclass(frozen=True, slots=True)
class Statement:
    sql: str
    values: list[Any]


def insert(row: models.Model) -> Statement:
    """A new row; what PostgreSQL gives it by default, `row` does not learn."""
    table, columns = _table(type(row))
    values = {column: getattr(row, name) for name, column in columns}
    given = {column: value for column, value in values.items() if not isinstance(value, DatabaseDefault)}
    places = ", ".join(["%s"] * len(given))
    return Statement(f"INSERT INTO {table} ({', '.join(given)}) VALUES ({places})", list(given.values()))  # noqa: S608


def update(model: type[models.Model], pk: Any, **changes: Any) -> Statement:
    """Change fields of a row, by the names of their columns (`model_id`)."""
    table, columns = _table(model)
    known = dict(columns)
    values: list[Any] = []

    def settings() -> Iterator[str]:
        for name, value in changes.items():
            if isinstance(value, FromNow):
                values.append(value.seconds)
                yield f"{known[name]} = statement_timestamp() + %s * interval '1 second'"
            else:
                values.append(value)
                yield f"{known[name]} = %s"

    sql = f"UPDATE {table} SET {', '.join(settings())} WHERE {known[model._meta.pk.attname]} = %s"  # noqa: S608
    return Statement(sql, [*values, pk])


def run(*statements: Statement) -> None:
    """One after the other in the caller's transaction; IntegrityError and the like as from the ORM.

    PostgreSQL takes several at once only in its simple protocol, in which the values are written into the text: psycopg
    does that for Django unless `server_side_binding` is set.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            ";\n".join(statement.sql for statement in statements),
            [value for statement in statements for value in statement.values],
        )


@lru_cache
def _table(model: type[models.Model]) -> tuple[str, list[tuple[str, str]]]:
    """The quoted names of a model's table and of its columns, each beside the attribute that holds its value."""
    quote = connection.ops.quote_name
    columns = [(field.attname, quote(str(field.column))) for field in model._meta.concrete_fields]
    return quote(model._meta.db_table), columns
