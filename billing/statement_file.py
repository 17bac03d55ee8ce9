"""The statement as CSV (RFC 4180), streamed."""

import csv
from collections.abc import AsyncIterator, Iterable, Iterator
from datetime import UTC
from typing import Any

from asgiref.sync import sync_to_async
from django.db import connection

from billing import movements, statement
from billing.answers import Answer
from billing.credits import as_string
from billing.models import Account
from billing.movements import Filters
from billing.statement import Line
from billing.templatetags.credits import plain
from billing.workings import rates_per_million

CHUNK = 1000
# Added to at its end only: people's own programs read it. Each charge can be worked out from its row: the tokens of
# each class times their price per million, all of it times the markup, and the flat fee, rounded up to the sixth place,
# without what the house has borne. Of the tokens written to the cache, those for an hour are told again.
COLUMNS = [
    *("time", "what", "credits", "balance_after", "detail", "reference"),
    *("model", "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens"),
    *("kind", "paid", "currency", "cache_write_1h_tokens"),
    *("input_credits_per_million", "output_credits_per_million", "cache_read_credits_per_million"),
    *("cache_write_5m_credits_per_million", "cache_write_1h_credits_per_million"),
    *("markup", "flat_fee", "borne_by_house", "estimated"),
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
    yield as_string(line.amount)
    yield as_string(line.balance_after)
    yield _inert(line.detail)
    yield line.reference
    if line.answer is not None:
        usage = line.answer.usage
        yield _inert(line.answer.model)
        yield usage.input_tokens
        yield usage.output_tokens
        yield usage.cache_read_tokens
        yield line.answer.cache_write_tokens
    else:
        yield from [""] * 5
    yield line.kind
    yield f"{line.payment.amount:f}" if line.payment else ""
    yield line.payment.currency if line.payment else ""
    yield from _price_of(line.answer, line) if line.answer else [""] * 10


def _price_of(answer: Answer, line: Line) -> Iterator[str | int]:
    rates = rates_per_million(answer)
    yield answer.usage.cache_write_1h_tokens
    for rate in (rates.input, rates.output, rates.cache_read, rates.cache_write_5m, rates.cache_write_1h):
        yield plain(rate)
    yield plain(answer.price.markup)
    yield f"{answer.price.flat_fee:.6f}"
    yield as_string(line.borne_by_house)
    yield "yes" if answer.estimated else "no"


def _inert(text: str) -> str:
    """Words as words, in a spreadsheet too."""
    return f"'{text}" if text.startswith(FORMULA) else text


class _Echo:
    def write(self, text: str) -> str:
        return text


def _csv(rows: Iterable[Iterable[Any]]) -> str:
    writer = csv.writer(_Echo())
    return "".join(writer.writerow(row) for row in rows)
