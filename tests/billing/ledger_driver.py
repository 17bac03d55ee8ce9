"""The real ledger, driven by the steps of ledger_model.py and told in its words.

People, orders and turns have numbers here, and times are days since the beginning, as in the model. A day passes by
making everything a day older, so nothing waits.
"""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count
from typing import Any

import psycopg
from django.core.exceptions import ObjectDoesNotExist
from django.db import (
    DEFAULT_DB_ALIAS,
    DatabaseError,
    IntegrityError,
    OperationalError,
    connections,
    transaction,
)
from psycopg.pq import TransactionStatus

from accounts.models import User
from billing import ledger
from billing.errors import BillingError, InsufficientCredits
from billing.models import Account, Order, Transfer
from tests.billing.books import close_turn, open_turn, order, pay, sql, unguarded, wallet_of
from tests.billing.ledger_model import (
    Adjust,
    Books,
    Close,
    Expire,
    Expired,
    GiveBack,
    Grant,
    Held,
    Moved,
    Open,
    Pay,
    Refused,
    Reply,
    Settled,
    Step,
    TakeBack,
)

DAY = timedelta(days=1)


@dataclass(frozen=True)
class Attempt:
    """A step, and before which exchange with PostgreSQL its connection is cut, if it is: see `cut`."""

    step: Step
    cut_at: int | None = None


@dataclass(frozen=True)
class Lost:
    """What is known of a step whose connection was cut. `done`: its COMMIT had been done by then."""

    done: bool


State = dict[str, Any]


@dataclass
class Driver:
    """Two people and their orders on PostgreSQL, and what has been done with them."""

    people: list[User]
    orders: dict[int, uuid.UUID]
    beginning: datetime
    tag: str = field(default_factory=lambda: uuid.uuid4().hex)
    _holds: dict[int, uuid.UUID] = field(default_factory=dict)

    @classmethod
    def of(cls, books: Books) -> "Driver":
        """What `books` begin with, on PostgreSQL."""
        people = [User.objects.create_user(f"{uuid.uuid4()}@example.org") for _ in books.balances]
        beginning: datetime = sql("SELECT clock_timestamp()")[0][0]
        driver = cls(people, {}, beginning)
        for number, wanted in books.orders.items():
            expires = driver._moment(wanted.expires)
            ordered = order(people[wanted.wallet], wanted.credits, credits_expire_at=expires)
            driver.orders[number] = ordered.pk
        for person in people:
            wallet_of(person)
        return driver

    # --- Doing

    def attempt(self, attempt: Attempt) -> Reply | Lost:
        """Take the step; Lost if its connection was cut before the reply came."""
        with cut(attempt.cut_at) as cutting:
            try:
                return self._take(attempt.step)
            except InsufficientCredits as refusal:
                return Refused("InsufficientCredits", refusal.available, refusal.needed)
            except (BillingError, ObjectDoesNotExist) as refusal:
                return Refused(type(refusal).__name__)
            except IntegrityError as refusal:
                return Refused(_rule_of(refusal))
            except DatabaseError:
                if cutting.lost is None:
                    raise
                return cutting.lost

    def let_a_day_pass(self) -> None:
        """By making everything of these people a day older."""
        self.beginning -= DAY
        wallets = self._wallets()
        with unguarded("billing_hold", "billing_lot", "billing_transfer", "billing_order"):
            sql(
                "UPDATE billing_hold SET created_at = created_at - interval '1 day' WHERE account_id = ANY(%s)",
                wallets,
            )
            sql(
                "UPDATE billing_lot SET expires_at = expires_at - interval '1 day' WHERE account_id = ANY(%s)",
                wallets,
            )
            sql(
                "UPDATE billing_transfer SET expires_at = expires_at - interval '1 day',"
                " created_at = created_at - interval '1 day' WHERE debit_id = ANY(%s) OR credit_id = ANY(%s)",
                *(wallets, wallets),
            )
            sql(
                "UPDATE billing_order SET credits_expire_at = credits_expire_at - interval '1 day' WHERE id = ANY(%s)",
                list(self.orders.values()),
            )

    def _take(self, step: Step) -> Reply:
        match step:
            case Open(wallet, hold, amount):
                open_turn(self.people[wallet], amount, id=self._hold(hold))
                return Held(amount)
            case Close(hold, price):
                settlement = close_turn(self._hold(hold), price)
                return Settled(settlement.charged, settlement.overrun)
            case Expire(wallet):
                with transaction.atomic():
                    locked = Account.objects.select_for_update().get(user=self.people[wallet])
                    return Expired(tuple(transfer.amount for transfer in ledger.expire(locked)))
            case Pay(number, credits):
                paid = Order.objects.select_related("user").get(pk=self.orders[number])
                paid.credits_microcredits = credits
                return self._moved(pay(paid))
            case Grant(wallet, key, amount, expires):
                person = self.people[wallet]
                return self._moved(
                    ledger.grant(
                        user=person,
                        amount=amount,
                        reason="A gift",
                        made_by=self.people[0],
                        key=f"{self.tag}-{key}",
                        expires_at=self._moment(expires),
                    )
                )
            case Adjust(wallet, key, amount):
                person, operator = self.people[wallet], self.people[0]
                key_of_it = f"{self.tag}-{key}"
                return self._moved(
                    ledger.adjust(user=person, amount=amount, reason="r", made_by=operator, key=key_of_it)
                )
            case TakeBack(number, key, kind, amount) | GiveBack(number, key, kind, amount):
                reversed_order = Order.objects.select_related("user").get(pk=self.orders[number])
                undo = isinstance(step, GiveBack)
                with transaction.atomic():
                    assert reversed_order.user is not None
                    wallet_of_it = ledger.locked_wallet_of(reversed_order.user)
                    about = {
                        "wallet": wallet_of_it,
                        "order": reversed_order,
                        "kind": Transfer.Kind(kind),
                        "amount": amount,
                        "key": f"{kind}:{self.tag}-{key}",
                        "reason": "",
                    }
                    made = ledger.give_back(**about) if undo else ledger.reverse(**about, made_by="")
                return self._moved(made)

    # --- Telling

    def state(self) -> State:
        """Everything that these people's books say, read anew; `state_of(books)` is the model's."""
        wallets = self._wallets()
        number_of = {pk: number for number, pk in enumerate(wallets)}
        holds = {pk: number for number, pk in self._holds.items()}
        names: dict[int, str] = {}
        transfers: list[list[tuple[Any, ...]]] = [[] for _ in wallets]
        for pk, key, kind, debit, credit, amount, after, hold, source, expires in sql(
            "SELECT t.id, t.key, t.kind, t.debit_id, t.credit_id, t.amount, t.balance_after, h.account_id, t.source_id,"
            " t.expires_at FROM billing_transfer t LEFT JOIN billing_hold h ON h.id = t.hold_id"
            " WHERE t.debit_id = ANY(%s) OR t.credit_id = ANY(%s)"
            " OR t.kind = 'overrun' AND h.account_id = ANY(%s) ORDER BY t.id",
            *(wallets, wallets, wallets),
        ):
            if kind == "expiry":
                names[pk] = f"expiry:{names[source]}:{key.rpartition(':')[2]}"
            else:
                names[pk] = self._name(key)
            change = -amount if debit in number_of else amount if credit in number_of else 0
            wallet = debit if change < 0 else credit if change else hold
            transfers[number_of[wallet]].append((names[pk], kind, change, amount, after, self._day(expires)))
        return {
            "wallets": sql(
                "SELECT balance, held FROM billing_account WHERE id = ANY(%s) ORDER BY id", wallets
            ),
            "transfers": transfers,
            "holds": {
                holds[pk]: (number_of[wallet], amount, state)
                for pk, wallet, amount, state in sql(
                    "SELECT id, account_id, amount, state FROM billing_hold WHERE account_id = ANY(%s)",
                    wallets,
                )
            },
            "lots": {
                names[pk]: (number_of[wallet], remaining, self._day(expires))
                for pk, wallet, remaining, expires in sql(
                    "SELECT transfer_id, account_id, remaining, expires_at FROM billing_lot WHERE account_id = ANY(%s)",
                    wallets,
                )
            },
            "uses": {
                (names[lot], names[transfer]): amount
                for lot, transfer, amount in sql(
                    "SELECT u.lot_id, u.transfer_id, u.amount FROM billing_lotuse u"
                    " JOIN billing_lot l ON l.transfer_id = u.lot_id WHERE l.account_id = ANY(%s)",
                    wallets,
                )
            },
        }

    def _moved(self, made: Transfer) -> Moved:
        change = made.amount if made.credit_id in self._wallets() else -made.amount
        assert made.balance_after is not None
        return Moved(self._name(made.key), change, made.balance_after)

    def _name(self, key: str) -> str:
        """A key with our numbers in it instead of ids."""
        kind, _, about = key.partition(":")
        about = about.removeprefix(f"{self.tag}-")
        people = {number: person.pk for number, person in enumerate(self.people)}
        for numbers in (people, self._holds, self.orders):
            about = next((str(number) for number, pk in numbers.items() if str(pk) == about), about)
        return f"{kind}:{about}"

    def _wallets(self) -> list[int]:
        people = [person.pk for person in self.people]
        return [
            pk for (pk,) in sql("SELECT id FROM billing_account WHERE user_id = ANY(%s) ORDER BY id", people)
        ]

    def _hold(self, number: int) -> uuid.UUID:
        return self._holds.setdefault(number, uuid.uuid4())

    def _moment(self, day: float | None) -> datetime | None:
        return None if day is None else self.beginning + day * DAY

    def _day(self, moment: datetime | None) -> float | None:
        return None if moment is None else (moment - self.beginning) / DAY


def state_of(books: Books) -> State:
    """The model's books in the words of `Driver.state`."""
    return {
        "wallets": [(balance, books.held(wallet)) for wallet, balance in enumerate(books.balances)],
        "transfers": [
            [
                (made.key, made.kind, made.change, made.amount, made.balance, made.expires)
                for made in books.transfers
                if made.wallet == wallet
            ]
            for wallet, _ in enumerate(books.balances)
        ],
        "holds": {number: (hold.wallet, hold.amount, hold.state) for number, hold in books.holds.items()},
        "lots": {lot.key: (lot.wallet, lot.remaining, lot.expires) for lot in books.lots},
        "uses": {(lot, transfer): amount for lot, transfer, amount in books.uses},
    }


@dataclass
class Cutting:
    """What has become of a connection that is to be cut."""

    committed: bool = False
    lost: Lost | None = None


@contextmanager
def cut(at: int | None) -> Iterator[Cutting]:
    """PostgreSQL ends this thread's connection before its `at`th exchange from here.

    What is sent together is one exchange. A COMMIT, or what ends with one, is two: it may be done when its answer is
    lost.
    """
    cutting, db = Cutting(), connections[DEFAULT_DB_ALIAS]
    if at is None:
        yield cutting
        return
    exchanges, commit = count(), db._commit

    def exchange() -> None:
        if next(exchanges) == at:
            cutting.lost = Lost(cutting.committed)
            with suppress(psycopg.Error):
                db.connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    def be_told_of_the_commit() -> None:
        cutting.committed = True
        exchange()
        if cutting.lost is not None:
            raise OperationalError("the answer to COMMIT is lost")

    def statement(execute: Any, query: str, *arguments: Any) -> Any:
        exchange()
        answer = execute(query, *arguments)
        if query.endswith(";\nCOMMIT"):
            be_told_of_the_commit()
        return answer

    def commit_and_be_told() -> None:
        # It may have gone with the last statements.
        if db.connection.info.transaction_status == TransactionStatus.IDLE:
            return
        exchange()
        commit()
        be_told_of_the_commit()

    db._commit = commit_and_be_told
    try:
        with db.execute_wrapper(statement):
            yield cutting
    finally:
        del db._commit
        if cutting.lost is not None:
            db.close()


def _rule_of(refusal: IntegrityError) -> str:
    """The constraint that refused, or what a trigger said."""
    diagnosis = refusal.__cause__.diag if isinstance(refusal.__cause__, psycopg.Error) else None
    assert diagnosis is not None
    return diagnosis.constraint_name or diagnosis.message_primary or ""
