"""The only writer of credits.

Each function is one step inside the caller's transaction and takes its locks in one order: the wallet first, then
what hangs on it (turn, order, hold). Whoever opens, closes or buys for a person therefore waits for the wallet
and never for each other. `hold` and `settle` are a transaction's last step: it ends with them. All amounts are
microcredits.

The rules themselves stand in PostgreSQL (migration 0002_ledger_rules): balances follow transfers and holds by
trigger, and a statement that would break a rule is refused, whoever sends it.
"""

import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from django.db import IntegrityError, connection, transaction
from django.db.models import QuerySet
from django.db.models.functions import Now

from accounts.demo import DEMO_EMAILS
from accounts.models import User
from billing import welcome
from billing.away import each_by_itself
from billing.errors import CreditsExpired, HoldEnded, InsufficientCredits, KeyReused
from billing.models import Account, Hold, Lot, Order, Transfer
from billing.sql import NotFound, Rows, Statement, must_find, nothing, run


def wallet_of(user: User) -> Account:
    """A person's wallet. The first call opens it and gives the welcome credits, once per address."""
    try:
        return Account.objects.get(user=user)
    except Account.DoesNotExist:
        with transaction.atomic():
            return _open_wallet(user)


def locked_wallet_of(user: User) -> Account:
    """The wallet, locked until the transaction ends: what comes after it cannot be overtaken.

    What has expired in it is booked first, so what it has available can be spent. User.DoesNotExist if the person was
    deleted meanwhile.
    """
    wallet, _ = lock_wallet_of(user)
    return wallet


def lock_wallet_of(user: User, *then: Statement[Any]) -> tuple[Account, list[Any]]:
    """`locked_wallet_of`, and what `then` finds once the lock is there, in the same round trip."""
    row, *found = _locking(Statement(LOCK_OF_PERSON, {"user": user.pk}, _one), then)
    if row is None:
        # There was nothing to lock, so what was found then may not be true any more.
        return _open_wallet(user), run(*then) if then else []
    *fields, due = row
    wallet = Account.from_db(connection.alias, ACCOUNT_FIELDS, fields)
    if due:
        expire(wallet)
    return wallet, found


def wallet_holding(hold_id: uuid.UUID) -> Account:
    """The wallet on which a hold stands or stood, whoever owns it by now."""
    return Account.objects.get(holds=hold_id)


def lock_wallet_holding(hold_id: uuid.UUID, *then: Statement[Any]) -> tuple[Account, list[Any]]:
    """`wallet_holding`, locked until the transaction ends, and what `then` finds once the lock is there."""
    row, *found = _locking(Statement(LOCK_OF_HOLD, {"hold": hold_id}, _one), then)
    if row is None:
        raise Account.DoesNotExist(f"there is no hold {hold_id}")
    return Account.from_db(connection.alias, ACCOUNT_FIELDS, row), found


def wallet_credited_with(order: Order) -> Account | None:
    """The wallet that an order's purchase went to, whoever owns it by now; None if there is no purchase."""
    return _credited_with(order).first()


def locked_wallet_credited_with(order: Order) -> Account | None:
    """`wallet_credited_with`, locked until the transaction ends."""
    return _credited_with(order).select_for_update().first()


def _credited_with(order: Order) -> QuerySet[Account]:
    bought = Transfer.objects.filter(order=order, kind=Transfer.Kind.PURCHASE)
    return Account.objects.filter(pk__in=bought.values("credit"))


def hold(*, wallet: Account, hold_id: uuid.UUID, amount: int, then: Iterable[Statement[None]] = ()) -> None:
    """Set `amount` aside on a locked wallet, run `then`, and end the caller's transaction: see `billing.sql.run`.

    InsufficientCredits before anything is sent. CreditsExpired, and nothing is done, if some expired since the wallet
    was locked: in a new transaction the rest can be held.
    """
    if amount > wallet.available:
        raise InsufficientCredits(available=wallet.available, needed=amount)
    made = Statement(HOLD, {"hold": hold_id, "wallet": wallet.pk, "amount": amount}, nothing)
    try:
        run(made, must_find(HELD_NOW, {"hold": hold_id}), *then, commit=True)
    except NotFound as error:
        raise CreditsExpired(f"credits expired before {amount} of them were held") from error
    wallet.held += amount


@dataclass(frozen=True, slots=True)
class Settlement:
    """What becomes of a hold, in microcredits: `charged` to the person, `overrun` borne by the house."""

    charged: int
    overrun: int

    @classmethod
    def of(cls, *, held: int, price: int) -> Self:
        """The person pays no more than was held."""
        charged = min(held, price)
        return cls(charged=charged, overrun=price - charged)


def settle(
    *,
    wallet: Account,
    hold_id: uuid.UUID,
    held: int,
    price: int,
    then: Callable[[Settlement], Iterable[Statement[None]]] = lambda settlement: (),
) -> Settlement:
    """End a hold of `held` on a locked wallet: charge `price` at most as far as it was held, release the rest.

    What goes beyond the hold is the house's, booked as an overrun. A price of 0 releases the hold. What `then` makes of
    it is run, and the caller's transaction ends: see `billing.sql.run`. A hold ends once: HoldEnded otherwise, also if
    something else was held, and nothing is done.
    """
    settlement = Settlement.of(held=held, price=price)
    values = {
        "hold": hold_id,
        "wallet": wallet.pk,
        "balance": wallet.balance,
        "price": price,
        "usage": house(Account.Kind.USAGE).pk,
        "overruns": house(Account.Kind.OVERRUNS).pk,
    }
    ended = must_find(ENDED_NOW, {"hold": hold_id, "held": held})
    try:
        run(Statement(SETTLE, values, nothing), ended, *then(settlement), commit=True)
    except NotFound as error:
        raise HoldEnded(f"hold {hold_id} has ended before, or was not of {held}") from error
    wallet.held -= held
    wallet.balance -= settlement.charged
    return settlement


def purchase(*, wallet: Account, order: Order, reason: str = "") -> Transfer:
    """Credit a paid order to a locked wallet, once however often it is called."""
    return _post(
        key=f"purchase:{order.id}",
        kind=Transfer.Kind.PURCHASE,
        debit=house(Account.Kind.STRIPE),
        credit=wallet,
        amount=order.credits_microcredits,
        order=order,
        expires_at=order.credits_expire_at,
        reason=reason,
    )


def reverse(
    *, wallet: Account, order: Order, kind: Transfer.Kind, amount: int, key: str, reason: str, made_by: str
) -> Transfer:
    """Take credits of a purchase back from a locked wallet, for money given back (refund) or claimed (dispute).

    They are taken also when they have been spent: then the wallet is below zero until a top-up repays it. No more
    than what is left of the purchase; PostgreSQL refuses it otherwise.
    """
    return _post(
        key=key,
        kind=kind,
        debit=wallet,
        credit=house(Account.Kind.STRIPE),
        amount=amount,
        order=order,
        reason=reason,
        made_by=made_by,
    )


def give_back(
    *, wallet: Account, order: Order, kind: Transfer.Kind, amount: int, key: str, reason: str
) -> Transfer:
    """Undo a `reverse`: the refund failed, or the dispute was won. What is given back does not expire."""
    return _post(
        key=key,
        kind=kind,
        debit=house(Account.Kind.STRIPE),
        credit=wallet,
        amount=amount,
        order=order,
        reason=reason,
    )


def grant(
    *, user: User, amount: int, reason: str, made_by: User, key: str, expires_at: datetime | None = None
) -> Transfer:
    """Give promotional credits, which are used before bought ones if they expire: once per `key`."""
    with transaction.atomic():
        return _post(
            key=f"grant:{key}",
            kind=Transfer.Kind.GRANT,
            debit=house(Account.Kind.PROMOTIONS),
            credit=locked_wallet_of(user),
            amount=amount,
            expires_at=expires_at,
            reason=reason,
            made_by=made_by.email,
        )


def expire(wallet: Account) -> list[Transfer]:
    """Book what has expired unused on a locked wallet.

    As much as turns that were opened before the expiry may still need is left for them, and booked later.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT lot, amount FROM billing_expirable(%s)", [wallet.pk])
        expirable = cursor.fetchall()
    lots = Lot.objects.select_related("transfer").in_bulk([lot for lot, _ in expirable])
    return [
        _post(
            # What remains only ever falls, so this names one expiry and no other.
            key=f"expiry:{lot}:{lots[lot].remaining}",
            kind=Transfer.Kind.EXPIRY,
            debit=wallet,
            credit=house(Account.Kind.EXPIRED),
            amount=amount,
            source=lots[lot].transfer,
        )
        for lot, amount in expirable
    ]


def expire_everywhere() -> int:
    """Book what has expired in all wallets, each in a transaction of its own; how many wallets there were."""
    due = Lot.objects.filter(remaining__gt=0, expires_at__lte=Now()).values("account")
    wallets = Account.objects.filter(pk__in=due).values_list("pk", flat=True)
    each_by_itself(wallets, _expire_in)
    return len(wallets)


@transaction.atomic
def _expire_in(wallet: int) -> None:
    expire(Account.objects.select_for_update().get(pk=wallet))


def adjust(*, user: User, amount: int, reason: str, made_by: User, key: str) -> Transfer:
    """Give (`amount` > 0) or take (`amount` < 0) credits by hand, with a reason and who did it.

    Taking more than is available is refused with InsufficientCredits: only a reversal may go below zero.
    """
    with transaction.atomic():
        wallet = locked_wallet_of(user)
        adjustments = house(Account.Kind.ADJUSTMENTS)
        return _post(
            key=f"adjustment:{key}",
            kind=Transfer.Kind.ADJUSTMENT,
            debit=adjustments if amount > 0 else wallet,
            credit=wallet if amount > 0 else adjustments,
            amount=abs(amount),
            reason=reason,
            made_by=made_by.email,
        )


def house(kind: Account.Kind) -> Account:
    """One of the house's accounts; the migration made them. The id is stable, so it is looked up once."""
    if kind not in _house:
        _house[kind] = Account.objects.get(kind=kind)
    return _house[kind]


_house: dict[str, Account] = {}


def _open_wallet(user: User) -> Account:
    """The wallet of somebody who has none yet. User.DoesNotExist if they are being deleted: theirs is nobody's now."""
    User.objects.select_for_update(no_key=True).get(pk=user.pk)
    wallet = Account(kind=Account.Kind.WALLET, user=user, is_demo=user.email in DEMO_EMAILS)
    Account.objects.bulk_create([wallet], ignore_conflicts=True)
    wallet = Account.objects.select_for_update().get(user=user)
    if given := welcome.credits_for(user):
        _post(
            key=f"signup:{user.pk}",
            kind=Transfer.Kind.SIGNUP,
            debit=house(Account.Kind.SIGNUP),
            credit=wallet,
            amount=given,
        )
    return wallet


def _locking(lock: Statement[Any], then: tuple[Statement[Any], ...]) -> list[Any]:
    if not connection.in_atomic_block:
        raise transaction.TransactionManagementError("a wallet is locked until a transaction ends: begin one")
    return run(lock, *then)


def _one(rows: Rows) -> Any:
    return rows[0] if rows else None


def _post(
    *,
    key: str,
    kind: Transfer.Kind,
    debit: Account,
    credit: Account,
    amount: int,
    hold: Hold | None = None,
    order: Order | None = None,
    source: Transfer | None = None,
    expires_at: datetime | None = None,
    reason: str = "",
    made_by: str = "",
) -> Transfer:
    """Append a transfer, or find the one that this key made before; KeyReused if that one differs.

    The wallet among the two accounts is locked by the caller, so the balance told here is the one that
    PostgreSQL will find, and a repeated key is seen before it is inserted. InsufficientCredits for an
    adjustment beyond what is available.
    """
    content = {
        "kind": kind,
        "debit_id": debit.pk,
        "credit_id": credit.pk,
        "amount": amount,
        "hold_id": hold and hold.pk,
        "order_id": order and order.pk,
        "source_id": source and source.pk,
        "expires_at": expires_at,
        "reason": reason,
        "made_by": made_by,
    }
    if before := _made_before(key, content):
        return before
    if kind == Transfer.Kind.ADJUSTMENT and debit.kind == Account.Kind.WALLET and amount > debit.available:
        raise InsufficientCredits(available=debit.available, needed=amount)
    return _append(key, content, debit, credit)


def _made_before(key: str, content: dict[str, Any]) -> Transfer | None:
    """The transfer that this key made before; KeyReused if it is of other content."""
    before = Transfer.objects.filter(key=key).first()
    if before and any(getattr(before, name) != value for name, value in content.items()):
        raise KeyReused(f"transfer {key} exists with other content")
    return before


def _append(key: str, content: dict[str, Any], debit: Account, credit: Account) -> Transfer:
    """Insert a transfer, and have the wallet among its two accounts follow as PostgreSQL has its row follow."""
    amount = content["amount"]
    wallet, change = (debit, -amount) if debit.kind == Account.Kind.WALLET else (credit, amount)
    balance_after = wallet.balance + change if wallet.kind == Account.Kind.WALLET else None
    try:
        with transaction.atomic():
            made = Transfer.objects.create(key=key, balance_after=balance_after, **content)
    except IntegrityError as error:
        if Transfer.objects.filter(key=key).exists():  # used for another wallet in this very moment
            raise KeyReused(f"transfer {key} exists with other content") from error
        raise
    if balance_after is not None:
        wallet.balance = balance_after
    return made


# --- What every turn sends ----------------------------------------------------------------------------------
#
# A turn takes two transactions, each of which locks the wallet and then does its step: one statement for each. They
# are written out because they bound how many turns a database serves, and how long the other turns of a busy wallet
# wait: the ORM would need seven, and more time to build them than PostgreSQL takes to answer.

# What a turn needs of its wallet; whoever wants more of it asks for it.
ACCOUNT_FIELDS = ["id", "kind", "user_id", "balance", "held"]

# What is due is asked once the lock is there: what others did while this waited counts.
LOCK_OF_PERSON = f"""
    WITH locked AS MATERIALIZED (
        SELECT {", ".join(ACCOUNT_FIELDS)} FROM billing_account WHERE user_id = %(user)s FOR UPDATE
    )
    SELECT {", ".join(ACCOUNT_FIELDS)}, billing_is_due(id) FROM locked
"""  # noqa: S608  the names of our own columns

LOCK_OF_HOLD = f"""
    SELECT {", ".join(f"account.{name}" for name in ACCOUNT_FIELDS)}
    FROM billing_account account JOIN billing_hold hold ON hold.account_id = account.id
    WHERE hold.id = %(hold)s FOR UPDATE OF account
"""  # noqa: S608  the names of our own columns

# Nothing where the credits are there no more: a lot can expire after the wallet was locked. The trigger looks at the
# same moment, that of the statement, and so finds the same.
HOLD = """
    INSERT INTO billing_hold (id, account_id, amount, state)
    SELECT %(hold)s, account.id, %(amount)s, 'pending' FROM billing_account account
    WHERE account.id = %(wallet)s AND (
        NOT billing_is_due(account.id)
        OR account.balance - account.held - %(amount)s
            >= (SELECT COALESCE(sum(amount), 0) FROM billing_expirable(account.id))
    )
"""

# Its parts see the hold as it was before; the triggers come after them all and see it ended.
SETTLE = """
    WITH ended AS (
        UPDATE billing_hold
        SET state = CASE %(price)s WHEN 0 THEN 'released' ELSE 'settled' END, ended_at = statement_timestamp()
        WHERE id = %(hold)s AND account_id = %(wallet)s AND state = 'pending'
        RETURNING id, amount, LEAST(amount, %(price)s) AS charged
    ), booked AS (
        INSERT INTO billing_transfer
            (key, kind, debit_id, credit_id, amount, balance_after, hold_id, reason, made_by)
        SELECT 'charge:' || id, 'charge', %(wallet)s, %(usage)s, charged, %(balance)s - charged, id, '', ''
        FROM ended WHERE charged <> 0
        UNION ALL
        SELECT 'overrun:' || id, 'overrun', %(overruns)s, %(usage)s, %(price)s - charged, NULL, id, '', ''
        FROM ended WHERE charged < %(price)s
    )
    SELECT FROM ended
"""

# All statements of one round trip have the same time.
HELD_NOW = "SELECT FROM billing_hold WHERE id = %(hold)s AND created_at = statement_timestamp()"
ENDED_NOW = """
    SELECT FROM billing_hold WHERE id = %(hold)s AND ended_at = statement_timestamp() AND amount = %(held)s
"""
