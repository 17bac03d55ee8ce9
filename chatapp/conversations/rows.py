"""Rows that every turn writes, as SQL made here: the ORM takes longer to make it than PostgreSQL to run it.

What is written is the same, with the same names; `billing.sql.run` sends any number of statements in one round trip.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from django.db import connection, models
from django.db.models.expressions import DatabaseDefault

from billing.sql import Statement, nothing


@dataclass(frozen=True, slots=True)
class FromNow:
    """The time of the statement, by the database's clock, and so many seconds later."""

    seconds: float = 0


def insert(row: models.Model) -> Statement[None]:
    """A new row; what PostgreSQL gives it by default, `row` does not learn."""
    table, columns = _table(type(row))
    values = {column: getattr(row, name) for name, column in columns}
    given = {column: value for column, value in values.items() if not isinstance(value, DatabaseDefault)}
    places = ", ".join(["%s"] * len(given))
    sql = f"INSERT INTO {table} ({', '.join(given)}) VALUES ({places})"  # noqa: S608  the names of our own columns
    return Statement(sql, list(given.values()), nothing)


def update(model: type[models.Model], pk: Any, **changes: Any) -> Statement[None]:
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
    return Statement(sql, [*values, pk], nothing)


@lru_cache
def _table(model: type[models.Model]) -> tuple[str, list[tuple[str, str]]]:
    """The quoted names of a model's table and of its columns, each beside the attribute that holds its value."""
    quote = connection.ops.quote_name
    columns = [(field.attname, quote(str(field.column))) for field in model._meta.concrete_fields]
    return quote(model._meta.db_table), columns
