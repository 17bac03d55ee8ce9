"""A person's statement: every movement of their credits, in words, on pages and as CSV."""

import csv
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from asgiref.sync import sync_to_async
from django.db import connection

from billing import ledger
from billing.credits import as_string, to_credits
from billing.models import Account, Transfer
from billing.templatetags.credits import money

CHUNK = 1000


@dataclass(frozen=True, slots=True)
class Line:
    """One movement as the wallet's owner sees it: `amount` is signed, both amounts in microcredits."""

    at: datetime
    what: str
    detail: str
    reference: str
    amount: int
    balance_after: int

    @property
    def change(self) -> "Figure":
        return figure(self.amount, sign="+")

    @property
    def balance(self) -> "Figure":
        return figure(self.balance_after)


@dataclass(frozen=True, slots=True)
class Figure:
    """An amount to its last microcredit: `cents` such as "−1,204.56" and the four places that follow."""

    cents: str
    rest: str

    @property
    def is_round(self) -> bool:
        return self.rest == "0000"


def figure(microcredits: int, *, sign: str = "") -> Figure:
    """`sign` stands before what is positive; what is negative has its minus in any case."""
    text = f"{to_credits(abs(microcredits)):,.6f}"
    return Figure(cents=f"{'−' if microcredits < 0 else sign}{text[:-4]}", rest=text[-4:])


def line(transfer: Transfer, wallet: Account) -> Line:
    return Line(
        at=transfer.created_at,
        what=transfer.get_kind_display(),
        detail=_detail(transfer),
        reference=_reference(transfer),
        amount=transfer.amount if transfer.credit_id == wallet.pk else -transfer.amount,
        balance_after=transfer.balance_after or 0,
    )


def _detail(transfer: Transfer) -> str:
    kind = Transfer.Kind(transfer.kind)
    if kind == Transfer.Kind.SIGNUP:
        return "A gift to begin with"
    if kind == Transfer.Kind.PURCHASE and transfer.order:
        return f"Paid {money(transfer.order.amount_cents, transfer.order.currency)} through Stripe"
    if kind == Transfer.Kind.REFUND and not transfer.reason:
        return "Credits taken back for money given back"
    if kind == Transfer.Kind.DISPUTE and not transfer.reason:
        return "Credits taken back for a disputed payment"
    return transfer.reason


def _reference(transfer: Transfer) -> str:
    """The id of the order, or of the turn (a hold has its turn's id), by which support can find it."""
    return str(transfer.order_id or transfer.hold_id or "")


async def as_csv(wallet: Account) -> AsyncIterator[str]:
    """The whole statement, newest first, in chunks; a slow reader keeps no database connection meanwhile."""
    yield _csv([("time", "what", "detail", "reference", "credits", "balance_after")])
    before: int | None = None
    while True:
        text, before = await sync_to_async(_chunk)(wallet, before)
        if text:
            yield text
        if before is None:
            return


def _chunk(wallet: Account, before: int | None) -> tuple[str, int | None]:
    """Up to CHUNK lines older than a transfer, and the last one's id if there may be more."""
    movements = ledger.statement(wallet).select_related("order")
    if before is not None:
        movements = movements.filter(pk__lt=before)
    transfers = list(movements[:CHUNK])
    rows = (line(transfer, wallet) for transfer in transfers)
    text = _csv(
        (
            row.at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
            row.what,
            _inert(row.detail),
            row.reference,
            as_string(row.amount),
            as_string(row.balance_after),
        )
        for row in rows
    )
    if not connection.in_atomic_block:
        connection.close()
    return text, transfers[-1].pk if len(transfers) == CHUNK else None


def _inert(text: str) -> str:
    """Words as words: a spreadsheet would run those that begin like a formula."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) else text


class _Echo:
    def write(self, text: str) -> str:
        return text


def _csv(rows: Iterable[tuple[Any, ...]]) -> str:
    writer = csv.writer(_Echo())
    return "".join(writer.writerow(row) for row in rows)
