"""The audit: right books pass, and each way to break them is seen, in the row where it is."""

import json
import re
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from io import StringIO
from typing import Any

import pytest
from django.apps import apps
from django.core.management import CommandError, call_command
from django.db import connections, transaction
from django.db.models import Q
from django.db.models.functions import Now
from django.db.utils import OperationalError

from accounts.models import User
from billing import audit
from billing.audit import Rule, guards
from billing.audit.guards import Guards
from billing.credits import as_string
from billing.models import Account, LanguageModel, Order, Price, StripeEvent, Transfer
from chatapp.conversations.models import Turn
from chatapp.streaming.audit import RULES, TURNS
from tests.billing.books import (
    CREDIT,
    close_turn,
    grant,
    nothing_looks,
    open_turn,
    order,
    pay,
    sql,
    take_back,
    wallet_of,
)

# Alice's turns: what was held for them, and what they cost.
HELD, PRICE = 1_000, 400
BOUGHT = 500


@dataclass
class Books:
    """Right books with one of everything that can happen in them, all of it alice's."""

    alice: User
    bob: User
    wallet: Account
    bobs: Account
    bought: Order
    unpaid: Order
    settled: uuid.UUID
    overrun: uuid.UUID
    failed: uuid.UUID
    running: uuid.UUID

    def transfer(self, key: str) -> int:
        return Transfer.objects.get(key=key).pk

    @property
    def balance(self) -> int:
        self.wallet.refresh_from_db()
        return self.wallet.balance

    def move(self, wallet: Account, change: int, kind: str, house: str, **fields: object) -> int:
        """A transfer that no trigger looks at, with the balance it should have told and made: the transfer's id."""
        other = Account.objects.get(kind=house)
        debit, credit = (other, wallet) if change > 0 else (wallet, other)
        wallet.refresh_from_db()
        after = wallet.balance + change
        Account.objects.filter(pk=wallet.pk).update(balance=after)
        return Transfer.objects.create(
            kind=kind,
            debit=debit,
            credit=credit,
            amount=abs(change),
            balance_after=after,
            reason="unseen",
            made_by="nobody",
            **{"key": uuid.uuid4().hex, **fields},
        ).pk


@pytest.fixture
def books(alice: User, bob: User) -> Books:
    bought = order(alice, BOUGHT)
    pay(bought)
    settled, overrun, failed, running = (open_turn(alice, HELD) for _ in range(4))
    close_turn(settled, PRICE)
    close_turn(overrun, HELD + 7)
    close_turn(failed, 0)
    wallet = wallet_of(alice)
    return Books(
        alice, bob, wallet, wallet_of(bob), bought, order(alice, 9), settled, overrun, failed, running
    )


def gone_line(table: str, name: str, found: str = "none") -> str:
    """That a constraint of the ledger's is not there, or another than it was."""
    made = guards.LEDGER.constraints[table, name]
    return f"constraint: constraint {name} on {table}: expected valid, {made}, found {found}"


def lines() -> set[str]:
    """Every broken row that the audit finds now."""
    return {str(row) for rows in audit.prove(RULES).broken.values() for row in rows}


@pytest.fixture
def found(books: Books) -> Callable[[], set[str]]:
    """`found()`: what has been broken since, by statements that no trigger and no foreign key looked at."""
    nothing_looks()
    before = lines()
    return lambda: lines() - before


Found = Callable[[], set[str]]


def test_right_books_have_no_broken_row(books: Books) -> None:
    report = audit.prove(RULES)
    touched = {books.wallet.pk, books.settled, books.overrun, books.failed, books.running, books.bought.pk}
    assert not [
        row
        for rows in report.broken.values()
        for row in rows
        if any(str(row_id) in row.row for row_id in touched)
    ]
    assert set(report.broken) == {rule.name for rule in RULES}
    assert report.transfers == Transfer.objects.count()
    assert report.pending_holds >= 1
    assert report.held >= HELD


# --- Balances --------------------------------------------------------------------------------------------


def test_a_balance_that_is_not_the_sum_of_its_transfers(books: Books, found: Found) -> None:
    right = books.balance
    sql("UPDATE billing_account SET balance = balance + 5 WHERE id = %s", books.wallet.pk)
    assert found() == {
        f"balance: account {books.wallet.pk}: expected {right}, found {right + 5}",
        "sum: all accounts: expected 0, found 5",
    }


def test_a_transfer_that_is_gone(books: Books, found: Found) -> None:
    right, gone = books.balance, books.transfer(f"purchase:{books.bought.pk}")
    after = books.transfer(f"charge:{books.settled}")
    sql("DELETE FROM billing_transfer WHERE id = %s", gone)
    welcome = 100 * CREDIT
    assert found() == {
        f"balance: account {books.wallet.pk}: expected {right - BOUGHT}, found {right}",
        f"sum: all accounts: expected 0, found {BOUGHT}",
        f"chain: transfer {after}: expected {welcome - PRICE}, found {welcome - PRICE + BOUGHT}",
        f"purchase: order {books.bought.pk}: expected one purchase of {BOUGHT} by {books.alice.pk}, found none",
    }


def test_an_amount_that_was_changed(books: Books, found: Found) -> None:
    right, changed = books.balance, books.transfer(f"charge:{books.settled}")
    told = Transfer.objects.get(pk=changed).balance_after
    assert told is not None
    sql("UPDATE billing_transfer SET amount = amount - 1 WHERE id = %s", changed)
    assert found() == {
        f"balance: account {books.wallet.pk}: expected {right + 1}, found {right}",
        "sum: all accounts: expected 0, found -1",
        f"chain: transfer {changed}: expected {told + 1}, found {told}",
        f"turn_charge: turn {books.settled}: expected charged {PRICE - 1}, overrun 0, found charged {PRICE}, overrun 0",
    }


def test_a_balance_told_wrongly(books: Books, found: Found) -> None:
    right, last = books.balance, books.transfer(f"charge:{books.overrun}")
    sql("UPDATE billing_transfer SET balance_after = balance_after + 1 WHERE id = %s", last)
    assert found() == {f"chain: transfer {last}: expected {right}, found {right + 1}"}
    sql("UPDATE billing_transfer SET balance_after = NULL WHERE id = %s", last)
    assert found() == {f"chain: transfer {last}: expected {right}, found none"}


def test_a_balance_told_where_there_is_none(books: Books, found: Found) -> None:
    overrun = books.transfer(f"overrun:{books.overrun}")
    sql("UPDATE billing_transfer SET balance_after = 5 WHERE id = %s", overrun)
    assert found() == {f"chain: transfer {overrun}: expected none, found 5"}


def test_the_house_with_a_balance(books: Books, found: Found) -> None:
    usage = Account.objects.get(kind="usage").pk
    name = "only_wallets_have_owners_and_balances"
    sql(f"ALTER TABLE billing_account DROP CONSTRAINT {name}")
    sql("UPDATE billing_account SET balance = 5 WHERE id = %s", usage)
    assert found() == {
        f"house: account {usage}: expected balance 0, held 0, found balance 5, held 0",
        gone_line("billing_account", name),
    }


def test_more_or_less_held_than_the_pending_holds(books: Books, found: Found) -> None:
    for wrong in (0, HELD + 1):
        sql("UPDATE billing_account SET held = %s WHERE id = %s", wrong, books.wallet.pk)
        assert found() == {f"held: account {books.wallet.pk}: expected {HELD}, found {wrong}"}


def test_a_wallet_overdrawn_without_a_reversal(books: Books, found: Found) -> None:
    for kind, house in (("adjustment", "adjustments"), ("charge", "usage")):
        made = books.move(books.wallet, -books.balance - 1, kind, house, hold_id=books.running)
        told = "an adjustment" if kind == "adjustment" else "a charge"
        assert f"overdrawn: transfer {made}: expected no less than 0 after {told}, found -1" in found()
        books.move(books.wallet, 2, "adjustment", "adjustments")


def test_a_wallet_overdrawn_long_after_its_reversal(books: Books, found: Found) -> None:
    """What was given back once explains no debt of later."""
    books.move(books.wallet, -BOUGHT, "refund", "stripe", order=books.bought)
    assert found() == set()
    made = books.move(books.wallet, -books.balance - 1, "adjustment", "adjustments")
    assert f"overdrawn: transfer {made}: expected no less than 0 after an adjustment, found -1" in found()


def test_a_wallet_that_holds_more_than_it_has(books: Books, found: Found) -> None:
    books.move(books.wallet, -books.balance + HELD - 1, "adjustment", "adjustments")
    line = f"overheld: account {books.wallet.pk}: expected at most {HELD - 1} held, found {HELD}"
    assert found() == {line}
    books.move(books.wallet, -1, "refund", "stripe", order=books.bought)
    assert found() == set(), "its hold was there before"
    below = books.move(books.wallet, -HELD, "charge", "usage", hold_id=books.running)
    assert not {row for row in found() if f"transfer {below}:" in row}


# --- What moved ------------------------------------------------------------------------------------------


def test_a_transfer_between_accounts_that_are_not_its_kinds(books: Books, found: Found) -> None:
    charge = books.transfer(f"charge:{books.settled}")
    sql(
        "UPDATE billing_transfer SET credit_id = (SELECT id FROM billing_account WHERE kind = 'signup') WHERE id = %s",
        charge,
    )
    assert found() == {f"route: transfer {charge}: expected the accounts of a charge, found wallet to signup"}


def test_a_transfer_from_nowhere(books: Books, found: Found) -> None:
    purchase = books.transfer(f"purchase:{books.bought.pk}")
    sql("UPDATE billing_transfer SET debit_id = 0 WHERE id = %s", purchase)
    assert found() == {
        f"route: transfer {purchase}: expected the accounts of a purchase, found none to wallet",
        f"sum: all accounts: expected 0, found {BOUGHT}",
    }


def test_a_transfer_from_wallet_to_wallet(books: Books, found: Found) -> None:
    right = wallet_of(books.bob).balance
    given = books.move(books.wallet, -5, "adjustment", "adjustments")
    sql("UPDATE billing_transfer SET credit_id = %s WHERE id = %s", books.bobs.pk, given)
    assert {line for line in found() if not line.startswith("chain")} == {
        f"route: transfer {given}: expected the accounts of an adjustment, found wallet to wallet",
        f"balance: account {books.bobs.pk}: expected {right + 5}, found {right}",
        "sum: all accounts: expected 0, found -5",
    }


def one_charge(books: Books) -> str:
    return f"one charge of at most {HELD} to account {books.wallet.pk}"


def test_a_settled_hold_without_a_charge(books: Books, found: Found) -> None:
    sql("UPDATE billing_hold SET state = 'settled' WHERE id = %s", books.failed)
    assert found() == {f"charge: hold {books.failed}: expected {one_charge(books)}, found none"}


@pytest.mark.parametrize("state", ["released", "pending"])
def test_a_charge_of_a_hold_that_is_not_settled(books: Books, found: Found, state: str) -> None:
    ended = "NULL" if state == "pending" else "now()"
    sql(f"UPDATE billing_hold SET state = %s, ended_at = {ended} WHERE id = %s", state, books.settled)
    charge = (
        f"charge: hold {books.settled}: expected no charge of a {state} hold,"
        f" found 1 of together {PRICE} to account {books.wallet.pk}"
    )
    assert charge in found()
    if state == "released":
        assert found() == {charge}


def test_a_charge_beyond_its_hold(books: Books, found: Found) -> None:
    sql("UPDATE billing_hold SET amount = %s WHERE id = %s", PRICE - 1, books.settled)
    assert found() == {
        f"charge: hold {books.settled}: expected one charge of at most {PRICE - 1} to account {books.wallet.pk},"
        f" found 1 of together {PRICE} to account {books.wallet.pk}",
        f"turn_hold: turn {books.settled}: expected an ended hold of {HELD}, found a settled hold of {PRICE - 1}",
    }


def test_a_charge_for_somebody_elses_hold(books: Books, found: Found) -> None:
    sql("UPDATE billing_hold SET account_id = %s WHERE id = %s", books.bobs.pk, books.settled)
    assert found() == {
        f"charge: hold {books.settled}: expected one charge of at most {HELD} to account {books.bobs.pk},"
        f" found 1 of together {PRICE} to account {books.wallet.pk}",
        f"turn_wallet: turn {books.settled}: expected a hold on the wallet of {books.alice.pk},"
        f" found on account {books.bobs.pk} of {books.bob.pk}",
    }


def test_a_hold_charged_twice(books: Books, found: Found) -> None:
    sql("DROP INDEX one_charge_per_hold")
    books.move(books.wallet, -3, "charge", "usage", hold_id=books.settled)
    assert found() == {
        gone_line("billing_transfer", "one_charge_per_hold"),
        f"charge: hold {books.settled}: expected {one_charge(books)},"
        f" found 2 of together {PRICE + 3} to account {books.wallet.pk}",
        f"turn_charge: turn {books.settled}: expected charged {PRICE + 3}, overrun 0, found charged {PRICE}, overrun 0",
    }


def test_a_charge_whose_hold_is_gone(books: Books, found: Found) -> None:
    sql("DELETE FROM billing_hold WHERE id = %s", books.settled)
    assert found() == {
        f"charge: hold {books.settled}: expected no charge of a missing hold,"
        f" found 1 of together {PRICE} to account {books.wallet.pk}",
        f"turn_hold: turn {books.settled}: expected an ended hold of {HELD}, found none",
    }


def test_an_overrun_of_a_hold_that_was_not_used_up(books: Books, found: Found) -> None:
    sql("UPDATE billing_transfer SET hold_id = %s WHERE key = %s", books.settled, f"overrun:{books.overrun}")
    Turn.objects.filter(pk=books.settled).update(overrun=7)
    Turn.objects.filter(pk=books.overrun).update(overrun=0)
    assert found() == {
        due_line(books.settled, due=PRICE, paid=PRICE + 7, cost=PRICE),
        due_line(books.overrun, due=HELD + 7, paid=HELD, cost=HELD + 7),
        f"overrun: hold {books.settled}: expected one overrun, of a hold that is charged in full,"
        f" found 1 of a hold of {HELD}, charged {PRICE}",
    }


# --- What expires ----------------------------------------------------------------------------------------

GIVEN, USED = 50, 20


@dataclass
class Gift:
    """Credits of alice's that expire, of which a turn has used some."""

    lot: int
    charge: int

    @property
    def use(self) -> int:
        """The turn's, of the lot."""
        [line] = sql(
            "SELECT id FROM billing_lotuse WHERE lot_id = %s AND transfer_id = %s", self.lot, self.charge
        )
        return int(line[0])

    @property
    def told(self) -> str:
        """As the audit tells what its transfer brought."""
        [line] = sql(
            "SELECT concat('a lot of ', amount, ' on account ', credit_id, ' until ', expires_at)"
            " FROM billing_transfer WHERE id = %s",
            self.lot,
        )
        return str(line[0])

    def expire(self, ago: str) -> None:
        for table, key in (("billing_lot", "transfer_id"), ("billing_transfer", "id")):
            sql(f"UPDATE {table} SET expires_at = now() - %s::interval WHERE {key} = %s", ago, self.lot)


@pytest.fixture
def gift(books: Books) -> Gift:
    given = grant(books.alice, GIVEN, expires_at=sql("SELECT now() + interval '30 days'")[0][0])
    turn = open_turn(books.alice, USED)
    close_turn(turn, USED)
    return Gift(given.pk, books.transfer(f"charge:{turn}"))


def test_a_lot_that_is_gone(books: Books, gift: Gift, found: Found) -> None:
    sql("DELETE FROM billing_lot WHERE transfer_id = %s", gift.lot)
    assert found() == {f"lot: transfer {gift.lot}: expected {gift.told}, found none"}


def test_a_lot_of_credits_that_do_not_expire(books: Books, gift: Gift, found: Found) -> None:
    told = gift.told
    sql("UPDATE billing_transfer SET expires_at = NULL WHERE id = %s", gift.lot)
    assert found() == {f"lot: transfer {gift.lot}: expected no lot, found {told}"}


def test_a_lot_that_lasts_longer_than_was_said(books: Books, gift: Gift, found: Found) -> None:
    right = gift.told
    sql("UPDATE billing_lot SET expires_at = expires_at + interval '1 s' WHERE transfer_id = %s", gift.lot)
    [line] = found()
    assert line.startswith(f"lot: transfer {gift.lot}: expected {right}, found a lot of {GIVEN} on account")


def test_a_lot_of_more_than_was_given(books: Books, gift: Gift, found: Found) -> None:
    right = gift.told
    sql("UPDATE billing_lot SET amount = amount + 1 WHERE transfer_id = %s", gift.lot)
    wrong = right.replace(f"a lot of {GIVEN}", f"a lot of {GIVEN + 1}")
    assert found() == {
        f"lot: transfer {gift.lot}: expected {right}, found {wrong}",
        f"lot_left: lot {gift.lot}: expected {GIVEN + 1 - USED}, found {GIVEN - USED}",
        f"lot_chain: lot use {gift.use}: expected {GIVEN + 1 - USED}, found {GIVEN - USED}",
    }


def test_a_lot_in_anothers_wallet(books: Books, gift: Gift, found: Found) -> None:
    sql("UPDATE billing_lot SET account_id = %s WHERE transfer_id = %s", books.bobs.pk, gift.lot)
    wrong = gift.told.replace(f"account {books.wallet.pk}", f"account {books.bobs.pk}")
    assert found() == {
        f"lot: transfer {gift.lot}: expected {gift.told}, found {wrong}",
        f"lot_use: transfer {gift.charge}: expected at most {USED} of lots of account {books.wallet.pk},"
        f" found {USED} of lots {gift.lot} of account {books.bobs.pk}",
    }


@pytest.mark.parametrize("wrong", [GIVEN - USED - 1, GIVEN - USED + 1])
def test_more_or_less_left_of_a_lot_than_was_not_used(
    books: Books, gift: Gift, found: Found, wrong: int
) -> None:
    sql("UPDATE billing_lot SET remaining = %s WHERE transfer_id = %s", wrong, gift.lot)
    assert found() == {f"lot_left: lot {gift.lot}: expected {GIVEN - USED}, found {wrong}"}


def test_a_use_of_a_lot_that_is_gone(books: Books, gift: Gift, found: Found) -> None:
    sql("DELETE FROM billing_lotuse WHERE lot_id = %s", gift.lot)
    assert found() == {
        f"lot_left: lot {gift.lot}: expected {GIVEN}, found {GIVEN - USED}",
        f"lot_passed_over: transfer {gift.charge}: expected {USED} of lots, while lot {gift.lot} was there,"
        " found 0 of lots",
    }


def test_a_use_that_tells_another_rest_of_its_lot(books: Books, gift: Gift, found: Found) -> None:
    sql("UPDATE billing_lotuse SET remaining_after = remaining_after - 1 WHERE lot_id = %s", gift.lot)
    assert found() == {f"lot_chain: lot use {gift.use}: expected {GIVEN - USED}, found {GIVEN - USED - 1}"}


def test_a_transfer_that_used_more_of_a_lot_than_it_moved(books: Books, gift: Gift, found: Found) -> None:
    sql("UPDATE billing_lotuse SET amount = amount + 1 WHERE lot_id = %s", gift.lot)
    assert found() == {
        f"lot_left: lot {gift.lot}: expected {GIVEN - USED - 1}, found {GIVEN - USED}",
        f"lot_chain: lot use {gift.use}: expected {GIVEN - USED - 1}, found {GIVEN - USED}",
        f"lot_use: transfer {gift.charge}: expected at most {USED} of lots of account {books.wallet.pk},"
        f" found {USED + 1} of lots {gift.lot} of account {books.wallet.pk}",
    }


def test_an_expiry_that_used_nothing_or_less_than_it_booked(books: Books, gift: Gift, found: Found) -> None:
    gift.expire("1 minute")
    booked = books.move(books.wallet, USED - GIVEN, "expiry", "expired", source_id=gift.lot)
    expected = f"lot_use: transfer {booked}: expected {GIVEN - USED} of lot {gift.lot}, found"
    assert found() == {f"{expected} 0 of lots none of account none"}
    sql(
        "INSERT INTO billing_lotuse (lot_id, transfer_id, amount, remaining_after) VALUES (%s, %s, %s, 1)",
        *(gift.lot, booked, GIVEN - USED - 1),
    )
    sql("UPDATE billing_lot SET remaining = 1 WHERE transfer_id = %s", gift.lot)
    assert found() == {f"{expected} {GIVEN - USED - 1} of lots {gift.lot} of account {books.wallet.pk}"}


def test_a_lot_that_was_passed_over(books: Books, gift: Gift, found: Found) -> None:
    made = books.move(books.wallet, -7, "adjustment", "adjustments")
    line = f"lot_passed_over: transfer {made}: expected 7 of lots, while lot {gift.lot} was there, found 0 of lots"
    assert found() == {line}
    gift.expire("1 minute")
    assert found() == set()
    sql(
        "UPDATE billing_transfer SET kind = 'purchase', order_id = %s WHERE id = %s",
        books.unpaid.pk,
        gift.lot,
    )
    back = books.move(books.wallet, -7, "refund", "stripe", order=books.unpaid)
    assert any(row.startswith(f"lot_passed_over: transfer {back}: expected 7 of lots") for row in found())


def test_what_expired_an_hour_ago_and_is_not_booked(books: Books, gift: Gift, found: Found) -> None:
    gift.expire("59 minutes")
    assert found() == set()
    gift.expire("61 minutes")
    assert found() == {
        f"expired: lot {gift.lot}: expected nothing left to book, found {GIVEN - USED} to be booked"
    }
    # The answer that is still being written began before, and may need it.
    sql("UPDATE billing_hold SET created_at = now() - interval '2 hours' WHERE id = %s", books.running)
    assert found() == set()


def test_a_wallet_that_has_less_than_is_left_of_its_lots(books: Books, gift: Gift, found: Found) -> None:
    left = GIVEN - USED

    def covered() -> set[str]:
        return {line for line in found() if line.startswith("covered:")}

    books.move(books.wallet, left - books.balance, "adjustment", "adjustments")
    assert covered() == set()
    books.move(books.wallet, -left - 1, "refund", "stripe", order=books.bought)
    assert covered() == {f"covered: account {books.wallet.pk}: expected at most 0 in lots, found {left}"}


def test_a_lot_that_repaid_more_than_its_transfer_brought(books: Books, gift: Gift, found: Found) -> None:
    sql("UPDATE billing_lotuse SET transfer_id = lot_id WHERE lot_id = %s", gift.lot)
    assert not any(line.startswith("lot_use:") for line in found())
    sql("UPDATE billing_lotuse SET amount = %s WHERE lot_id = %s", GIVEN + 1, gift.lot)
    expected = f"lot_use: transfer {gift.lot}: expected at most {GIVEN} of lot {gift.lot}, found {GIVEN + 1}"
    assert any(line.startswith(expected) for line in found())


# --- What was bought -------------------------------------------------------------------------------------


def purchase_line(books: Books, expected: str, found: str) -> str:
    return f"purchase: order {books.bought.pk}: expected {expected}, found {found}"


def test_a_purchase_of_other_credits_than_ordered(books: Books, found: Found) -> None:
    sql("UPDATE billing_order SET credits_microcredits = 50000 WHERE id = %s", books.bought.pk)
    expected = f"one purchase of 50000 by {books.alice.pk}"
    assert found() == {purchase_line(books, expected, f"1 of together {BOUGHT} by {books.alice.pk}")}


def test_a_purchase_of_an_order_that_is_not_paid(books: Books, found: Found) -> None:
    for state in ("open", "failed"):
        sql(
            "UPDATE billing_order SET state = %s, paid_at = NULL, paid_cents = NULL WHERE id = %s",
            state,
            books.bought.pk,
        )
        expected = f"no purchase of an order that is {state}"
        assert found() == {purchase_line(books, expected, f"1 of together {BOUGHT} by {books.alice.pk}")}


def test_a_purchase_in_anothers_wallet(books: Books, found: Found) -> None:
    sql("UPDATE billing_order SET user_id = %s WHERE id = %s", books.bob.pk, books.bought.pk)
    expected = f"one purchase of {BOUGHT} by {books.bob.pk}"
    assert found() == {purchase_line(books, expected, f"1 of together {BOUGHT} by {books.alice.pk}")}


def test_a_purchase_whose_order_is_gone(books: Books, found: Found) -> None:
    sql("DELETE FROM billing_order WHERE id = %s", books.bought.pk)
    expected = "no purchase of a missing order"
    assert found() == {purchase_line(books, expected, f"1 of together {BOUGHT} by {books.alice.pk}")}


def test_an_order_credited_twice(books: Books, found: Found) -> None:
    sql("DROP INDEX one_purchase_per_order")
    books.move(books.wallet, BOUGHT, "purchase", "stripe", order=books.bought)
    expected = f"one purchase of {BOUGHT} by {books.alice.pk}"
    assert found() == {
        gone_line("billing_transfer", "one_purchase_per_order"),
        purchase_line(books, expected, f"2 of together {2 * BOUGHT} by {books.alice.pk}"),
    }


def test_a_paid_order_without_a_purchase(books: Books, found: Found) -> None:
    Order.objects.filter(pk=books.unpaid.pk).update(
        state="paid", paid_at=Now(), paid_cents=1, stripe_session="cs_paid"
    )
    assert found() == {
        f"purchase: order {books.unpaid.pk}: expected one purchase of 9 by {books.alice.pk}, found none"
    }


def session_event(session: str, payment_status: str, outcome: str = "handled") -> None:
    StripeEvent.objects.create(
        id=f"evt_{uuid.uuid4().hex}",
        type="checkout.session.completed",
        payload={"data": {"object": {"id": session, "payment_status": payment_status}}},
        outcome=outcome,
    )


def test_a_paid_session_whose_order_is_not_paid(books: Books, found: Found) -> None:
    Order.objects.filter(pk=books.unpaid.pk).update(stripe_session="cs_lost")
    for payment_status, outcome in (("unpaid", "handled"), ("paid", "failed"), ("paid", "ignored")):
        session_event("cs_lost", payment_status, outcome)
    session_event(f"cs_{books.bought.pk}", "paid")
    assert found() == set()
    sql(
        "UPDATE billing_stripeevent SET received_at = now() - interval '61 minutes' WHERE outcome <> 'handled'"
    )
    lost = f"paid_session: session cs_lost: expected a paid order, found order {books.unpaid.pk} that is open"
    assert found() == {lost}
    for _ in range(2):
        session_event("cs_lost", "paid")
    session_event("cs_free", "no_payment_required")
    assert found() == {
        f"paid_session: session cs_lost: expected a paid order, found order {books.unpaid.pk} that is open",
        "paid_session: session cs_free: expected a paid order, found none",
    }


def test_a_reversal_of_more_than_was_bought(books: Books, found: Found) -> None:
    books.move(books.wallet, -BOUGHT, "refund", "stripe", order=books.bought)
    assert found() == set()
    books.move(books.wallet, -1, "dispute", "stripe", order=books.bought)
    assert found() == {
        f"reversal: order {books.bought.pk}: expected 0 to {BOUGHT} taken back from account {books.wallet.pk},"
        f" found {BOUGHT + 1} taken back from account {books.wallet.pk}"
    }


def test_a_reversal_that_gives_more_than_was_taken(books: Books, found: Found) -> None:
    books.move(books.wallet, 1, "dispute", "stripe", order=books.bought)
    assert found() == {
        f"reversal: order {books.bought.pk}: expected 0 to {BOUGHT} taken back from account {books.wallet.pk},"
        f" found -1 taken back from account {books.wallet.pk}"
    }


def test_a_reversal_from_a_wallet_that_did_not_buy(books: Books, found: Found) -> None:
    books.move(books.bobs, -1, "refund", "stripe", order=books.bought)
    assert found() == {
        f"reversal: order {books.bought.pk}: expected 0 to 0 taken back from account none,"
        f" found 1 taken back from account {books.bobs.pk}"
    }


@pytest.mark.parametrize("kind", ["refund", "dispute"])
def test_a_reversal_that_is_returned_is_returned_whole(kind: str, books: Books, found: Found) -> None:
    key = f"{kind}:xx_1"
    books.move(books.wallet, -7, kind, "stripe", order=books.bought, key=key)
    books.move(books.wallet, 7, kind, "stripe", order=books.bought, key=f"{key}:returned")
    assert found() == set()
    books.move(books.wallet, -7, "refund", "stripe", order=books.bought, key="refund:xx_2")
    half = books.move(books.wallet, 3, kind, "stripe", order=books.bought, key="refund:xx_2:returned")
    assert found() == {
        f"returned: transfer {half}: expected refund of 7 of order {books.bought.pk} to account {books.wallet.pk},"
        f" found {kind} of 3 of order {books.bought.pk} to account {books.wallet.pk}"
    }


def test_a_reversal_that_is_returned_was_taken_before(books: Books, found: Found) -> None:
    books.move(books.wallet, -7, "refund", "stripe", order=books.bought)
    loose = books.move(books.wallet, 7, "refund", "stripe", order=books.bought, key="refund:xx_3:returned")
    to = f"of order {books.bought.pk} to account {books.wallet.pk}"
    assert found() == {
        f"returned: transfer {loose}: expected nothing, as there is no refund:xx_3, found refund of 7 {to}"
    }
    books.move(books.wallet, -2, "dispute", "stripe", order=books.bought, key="dispute:xx_4")
    other = books.move(books.wallet, 2, "refund", "stripe", order=books.bought, key="dispute:xx_4:returned")
    assert f"returned: transfer {other}: expected dispute of 2 {to}, found refund of 2 {to}" in found()


# --- Turns -----------------------------------------------------------------------------------------------


def test_a_running_turn_whose_hold_has_ended(books: Books, found: Found) -> None:
    sql("UPDATE billing_hold SET state = 'released', ended_at = now() WHERE id = %s", books.running)
    sql("UPDATE billing_account SET held = 0 WHERE id = %s", books.wallet.pk)
    assert found() == {
        f"turn_hold: turn {books.running}: expected a pending hold of {HELD}, found a released hold of {HELD}"
    }


def test_an_ended_turn_whose_hold_is_still_pending(books: Books, found: Found) -> None:
    sql("UPDATE conversations_turn SET state = 'stopped', ended_at = now() WHERE id = %s", books.running)
    assert found() == {
        f"turn_hold: turn {books.running}: expected an ended hold of {HELD}, found a pending hold of {HELD}"
    }


def test_a_hold_without_its_turn(books: Books, found: Found) -> None:
    sql("DELETE FROM conversations_turn WHERE id = ANY(%s)", [books.running, books.settled])
    assert found() == {
        f"turn_hold: hold {hold}: expected a turn, found none" for hold in (books.running, books.settled)
    }


def test_a_turn_that_tells_another_charge_than_the_ledger(books: Books, found: Found) -> None:
    sql("UPDATE conversations_turn SET charged = charged + 1 WHERE id = %s", books.settled)
    sql("UPDATE conversations_turn SET overrun = 0 WHERE id = %s", books.overrun)
    assert found() == {
        f"turn_charge: turn {books.settled}: expected charged {PRICE}, overrun 0, found charged {PRICE + 1}, overrun 0",
        f"turn_charge: turn {books.overrun}: expected charged {HELD}, overrun 7, found charged {HELD}, overrun 0",
        due_line(books.settled, due=PRICE, paid=PRICE + 1, cost=PRICE),
        due_line(books.overrun, due=HELD + 7, paid=HELD, cost=HELD + 7),
    }


def due_line(turn: uuid.UUID, *, due: int, paid: int, cost: int, told: int | None = None) -> str:
    """Another charge than is `due`, or another cost `told` than it was."""
    found = f"charged and overrun {paid}, cost {cost if told is None else told}"
    return f"turn_due: turn {turn}: expected charged and overrun {due}, cost {cost}, found {found}"


# What a million tokens cost, and above 1,000 tokens of prompt ten times as much; a microcredit is $ 0.01 a million.
BOOK = {"input_usd": "0.100001", "output_usd": "0.5", "cache_read_usd": "0.01"} | {
    "cache_write_5m_usd": "0.125",
    "cache_write_1h_usd": "0.2",
}
TIER = {"tier_tokens": 1_000} | {f"tier_{name}": Decimal(usd) * 10 for name, usd in BOOK.items()}
OF_EACH = {"input_tokens": 1, "output_tokens": 1, "cache_read_tokens": 1} | {
    "cache_write_5m_tokens": 1,
    "cache_write_1h_tokens": 1,
}


@pytest.mark.parametrize(
    ("price", "used", "due", "cost"),
    [
        pytest.param({}, {"output_tokens": 2}, 100, 100, id="exact"),
        pytest.param({}, {"input_tokens": 1}, 11, 11, id="rounded up"),
        pytest.param({}, OF_EACH, 94, 94, id="rounded up once"),
        pytest.param({"markup": "1.2"}, OF_EACH, 113, 94, id="marked up before it is rounded"),
        pytest.param({"flat_fee": "0.000006"}, OF_EACH, 100, 94, id="with a fee"),
        pytest.param({"markup": "1.01", "flat_fee": "1"}, {}, 1_000_000, 0, id="nothing but a fee"),
        pytest.param(
            TIER, {"cache_read_tokens": 999, "cache_write_1h_tokens": 1}, 1_019, 1_019, id="at the tier"
        ),
        pytest.param(
            TIER, {"cache_read_tokens": 1_001, "output_tokens": 2}, 11_010, 11_010, id="above the tier"
        ),
        pytest.param(TIER, {"output_tokens": 1_001}, 50_050, 50_050, id="output is not prompt"),
        pytest.param(
            {"input_usd": 1_000, "markup": "19.9999"},
            {"input_tokens": 2**31 - 1, "cache_write_5m_tokens": 1},
            4_294_945_819_163_780,
            214_748_364_700_013,
            id="huge",
        ),
    ],
)
def test_a_charge_that_is_not_what_the_tokens_come_to(
    books: Books, found: Found, price: dict[str, Any], used: dict[str, int], due: int, cost: int
) -> None:
    """Also where the house bears a part, whoever stopped the answer, and for the model that answered in the end."""

    def dues(**columns: Any) -> set[str]:
        Turn.objects.filter(pk=books.settled).update(**columns)
        return {line for line in found() if line.startswith("turn_due:")}

    other = LanguageModel.objects.get(pk="claude-opus-5-5")
    book = Price.objects.create(model=other, **{**BOOK, **price})
    nothing = dict.fromkeys(OF_EACH, 0)
    right = {**nothing, **used, "prompt_bytes": 9, "charged": due - 3, "overrun": 3, "cost": cost}
    assert dues(price=book, served_by=None, **right) == set()
    assert dues(fallback_price=book, price=Price.objects.now_for("claude-opus-5"), served_by=other) == set()
    assert dues(state="stopped") == set()
    assert dues(state="abandoned") == set()
    assert dues(charged=due - 2) == {due_line(books.settled, due=due, paid=due + 1, cost=cost)}
    assert dues(charged=due - 4) == {due_line(books.settled, due=due, paid=due - 1, cost=cost)}
    assert dues(charged=due - 3, cost=cost + 1) == {
        due_line(books.settled, due=due, paid=due, cost=cost, told=cost + 1)
    }
    assert dues(state="failed", charged=0, overrun=0, cost=cost) == set()


def test_a_charge_where_no_tokens_were_counted(books: Books, found: Found) -> None:
    Turn.objects.filter(pk=books.settled).update(output_tokens=0, cache_read_tokens=0)
    assert found() == {due_line(books.settled, due=0, paid=PRICE, cost=0, told=PRICE)}


def test_a_turn_at_a_price_that_was_not_in_force(books: Books, found: Found) -> None:
    def wrong(**columns: Any) -> bool:
        Turn.objects.filter(pk=books.settled).update(**columns)
        return f"turn_price: turn {books.settled}: " in "".join(found())

    haiku = Price.objects.now_for("claude-haiku-5-5")
    haiku.pk, haiku._state.adding = None, True
    haiku.effective_from = datetime.now(UTC) + timedelta(hours=1)
    haiku.save()
    old = Turn.objects.get(pk=books.settled).price
    assert wrong(created_at=haiku.effective_from + timedelta(minutes=9)) is False, (
        "it may have been entered later"
    )
    assert wrong(price=haiku) is False
    assert wrong(created_at=haiku.effective_from - timedelta(seconds=1))
    assert wrong(price=Price.objects.now_for("claude-opus-5"))
    assert wrong(price=old) is False
    assert wrong(served_by="claude-opus-5")
    assert wrong(fallback_price=Price.objects.now_for("claude-opus-5")) is False
    assert wrong(fallback_price=haiku, served_by=None)


@pytest.mark.parametrize("state", ["failed", "interrupted"])
def test_a_charge_for_an_answer_that_failed(books: Books, found: Found, state: str) -> None:
    sql("UPDATE conversations_turn SET state = %s WHERE id = %s", state, books.settled)
    assert found() == {due_line(books.settled, due=0, paid=PRICE, cost=PRICE)}


def test_a_turn_paid_by_somebody_else(books: Books, found: Found) -> None:
    sql("UPDATE conversations_turn SET user_id = %s WHERE id = %s", books.bob.pk, books.failed)
    assert found() == {
        f"turn_wallet: turn {books.failed}: expected a hold on the wallet of {books.bob.pk},"
        f" found on account {books.wallet.pk} of {books.alice.pk}"
    }


def test_a_turn_left_behind(books: Books, found: Found) -> None:
    sql("UPDATE conversations_turn SET heartbeat_at = now() - interval '59 s' WHERE id = %s", books.running)
    assert found() == set()
    sql("UPDATE conversations_turn SET heartbeat_at = '2026-11-20 12:30:00+00' WHERE id = %s", books.running)
    assert found() == {
        f"left_behind: turn {books.running}: expected a heartbeat within a minute,"
        " found none since 2026-11-20T12:30:00Z"
    }


def test_the_books_of_somebody_who_is_gone_stay_right(books: Books) -> None:
    before = lines()
    books.alice.delete()
    assert lines() == before


# --- What keeps the rules --------------------------------------------------------------------------------


def rows_of(name: str) -> set[str]:
    [rule] = (rule for rule in RULES if rule.name == name)
    return {str(row) for row in audit.prove([rule]).broken[name]}


@contextmanager
def undone() -> Iterator[None]:
    """What is done inside is not done after it."""
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


@pytest.mark.parametrize(("guards", "rule"), [(guards.LEDGER, "trigger"), (TURNS, "turn_trigger")])
def test_a_trigger_that_is_off_changed_or_gone(db: None, guards: Guards, rule: str) -> None:
    assert rows_of(rule) == set()
    for (table, name), made in guards.triggers.items():
        line = f"{rule}: trigger {name} on {table}: expected always enabled, {made}, found"
        for change, found in (
            (f"ALTER TABLE {table} DISABLE TRIGGER {name}", "disabled"),
            (f"ALTER TABLE {table} ENABLE REPLICA TRIGGER {name}", "enabled on replicas only"),
            (f"ALTER TABLE {table} ENABLE TRIGGER {name}", "disabled on replicas"),
            (f"DROP TRIGGER {name} ON {table}", "none"),
        ):
            with undone():
                sql(change)
                assert rows_of(rule) == {f"{line} {found}"}


def test_a_trigger_that_is_made_again_to_do_nothing(db: None) -> None:
    sql("DROP TRIGGER transfer_is_never_changed ON billing_transfer")
    sql(
        "CREATE TRIGGER transfer_is_never_changed BEFORE UPDATE OR DELETE ON billing_transfer"
        " FOR EACH ROW WHEN (false) EXECUTE FUNCTION billing_refuse()"
    )
    sql("ALTER TABLE billing_transfer ENABLE ALWAYS TRIGGER transfer_is_never_changed")
    [line] = rows_of("trigger")
    made, found = re.findall(r"always enabled, (\w{32})", line)
    assert line.startswith("trigger: trigger transfer_is_never_changed on billing_transfer: expected")
    assert made != found


@pytest.mark.parametrize(("guards", "rule"), [(guards.LEDGER, "function"), (TURNS, "turn_function")])
def test_a_function_that_does_something_else(db: None, guards: Guards, rule: str) -> None:
    assert rows_of(rule) == set()
    for name, made in guards.functions.items():
        [(signature, definition)] = sql(
            "SELECT oid::regprocedure::text, pg_get_functiondef(oid) FROM pg_proc WHERE proname = %s", name
        )
        for change in (
            definition.replace("BEGIN", "BEGIN NULL;", 1),
            f"ALTER FUNCTION {signature} SECURITY DEFINER",
        ):
            with undone():
                sql(change)
                [line] = rows_of(rule)
                assert line.startswith(f"{rule}: function {name}: expected {made}, found ")


def test_functions_look_for_tables_where_they_were_made_to(db: None) -> None:
    sql("ALTER FUNCTION billing_is_due(bigint) SET search_path = pg_temp, public")
    [line] = rows_of("function")
    assert line.startswith("function: function billing_is_due: expected ")


def test_no_guard_is_forgotten(db: None) -> None:
    there = sql("SELECT tgrelid::regclass::text, tgname FROM pg_trigger WHERE NOT tgisinternal")
    assert set(there) == {*guards.LEDGER.triggers, *TURNS.triggers}
    functions = sql("SELECT proname FROM pg_proc WHERE pronamespace = current_schema()::regnamespace")
    assert {name for (name,) in functions} == {*guards.LEDGER.functions, *TURNS.functions}
    tables = [model._meta.db_table for model in [*apps.get_app_config("billing").get_models(), Turn]]
    constraints = sql(
        """
        SELECT conrelid::regclass::text, conname FROM pg_constraint
        WHERE contype = 'c' AND conrelid = ANY(%s::regclass[])
        UNION
        SELECT i.indrelid::regclass::text, i.indexrelid::regclass::text FROM pg_index i
        WHERE i.indisunique AND i.indrelid = ANY(%s::regclass[])
            AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = i.indexrelid AND contype IN ('p', 'u'))
        """,
        tables,
        tables,
    )
    assert set(constraints) == {*guards.LEDGER.constraints, *TURNS.constraints}


@pytest.mark.parametrize(("guards", "rule"), [(guards.LEDGER, "constraint"), (TURNS, "turn_constraint")])
def test_a_constraint_that_is_gone_or_made_again_to_refuse_nothing(
    db: None, guards: Guards, rule: str
) -> None:
    assert rows_of(rule) == set()
    for (table, name), made in guards.constraints.items():
        is_constraint = sql("SELECT 1 FROM pg_constraint WHERE conname = %s", name)
        drop = f"ALTER TABLE {table} DROP CONSTRAINT {name}" if is_constraint else f"DROP INDEX {name}"
        change = (
            f"ALTER TABLE {table} ADD CONSTRAINT {name} CHECK (true)"
            if is_constraint
            else f"CREATE UNIQUE INDEX {name} ON {table} ((1)) WHERE false"
        )
        line = f"{rule}: constraint {name} on {table}: expected valid, {made}, found"
        with undone():
            sql(drop)
            assert rows_of(rule) == {f"{line} none"}
            sql(change)
            [changed] = rows_of(rule)
            assert re.fullmatch(rf"{re.escape(line)} valid, (?!{made})\w{{32}}", changed)


def test_an_index_that_keeps_nothing_apart_any_more(db: None) -> None:
    name = "one_charge_per_hold"
    sql(f"DROP INDEX {name}")
    sql(f"CREATE INDEX {name} ON billing_transfer (hold_id) WHERE kind = 'charge'")
    assert len(rows_of("constraint")) == 1


def test_a_constraint_that_does_not_hold_for_every_row(db: None) -> None:
    name = "transfer_amount_is_positive"
    sql(f"ALTER TABLE billing_transfer DROP CONSTRAINT {name}")
    sql(f"ALTER TABLE billing_transfer ADD CONSTRAINT {name} CHECK (amount > 0) NOT VALID")
    assert rows_of("constraint") == {gone_line("billing_transfer", name, "not valid")}


@pytest.mark.parametrize(
    ("table", "column", "kind"),
    [
        ("billing_transfer", "id", "primary"),
        ("billing_transfer", "key", "unique"),
        ("billing_transfer", "debit_id", "foreign"),
        ("billing_customer", "stripe_id", "unique"),
        ("billing_plancheckout", "stripe_session", "unique"),
        ("billing_stripeevent", "id", "primary"),
        ("billing_account", "user_id", "unique"),
        ("billing_account", "user_id", "foreign"),
        ("conversations_turn", "price_id", "foreign"),
    ],
)
def test_a_key_that_is_gone(db: None, table: str, column: str, kind: str) -> None:
    rule = "turn_key" if table == "conversations_turn" else "key"
    assert rows_of(rule) == set()
    [[name]] = sql(
        "SELECT conname FROM pg_constraint c JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attname = %s"
        " WHERE c.conrelid = %s::regclass AND c.conkey = ARRAY[a.attnum] AND c.contype::text = %s",
        *(column, table, kind[0]),
    )
    sql(f"ALTER TABLE {table} DROP CONSTRAINT {name} CASCADE")
    assert f"{rule}: {kind} key {column} of {table}: expected valid, found none" in rows_of(rule)


def test_foreign_keys_that_are_switched_off(db: None) -> None:
    sql("ALTER TABLE billing_lotuse DISABLE TRIGGER ALL")
    found = {line.partition(" on ")[0] for line in rows_of("trigger") if "foreign key" in line}
    names = sql(
        "SELECT conname FROM pg_constraint WHERE conrelid = 'billing_lotuse'::regclass AND contype = 'f'"
    )
    assert found == {f"trigger: foreign key {name}" for (name,) in names}


# --- The command -----------------------------------------------------------------------------------------


def ledger_audit(*arguments: str) -> tuple[int, str]:
    """Its exit code and what it prints."""
    out = StringIO()
    try:
        call_command("ledger_audit", *arguments, stdout=out)
    except CommandError as error:
        return error.returncode, out.getvalue()
    return 0, out.getvalue()


def test_a_database_that_does_not_answer_is_said_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def away(rules: object) -> None:
        raise OperationalError("connection refused")

    monkeypatch.setattr(audit, "prove", away)
    with pytest.raises(CommandError, match="PostgreSQL does not answer, so nothing was proved"):
        call_command("ledger_audit")


def test_right_books_are_summed_up(committed_db: None, alice: User) -> None:
    close_turn(open_turn(alice, HELD), PRICE)

    code, text = ledger_audit()

    assert code == 0, text
    assert [line.split("  ")[0] for line in text.splitlines()] == [
        *(
            "accounts",
            "transfers",
            "holds",
            "credits outstanding",
            "credits owed to us",
            "of deleted accounts",
            "rules",
            "time taken",
        ),
        "The books are right.",
    ]
    assert f"{len(RULES)} of {len(RULES)} hold" in text


def test_right_books_for_machines(committed_db: None, alice: User, bob: User, charlie: User) -> None:
    for person in (alice, bob):
        bought = order(person, 500 * CREDIT)
        pay(bought)
        close_turn(open_turn(person, 600 * CREDIT), 600 * CREDIT)
        take_back(bought, 500 * CREDIT)
    wallet_of(charlie)
    for gone in (bob, charlie):
        gone.delete()

    code, text = ledger_audit("--json")

    told = json.loads(text)
    assert (code, told["ok"], told["broken"]) == (0, True, []), text
    assert told["rules"] == dict.fromkeys((rule.name for rule in RULES), 0)
    assert told["transfers"] == Transfer.objects.count()
    people = Q(user__isnull=False)
    for key, whose, sign in (
        ("outstanding", people, 1),
        ("debts", people, -1),
        ("of_deleted_accounts", ~people, 1),
        ("debts_of_deleted_accounts", ~people, -1),
    ):
        balances = Account.objects.filter(whose, kind="wallet").values_list("balance", flat=True)
        assert told[key] == as_string(sum(max(0, sign * balance) for balance in balances)), key
    assert Decimal(told["debts"]) >= 500, "one who is below zero takes nothing from what is owed to others"
    assert Decimal(told["debts_of_deleted_accounts"]) >= 500
    assert Decimal(told["of_deleted_accounts"]) >= 100


def test_wrong_books_end_with_one_and_name_every_row(books: Books, found: Found) -> None:
    sql("UPDATE conversations_turn SET charged = 1 WHERE id = ANY(%s)", [books.settled, books.overrun])
    expected = found()
    assert len(expected) == 4

    code, text = ledger_audit()
    assert code == 1
    assert expected <= set(text.splitlines())

    code, text = ledger_audit("--json")
    told = json.loads(text)
    assert (code, told["ok"]) == (1, False)
    assert {
        "{rule}: {row}: expected {expected}, found {found}".format(**row) for row in told["broken"]
    } >= expected
    assert told["rules"]["turn_charge"] >= 2


def test_the_books_are_read_in_one_snapshot_that_changes_nothing(committed_db: None) -> None:
    settings = "SELECT current_setting('transaction_isolation'), current_setting('transaction_read_only'), ''"
    report = audit.prove([Rule("probe", "How the books are read.", settings)])
    [row] = report.broken["probe"]
    assert (row.row, row.expected) == ("repeatable read", "on")


def test_what_is_committed_while_the_books_are_read_is_seen_by_no_rule(committed_db: None) -> None:
    people = "SELECT count(*)::text, pg_sleep(0.2)::text, '' FROM accounts_user"
    rules = WhileSomebodySignsUp(
        Rule(f"people {number}", "How many there are.", people) for number in range(6)
    )
    found = {row.row for rows in audit.prove(rules).broken.values() for row in rows}
    assert found != {str(User.objects.count())}
    assert len(found) == 1


class WhileSomebodySignsUp(list[Rule]):
    """Rules that are asked for in the moment after somebody signed up."""

    def __iter__(self) -> Iterator[Rule]:
        with ThreadPoolExecutor(1) as elsewhere:
            elsewhere.submit(_sign_up).result()
        return super().__iter__()


def _sign_up() -> None:
    try:
        User.objects.create_user(email=f"{uuid.uuid4()}@example.com")
    finally:
        connections.close_all()
