"""Refunds of credits that expire: what has expired left the wallet already, so nobody takes it again."""

from itertools import permutations

import pytest
from django.db import IntegrityError, transaction

from accounts.models import User
from billing import audit, ledger, reversals
from billing.comparison import money_back
from billing.models import Account, Order
from billing.stripe_gateway.reversals import Reversal
from billing.tasks import expire_lots
from chatapp.streaming.audit import RULES
from tests.billing.books import (
    CREDIT,
    close_turn,
    commit_would_follow,
    open_turn,
    order,
    pay,
    sql,
    take_back,
    unguarded,
    wallet_of,
)
from tests.billing.test_reversals_out_of_step import refund_that, take_all

WELCOME = 100 * CREDIT
BOUGHT, SPENT, CENTS = 1000, 300, 500


@pytest.fixture
def bought(alice: User, db: None) -> Order:
    """1000 for five dollars, of which 300 are spent and the rest expires now; that is not booked yet."""
    turn = open_turn(alice, SPENT)
    # Has passed by now, and had not come when the answer began.
    [[ends]] = sql("SELECT created_at + interval '1 us' FROM billing_hold WHERE id = %s", turn)
    made = order(alice, BOUGHT, credits_expire_at=ends)
    pay(made, paid_cents=CENTS, stripe_payment_intent=f"pi_{made.pk.hex}")
    close_turn(turn, SPENT)
    made.refresh_from_db()
    assert wallet_of(alice).balance == WELCOME + BOUGHT - SPENT
    return made


def broken() -> list[str]:
    commit_would_follow()
    return [str(row) for rows in audit.prove(RULES).broken.values() for row in rows]


def parts(bought: Order, *cents: int) -> list[Reversal]:
    return [
        refund_that(bought, id=f"re_{number}_{bought.pk.hex}", amount=one) for number, one in enumerate(cents)
    ]


@pytest.mark.parametrize(
    ("cents", "taken_besides"),
    [
        ([CENTS], SPENT),
        ([250, 250], SPENT),
        ([100, 400], SPENT),
        ([400, 100], SPENT),
        ([250], 0),
        ([250, 150], 100),
        ([350], 0),
        ([400], 100),
    ],
)
def test_the_sum_is_the_same_whenever_the_credits_expire(
    cents: list[int], taken_besides: int, bought: Order, alice: User
) -> None:
    """Before the first refund, between two of them, or after the last. What is to be taken is foretold."""
    refunds, wallet, ends = parts(bought, *cents), wallet_of(alice), {}
    for expires_at in range(len(cents) + 1):
        with transaction.atomic():
            for number, refund in enumerate(refunds):
                if number == expires_at:
                    expire_lots()
                foretold = reversals.would_take(
                    bought, wallet, refunded=sum(cents[:number]), cents=refund.amount
                )
                before = wallet_of(alice).balance
                take_all(*refunds[: number + 1])
                assert before - wallet_of(alice).balance == foretold
            expire_lots()
            assert not broken()
            ends[expires_at] = wallet_of(alice).balance
            transaction.set_rollback(True)
    assert set(ends.values()) == {WELCOME - taken_besides}


def test_in_whatever_order_the_parts_are_told(bought: Order, alice: User) -> None:
    expire_lots()
    refunds = parts(bought, 100, 150, 250)
    for told in permutations(range(3)):
        with transaction.atomic():
            for count in (1, 2, 3):
                # Stripe lists them by when they were made.
                take_all(*(refunds[number] for number in sorted(told[:count])))
            assert wallet_of(alice).balance == WELCOME - SPENT
            transaction.set_rollback(True)


def test_a_part_that_comes_to_nothing_leaves_what_expired_to_the_other(bought: Order, alice: User) -> None:
    expire_lots()
    first, second = parts(bought, 250, 250)
    take_all(first, second)
    assert wallet_of(alice).balance == WELCOME - SPENT
    failed = refund_that(bought, id=first.id, amount=250, counts=False, is_off=True)
    for _ in range(2):
        take_all(failed, second)
        assert wallet_of(alice).balance == WELCOME
    # Who was not told of all of them changes nothing.
    take_all(failed, second, refund_that(bought, id="re_3", amount=250))
    take_all(failed, second)
    assert wallet_of(alice).balance == WELCOME - SPENT
    assert not broken()


def test_what_rounding_leaves_is_not_moved_to_and_fro(bought: Order, alice: User) -> None:
    expire_lots()
    first, *others = parts(bought, 100, 167, 167, 166)
    failed = refund_that(bought, id=first.id, amount=100, counts=False, is_off=True)
    for _ in range(3):
        take_all(failed, *others)
    assert wallet_of(alice).balance == WELCOME - SPENT
    assert bought.transfers.filter(kind="refund").count() == 1


def test_postgresql_takes_nothing_that_has_expired(bought: Order) -> None:
    expire_lots()
    with pytest.raises(IntegrityError, match="a reversal takes back"), transaction.atomic():
        take_back(bought, SPENT + 1)
    take_back(bought, SPENT)


def test_what_was_taken_of_expired_credits_is_found_and_returned(
    bought: Order, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Books from before this was refused."""
    expire_lots()
    (refund,) = parts(bought, CENTS)
    wallet = wallet_of(alice)
    with unguarded("billing_transfer", "billing_account"):
        sql(
            "INSERT INTO billing_transfer"
            " (key, kind, debit_id, credit_id, amount, balance_after, order_id, reason, made_by)"
            " VALUES (%s, 'refund', %s, %s, %s, %s, %s, '', '')",
            *(
                refund.key,
                wallet.pk,
                ledger.house(Account.Kind.STRIPE).pk,
                BOUGHT,
                wallet.balance - BOUGHT,
                bought.pk,
            ),
        )
        sql("UPDATE billing_account SET balance = %s WHERE id = %s", wallet.balance - BOUGHT, wallet.pk)
    assert any(row.startswith("reversal: ") for row in broken())
    monkeypatch.setattr(reversals, "ask_of_refund", lambda _: reversals.News(refund, None, (refund,)))
    (finding,) = money_back.of_reversal(refund)
    assert (finding.kind, finding.mended) == ("amount", True)
    assert wallet_of(alice).balance == WELCOME - SPENT
    assert not broken()
    assert list(money_back.of_reversal(refund)) == []


def test_a_refund_that_had_nothing_left_to_take_is_no_discrepancy(
    bought: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    expire_lots()
    (refund,) = parts(bought, 250)
    monkeypatch.setattr(reversals, "ask_of_refund", lambda _: reversals.News(refund, None, (refund,)))
    take_all(refund)
    assert not bought.transfers.filter(kind="refund").exists()
    assert list(money_back.of_reversal(refund)) == []
