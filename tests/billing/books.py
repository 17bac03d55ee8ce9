"""What happens to a person's credits, in one line each, as the application does it; and everything at once."""

import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from threading import Barrier
from typing import Any

import pytest
from django.db import DatabaseError, connection, transaction
from django.db.models.functions import Now

from accounts.models import User
from billing import ledger
from billing.credits import MICROCREDITS_PER_CREDIT
from billing.ledger import Settlement
from billing.models import Account, Hold, Order, Price, Transfer
from chatapp.conversations import rows
from chatapp.conversations.models import Turn
from chatapp.conversations.rows import FromNow

CREDIT = MICROCREDITS_PER_CREDIT


def wallet_of(user: User) -> Account:
    """As PostgreSQL has it now."""
    return ledger.wallet_of(user)


def give(user: User, amount: int) -> Transfer:
    return ledger.adjust(user=user, amount=amount, reason="for a test", made_by=user, key=uuid.uuid4().hex)


def order(user: User, amount: int, **facts: Any) -> Order:
    about = {"credits_microcredits": amount, "amount_cents": 100, "currency": "usd", **facts}
    return Order.objects.create(user=user, **about)


def pay(order: Order, **facts: Any) -> Transfer:
    """What fulfilment does when Stripe says that an order is paid; `facts` are what else it says."""
    with transaction.atomic():
        assert order.user is not None
        wallet = ledger.locked_wallet_of(order.user)
        mark_paid(order, **facts)
        return ledger.purchase(wallet=wallet, order=order)


def mark_paid(order: Order, **facts: Any) -> None:
    about = {"paid_cents": order.amount_cents, "stripe_session": f"cs_{order.pk}", **facts}
    unpaid = Order.objects.filter(pk=order.pk).exclude(state="paid")
    unpaid.update(state="paid", paid_at=Now(), **about)


def take_back(order: Order, amount: int) -> Transfer:
    """What a refund of money does to the credits that it had bought."""
    with transaction.atomic():
        assert order.user is not None
        wallet = ledger.locked_wallet_of(order.user)
        return ledger.reverse(
            wallet=wallet,
            order=order,
            kind=Transfer.Kind.REFUND,
            amount=amount,
            key=f"refund:{uuid.uuid4()}",
            reason="",
            made_by="",
        )


def grant(user: User, amount: int, *, expires_at: datetime | None = None) -> Transfer:
    """Promotional credits; those that expire are a lot."""
    return ledger.grant(
        user=user,
        amount=amount,
        reason="A gift",
        made_by=user,
        key=str(uuid.uuid4()),
        expires_at=expires_at,
    )


def open_turn(
    user: User,
    amount: int,
    *,
    id: uuid.UUID | None = None,
    hold: Callable[..., Hold] | None = None,
    price: Price | None = None,
) -> uuid.UUID:
    """A running turn and its hold; InsufficientCredits if the wallet has less. `hold` may make it another way.

    It is Haiku's, whose tokens can come to any number of microcredits.
    """
    price = price or Price.objects.filter(model="claude-haiku-5-5").latest("effective_from")
    turn = Turn(id=id or uuid.uuid4(), user=user, model=price.model, price=price, max_tokens=256, held=amount)
    with transaction.atomic():
        if hold is None:
            wallet = ledger.locked_wallet_of(user)
            ledger.hold(wallet=wallet, hold_id=turn.pk, amount=amount, then=[rows.insert(turn)])
        else:
            hold(id=turn.pk, amount=amount)
            turn.save(force_insert=True)
    return turn.pk


def close_turn(turn_id: uuid.UUID, price: int) -> Settlement:
    """End a turn of Haiku's whose tokens come to `price`, and settle its hold; HoldEnded if somebody else did."""
    with transaction.atomic():
        wallet, _ = ledger.lock_wallet_holding(turn_id)
        return ledger.settle(
            wallet=wallet,
            hold_id=turn_id,
            held=Turn.objects.get(pk=turn_id).held,
            price=price,
            then=lambda settlement: [
                rows.update(
                    Turn,
                    turn_id,
                    state="completed" if price else "failed",
                    ended_at=FromNow(),
                    output_tokens=price // 50,
                    cache_read_tokens=price % 50,
                    cost=price,
                    charged=settlement.charged,
                    overrun=settlement.overrun,
                )
            ],
        )


def set_made_up_turns_right() -> None:
    """Have the tokens of turns that no engine ran come to what was charged, for whoever audits the books next."""
    if sql(f"SELECT 1 FROM conversations_turn turn WHERE {MADE_UP} LIMIT 1"):
        with unguarded("conversations_turn"):
            sql(f"""
                UPDATE conversations_turn turn SET model_id = price.model_id, price_id = price.id,
                    fallback_price_id = NULL, served_by_id = NULL, input_tokens = 0,
                    output_tokens = (charged + overrun) / 50, cache_read_tokens = (charged + overrun) % 50,
                    cache_write_5m_tokens = 0, cache_write_1h_tokens = 0, cost = charged + overrun,
                    created_at = GREATEST(created_at, price.effective_from)
                FROM (SELECT * FROM billing_price WHERE model_id = 'claude-haiku-5-5'
                    ORDER BY effective_from LIMIT 1) price
                WHERE {MADE_UP}
            """)


# The engine keeps a fingerprint of what was asked.
MADE_UP = """
    turn.fingerprint = '' AND (turn.model_id, turn.input_tokens, turn.output_tokens, turn.cache_read_tokens, turn.cost)
        IS DISTINCT FROM ('claude-haiku-5-5'::varchar, 0, (turn.charged + turn.overrun) / 50,
            (turn.charged + turn.overrun) % 50, turn.charged + turn.overrun)
"""


def sql(statement: str, *params: object) -> list[tuple[Any, ...]]:
    """What an operator can type; the rows it gives, if it gives any."""
    with connection.cursor() as cursor:
        cursor.execute(statement, params or None)
        return cursor.fetchall() if cursor.description else []


def somebody_waits() -> bool:
    """Whether anybody waits for what the transaction that asks has locked."""
    return (
        sql("SELECT pid FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY(pg_blocking_pids(pid))")
        != []
    )


@contextmanager
def unguarded(*tables: str) -> Iterator[None]:
    """Inside, none of our triggers looks at what is written into these tables: for a past that a test makes up."""
    with transaction.atomic():
        commit_would_follow()
        sql(_switch(tables, "DISABLE"))
        yield
        commit_would_follow()
        sql(_switch(tables, "ENABLE ALWAYS"))


def nothing_looks() -> None:
    """Until the transaction ends, no trigger and no foreign key looks at what is written."""
    commit_would_follow()
    [[tables]] = sql(
        "SELECT array_agg(DISTINCT tgrelid::regclass::text) FROM pg_trigger WHERE NOT tgisinternal"
    )
    sql(_switch(tables, "DISABLE"))
    sql("SET LOCAL session_replication_role = replica")


def _switch(tables: Sequence[str], how: str) -> str:
    return f"""
    DO $$ DECLARE found record; BEGIN
        FOR found IN SELECT tgrelid::regclass AS of, tgname FROM pg_trigger
            WHERE tgrelid = ANY(ARRAY{list(tables)}::regclass[]) AND NOT tgisinternal
        LOOP EXECUTE format('ALTER TABLE %s {how} TRIGGER %I', found.of, found.tgname); END LOOP;
    END $$
    """


@contextmanager
def refused(because: str) -> Iterator[None]:
    """PostgreSQL refuses what is inside, at once or at the commit, in these words (a regular expression)."""
    with pytest.raises(DatabaseError, match=because), transaction.atomic():  # noqa: PT012
        yield
        commit_would_follow()


def commit_would_follow() -> None:
    """Have the checks done that wait for the commit."""
    sql("SET CONSTRAINTS ALL IMMEDIATE")
    sql("SET CONSTRAINTS ALL DEFERRED")


def at_once(calls: Sequence[Callable[[], Any]]) -> list[Any]:
    """What each call returns or raises, each in a thread of its own, all let go together."""
    start = Barrier(len(calls))

    def run(call: Callable[[], Any]) -> Any:
        start.wait()
        try:
            return call()
        except Exception as error:  # noqa: BLE001  the test looks at what was raised
            return error
        finally:
            connection.close()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))
