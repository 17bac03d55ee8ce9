"""The statement as CSV (RFC 4180), streamed."""

import csv
from collections.abc import AsyncIterator, Iterable, Iterator
from datetime import UTC
from typing import Any

from asgiref.sync import sync_to_async
from django.db import connection

from billing import movements, statement
from billing.credits import as_string
from billing.models import Account
from billing.movements import Filters
from billing.statement import Line

CHUNK = 1000
# Added to at its end only: people's own programs read it.
COLUMNS = [
    *("time", "what", "detail", "reference", "credits", "balance_after"),
    *("model", "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens"),
]
# A spreadsheet would run words that begin like this, and people name their own chats.
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


async def as_csv(wallet: Account, filters: Filters) -> AsyncIterator[str]:
    """The statement, newest first, in chunks; a slow reader keeps no database connection meanwhile."""
    yield _csv([COLUMNS])
    before: int | None = None
    while True:
        text, before = await sync_to_async(_chunk)(wallet, filters, before)
        if text:
            yield text
        if before is None:
            return


def _chunk(wallet: Account, filters: Filters, before: int | None) -> tuple[str, int | None]:
    """Up to CHUNK lines older than a movement, and the last one's id if there are more."""
    page = movements.older(wallet, filters, than=before, limit=CHUNK)
    text = _csv(map(_row, statement.lines(page.transfers, wallet)))
    if not connection.in_atomic_block:
        connection.close()
    return text, page.transfers[-1].pk if page.has_older else None


def _row(line: Line) -> Iterator[str | int]:
    yield line.at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    yield line.what
    yield _inert(line.detail)
    yield line.reference
    yield as_string(line.amount)
    yield as_string(line.balance_after)
    if line.answer is not None:
        usage = line.answer.usage
        yield _inert(line.answer.model)
        yield usage.input_tokens
        yield usage.output_tokens
        yield usage.cache_read_tokens
        yield line.answer.cache_write_tokens
    else:
        yield from [""] * 5


def _inert(text: str) -> str:
    """Words as words, in a spreadsheet too."""
    return f"'{text}" if text.startswith(FORMULA) else text


class _Echo:
    def write(self, text: str) -> str:
        return text


def _csv(rows: Iterable[Iterable[Any]]) -> str:
    writer = csv.writer(_Echo())
    return "".join(writer.writerow(row) for row in rows)
