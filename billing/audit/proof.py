"""What a rule of the books is, and holding all the books against rules."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from django.db import connection, transaction


@dataclass(frozen=True, slots=True)
class Rule:
    """`query` gives a line of three texts for each row that breaks the rule: which row, expected, found.

    Amounts in them are microcredits.
    """

    name: str
    says: str
    query: str
    params: tuple[list[str], ...] | None = None


@dataclass(frozen=True, slots=True)
class Broken:
    """A row that breaks a rule."""

    rule: str
    row: str
    expected: str
    found: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.row}: expected {self.expected}, found {self.found}"


@dataclass(frozen=True, slots=True)
class Report:
    """What there is, what is broken, and how long it took to find out; amounts in microcredits.

    `outstanding` is what people have, and therefore what the house owes them; `held` is the part of it that pending
    holds set aside. `debts` is what those below zero owe the house: nobody else has any less for it.
    """

    accounts: int
    transfers: int
    holds: int
    pending_holds: int
    outstanding: int
    debts: int
    held: int
    seconds: float
    broken: dict[str, list[Broken]]

    @property
    def ok(self) -> bool:
        return not any(self.broken.values())


def prove(rules: Sequence[Rule]) -> Report:
    """Hold all the books against `rules`, in one consistent snapshot."""
    began = time.monotonic()
    with _snapshot(), connection.cursor() as cursor:
        broken = {}
        for rule in rules:
            cursor.execute(rule.query, rule.params)
            broken[rule.name] = [Broken(rule.name, *line) for line in cursor.fetchall()]
        cursor.execute(TOTALS)
        accounts, transfers, holds, pending_holds, outstanding, debts, held = map(int, cursor.fetchone())
    return Report(
        accounts=accounts,
        transfers=transfers,
        holds=holds,
        pending_holds=pending_holds,
        outstanding=outstanding,
        debts=debts,
        held=held,
        seconds=time.monotonic() - began,
        broken=broken,
    )


@contextmanager
def _snapshot() -> Iterator[None]:
    """One view of the whole database, of this moment; inside a caller's transaction it is the caller's view."""
    outermost = not connection.in_atomic_block
    with transaction.atomic():
        if outermost:
            with connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
                # Sorting a million transfers within memory takes half the time.
                cursor.execute("SET LOCAL work_mem = '64MB'")
        yield


TOTALS = """
    SELECT
        (SELECT count(*) FROM billing_account),
        (SELECT count(*) FROM billing_transfer),
        (SELECT count(*) FROM billing_hold),
        (SELECT count(*) FROM billing_hold WHERE state = 'pending'),
        (SELECT COALESCE(sum(balance), 0) FROM billing_account WHERE kind = 'wallet' AND balance > 0),
        (SELECT -COALESCE(sum(balance), 0) FROM billing_account WHERE kind = 'wallet' AND balance < 0),
        (SELECT COALESCE(sum(held), 0) FROM billing_account)
"""
