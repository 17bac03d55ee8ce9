"""What a rule of the books is, and holding all the books against rules."""

import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Final

from django.db import OperationalError, connection, connections, transaction

# So many connections share the rules: each waits for PostgreSQL alone, which has a process for each.
PROVERS: Final = 2


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
    holds set aside. `debts` is what those below zero owe the house: nobody else has any less for it. What is in the
    wallets of deleted accounts is counted apart, since nobody can use or repay it.
    """

    accounts: int
    transfers: int
    holds: int
    pending_holds: int
    outstanding: int
    debts: int
    of_deleted: int
    debts_of_deleted: int
    held: int
    seconds: float
    broken: dict[str, list[Broken]]

    @property
    def ok(self) -> bool:
        return not any(self.broken.values())


def prove(rules: Sequence[Rule]) -> Report:
    """Hold all the books against `rules`, in one consistent snapshot."""
    began = time.monotonic()
    broken = {}
    with _snapshot() as shared, ThreadPoolExecutor(max_workers=PROVERS) as threads:
        waiting = iter(rules)
        helping = [threads.submit(_help, shared, waiting) for _ in range(PROVERS - 1)] if shared else []
        try:
            broken.update(_hold_against(waiting))
        finally:
            # Whoever stops here, by an error or by hand, is not to wait for all that the others would still take.
            for _ in waiting:
                pass
        for help_ in helping:
            broken.update(help_.result())
        with connection.cursor() as cursor:
            cursor.execute(TOTALS)
            names = [column.name for column in cursor.description]
            totals = dict(zip(names, map(int, cursor.fetchone()), strict=True))
    return Report(
        **totals,
        seconds=time.monotonic() - began,
        broken={rule.name: broken[rule.name] for rule in rules},
    )


def _hold_against(waiting: Iterable[Rule]) -> dict[str, list[Broken]]:
    """The rows that break each rule; whoever is free takes the next of those `waiting`, one iterator for all."""
    broken = {}
    with connection.cursor() as cursor:
        for rule in waiting:
            cursor.execute(rule.query, rule.params)
            broken[rule.name] = [Broken(rule.name, *line) for line in cursor.fetchall()]
    return broken


def _help(shared: str, waiting: Iterable[Rule]) -> dict[str, list[Broken]]:
    """`_hold_against` over a connection of its own; without one, the others do it all."""
    try:
        with ExitStack() as snapshot:
            try:
                snapshot.enter_context(_snapshot(shared))
            except OperationalError:
                return {}
            return _hold_against(waiting)
    finally:
        connections.close_all()  # this thread's


@contextmanager
def _snapshot(shared: str = "") -> Iterator[str]:
    """One view of the whole database: the one `shared`, or that of this moment and the name by which others share it.

    Inside a caller's transaction it is the caller's view, which nobody can share: then its name is empty.
    """
    outermost, name = not connection.in_atomic_block, ""
    with transaction.atomic():
        if outermost:
            with connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
                if shared:
                    cursor.execute("SET TRANSACTION SNAPSHOT %s", [shared])
                # Sorting a million transfers within memory takes half the time; compiling queries took longer
                # than it saved.
                cursor.execute("SET LOCAL work_mem = '64MB'")
                cursor.execute("SET LOCAL jit = off")
                if not shared:
                    cursor.execute("SELECT pg_export_snapshot()")
                    [name] = cursor.fetchone()
        yield name


# Named as a Report has them.
TOTALS = """
    SELECT
        (SELECT count(*) FROM billing_account) AS accounts,
        (SELECT count(*) FROM billing_transfer) AS transfers,
        (SELECT count(*) FROM billing_hold) AS holds,
        (SELECT count(*) FROM billing_hold WHERE state = 'pending') AS pending_holds,
        COALESCE(sum(balance) FILTER (WHERE balance > 0 AND user_id IS NOT NULL), 0) AS outstanding,
        COALESCE(-sum(balance) FILTER (WHERE balance < 0 AND user_id IS NOT NULL), 0) AS debts,
        COALESCE(sum(balance) FILTER (WHERE balance > 0 AND user_id IS NULL), 0) AS of_deleted,
        COALESCE(-sum(balance) FILTER (WHERE balance < 0 AND user_id IS NULL), 0) AS debts_of_deleted,
        COALESCE(sum(held), 0) AS held
    FROM billing_account WHERE kind = 'wallet'
"""
