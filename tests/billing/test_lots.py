"""Credits that expire: used first, soonest expiry first, and booked when their day has come."""

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import transaction
from pytest_django import Settings

from accounts.models import User
from billing import audit, ledger
from billing.errors import CreditsExpired, InsufficientCredits, KeyReused
from billing.models import Account, Hold, Lot, LotUse, Transfer
from billing.sql import Statement, run
from billing.tasks import expire_lots
from chatapp.conversations import rows
from chatapp.streaming import turns
from chatapp.streaming.audit import RULES
from chatapp.streaming.limits import Source
from tests.billing.books import (
    CREDIT,
    close_turn,
    commit_would_follow,
    give,
    grant,
    open_turn,
    order,
    pay,
    refused,
    sql,
    take_back,
    wallet_of,
)

WELCOME = 100 * CREDIT
A_LOT = "INSERT INTO billing_lot SELECT {}, {}, {}, {}, {} FROM billing_transfer WHERE expires_at IS NOT NULL"
DAY = timedelta(days=1)


def now() -> datetime:
    return sql("SELECT clock_timestamp()")[0][0]


def in_days(days: int) -> datetime:
    return now() + days * DAY


def just_after(turn: uuid.UUID) -> datetime:
    """A moment that has passed by now, and that had not come when the turn was opened."""
    return Hold.objects.get(pk=turn).created_at + timedelta(microseconds=1)


def remaining(*grants: Transfer) -> list[int]:
    return [Lot.objects.get(pk=given.pk).remaining for given in grants]


def balance(user: User) -> int:
    return wallet_of(user).balance


def spend(user: User, amount: int) -> None:
    close_turn(open_turn(user, amount), amount)


@pytest.fixture(autouse=True)
def sound_books(db: None) -> Any:
    """Whatever a test did, the books are right after it."""
    yield
    commit_would_follow()
    assert audit.prove(RULES).ok


def test_a_grant_is_there_at_once_and_says_what_it_is(alice: User) -> None:
    until = in_days(30)
    given = grant(alice, CREDIT, expires_at=until)
    assert (given.kind, given.reason, given.made_by, given.expires_at) == (
        *("grant", "A gift", alice.email),
        until,
    )
    assert balance(alice) == WELCOME + CREDIT
    assert remaining(given) == [CREDIT]


def test_a_grant_without_an_end_is_like_any_other_credits(alice: User) -> None:
    grant(alice, CREDIT)
    assert balance(alice) == WELCOME + CREDIT
    assert not Lot.objects.filter(account__user=alice).exists()


def test_a_grant_repeated_is_given_once_and_with_other_content_refused(alice: User) -> None:
    until = in_days(1)

    def again(amount: int = CREDIT, expires_at: datetime | None = until) -> Transfer:
        return ledger.grant(
            user=alice, amount=amount, reason="A gift", made_by=alice, key="k", expires_at=expires_at
        )

    assert again() == again()
    with pytest.raises(KeyReused):
        again(amount=2)
    with pytest.raises(KeyReused):
        again(expires_at=None)
    assert balance(alice) == WELCOME + CREDIT


def test_what_expires_soonest_is_used_first_and_what_never_expires_last(alice: User) -> None:
    later, sooner = grant(alice, 10, expires_at=in_days(9)), grant(alice, 10, expires_at=in_days(3))
    spend(alice, 4)
    assert remaining(sooner, later) == [6, 10]
    spend(alice, 9)
    assert remaining(sooner, later) == [0, 7]
    spend(alice, 10)
    assert remaining(sooner, later) == [0, 0]
    assert balance(alice) == WELCOME - 3


def test_of_two_that_expire_together_the_older_is_used_first(alice: User) -> None:
    until = in_days(3)
    older, newer = grant(alice, 10, expires_at=until), grant(alice, 10, expires_at=until)
    spend(alice, 4)
    assert remaining(older, newer) == [6, 10]


def test_nobody_uses_what_was_given_to_somebody_else(alice: User, bob: User) -> None:
    bobs, hers = grant(bob, 10, expires_at=in_days(1)), grant(alice, 10, expires_at=in_days(2))
    spend(alice, 15)
    assert remaining(bobs, hers) == [10, 0]


def test_each_use_of_a_lot_is_told(alice: User) -> None:
    first, second = grant(alice, 5, expires_at=in_days(1)), grant(alice, 5, expires_at=in_days(2))
    turn = open_turn(alice, 8)
    close_turn(turn, 7)
    uses = LotUse.objects.filter(transfer__hold=turn).order_by("lot").values_list("lot", "amount")
    assert list(uses) == [(first.pk, 5), (second.pk, 2)]


def test_what_expires_is_booked_and_cannot_be_spent(alice: User) -> None:
    given = grant(alice, 50 * CREDIT, expires_at=now())
    with pytest.raises(InsufficientCredits):
        open_turn(alice, WELCOME + 1)
    # The refused turn took the booking back with it; the next look at the wallet makes it again.
    expire_lots()
    booked = Transfer.objects.get(kind="expiry", source=given)
    assert (booked.amount, booked.balance_after) == (50 * CREDIT, WELCOME)
    assert booked.credit.kind == Account.Kind.EXPIRED
    assert remaining(given) == [0]


def test_expiring_twice_books_once(alice: User) -> None:
    grant(alice, CREDIT, expires_at=now())
    expire_lots()
    expire_lots()
    assert Transfer.objects.filter(kind="expiry", debit__user=alice).count() == 1


def test_only_what_is_left_expires(alice: User) -> None:
    turn = open_turn(alice, 30)
    given = grant(alice, 50, expires_at=just_after(turn))
    close_turn(turn, 30)
    expire_lots()
    assert balance(alice) == WELCOME
    assert [use.amount for use in LotUse.objects.filter(lot=given.pk).order_by("pk")] == [30, 20]


def test_an_answer_that_began_in_time_may_still_use_what_expires_under_it(alice: User) -> None:
    turn = open_turn(alice, 30)
    given = grant(alice, 50, expires_at=just_after(turn))
    expire_lots()
    assert remaining(given) == [30]
    close_turn(turn, 25)
    assert remaining(given) == [5]
    expire_lots()
    assert remaining(given) == [0]
    assert balance(alice) == WELCOME  # 25 of the gift paid for the answer, 25 expired


def test_an_answer_that_began_later_does_not_use_what_has_expired(alice: User) -> None:
    early = open_turn(alice, 30)
    given = grant(alice, 30, expires_at=just_after(early))
    late = open_turn(alice, 40)
    close_turn(late, 40)
    assert remaining(given) == [30]
    assert balance(alice) == WELCOME - 10
    close_turn(early, 0)
    expire_lots()
    assert balance(alice) == WELCOME - 40


def test_what_expired_before_an_answer_began_does_not_wait_for_it(alice: User) -> None:
    turn = open_turn(alice, 30)
    given = grant(alice, 50, expires_at=in_days(-1))
    expire_lots()
    assert remaining(given) == [0]
    close_turn(turn, 30)
    assert balance(alice) == WELCOME - 30


def test_two_lots_that_expired_under_one_answer_keep_together_what_it_needs(alice: User) -> None:
    turn = open_turn(alice, 30)
    first, second = (grant(alice, 20, expires_at=just_after(turn)) for _ in range(2))
    expire_lots()
    assert remaining(first, second) == [20, 10]
    close_turn(turn, 30)
    assert remaining(first, second) == [0, 0]
    assert balance(alice) == WELCOME


def test_credits_held_on_the_last_of_a_gift_are_not_lent_twice(alice: User) -> None:
    """What has expired, but waits for an answer, pays for no other."""
    turn = open_turn(alice, WELCOME)
    grant(alice, WELCOME, expires_at=just_after(turn))
    expire_lots()
    with pytest.raises(InsufficientCredits):
        open_turn(alice, WELCOME + 1)
    close_turn(turn, 0)
    expire_lots()
    assert balance(alice) == WELCOME


def test_credits_that_expire_between_the_lock_and_the_hold_are_not_held_and_nothing_is_done(
    alice: User,
) -> None:
    grant(alice, 50, expires_at=now())
    as_it_was, hold_id = Account.objects.get(user=alice), uuid.uuid4()
    beside = rows.update(User, alice.pk, name="stored")
    with pytest.raises(CreditsExpired), transaction.atomic():
        ledger.hold(wallet=as_it_was, hold_id=hold_id, amount=WELCOME + 1, then=[beside])
    alice.refresh_from_db()
    assert alice.name == "Alice"
    assert not Hold.objects.filter(pk=hold_id).exists()
    assert as_it_was.held == 0


def test_credits_that_expired_and_are_not_needed_hinder_no_hold(alice: User) -> None:
    given = grant(alice, 50, expires_at=now())

    def hold(*, id: uuid.UUID, amount: int) -> None:
        ledger.hold(wallet=Account.objects.get(user=alice), hold_id=id, amount=amount)

    turn = open_turn(alice, WELCOME, hold=hold)
    assert remaining(given) == [50]
    close_turn(turn, 0)


def test_an_answer_is_opened_with_what_is_left_if_credits_expire_meanwhile(
    alice: User, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    settings.TURNS_PER_MINUTE_PER_KEY = 1  # it is one turn all the same
    give(alice, 2 * CREDIT - WELCOME)
    grant(alice, 10_000 * CREDIT, expires_at=now())
    lock, looks = ledger.lock_wallet_of, []

    def look(user: User, *then: Statement[Any]) -> tuple[Account, list[Any]]:
        looks.append(user)
        wallet = Account.objects.select_for_update().get(user=user)
        return (wallet, run(*then)) if len(looks) == 1 else lock(user, *then)

    monkeypatch.setattr(turns.ledger, "lock_wallet_of", look)
    ask = turns.Ask(id=uuid.uuid4(), text="hello")
    opened = turns.open(alice, ask, Source(api_key=uuid.uuid4().hex)).turn
    assert len(looks) == 2
    assert opened.limited_by_balance
    assert opened.held <= 2 * CREDIT
    close_turn(opened.pk, 0)
    assert balance(alice) == 2 * CREDIT


def test_taking_credits_by_hand_takes_what_expires_first(alice: User) -> None:
    given = grant(alice, 30, expires_at=in_days(1))
    give(alice, -40)
    assert remaining(given) == [0]
    assert balance(alice) == WELCOME - 10


def uses(lot: Transfer, by: Transfer) -> list[int]:
    return list(LotUse.objects.filter(lot=lot.pk, transfer=by).values_list("amount", flat=True))


def in_debt(user: User, amount: int) -> None:
    """Bought and spent, and the money given back."""
    bought = order(user, amount)
    pay(bought)
    spend(user, balance(user))
    take_back(bought, amount)


@pytest.mark.parametrize(("amount", "left"), [(80, 30), (50, 0), (30, 0)])
def test_a_gift_repays_a_debt_first_and_only_what_is_left_of_it_expires(
    alice: User, amount: int, left: int
) -> None:
    in_debt(alice, 50)
    gift = grant(alice, amount, expires_at=now())
    assert (balance(alice), remaining(gift)) == (amount - 50, [left])
    assert uses(gift, by=gift) == [amount - left]
    expire_lots()
    assert (balance(alice), remaining(gift)) == (min(0, amount - 50), [0])


def test_what_was_bought_for_a_time_repays_a_debt_first(alice: User) -> None:
    """Spending what is left, and the day of expiry after it, take nothing a second time."""
    in_debt(alice, 500)
    period = pay(order(alice, 1050, credits_expire_at=now() + DAY))
    assert (balance(alice), remaining(period)) == (550, [550])
    spend(alice, 550)
    assert (balance(alice), remaining(period)) == (0, [0])


def test_what_a_refund_leaves_is_all_that_can_still_expire(alice: User) -> None:
    """Of what more there was, the soonest expiry is used up first."""
    bought = order(alice, 100)
    pay(bought)
    give(alice, -WELCOME - 30)
    later, sooner = grant(alice, 50, expires_at=in_days(2)), grant(alice, 40, expires_at=in_days(1))
    part = take_back(bought, 60)
    assert (balance(alice), remaining(sooner, later)) == (100, [40, 50])
    rest = take_back(bought, 40)
    assert (balance(alice), remaining(sooner, later)) == (60, [10, 50])
    assert (uses(sooner, by=part), uses(sooner, by=rest)) == ([], [30])


def test_a_refund_that_leaves_a_debt_leaves_nothing_to_expire(alice: User) -> None:
    bought = order(alice, 100)
    pay(bought)
    give(alice, -WELCOME - 80)
    given = grant(alice, 50, expires_at=in_days(1))
    take_back(bought, 100)
    assert (balance(alice), remaining(given)) == (-30, [0])


def test_an_answer_that_a_refund_has_overtaken_leaves_no_more_to_expire_than_there_is(alice: User) -> None:
    """Its hold stands. What waits for an older answer is not its business, unless nothing else is there."""
    bought = order(alice, 100)
    pay(bought)
    give(alice, -WELCOME)
    older = open_turn(alice, 50)
    given = grant(alice, 50, expires_at=just_after(older))
    newer = open_turn(alice, 50)
    take_back(bought, 90)
    assert (balance(alice), remaining(given)) == (60, [50])
    close_turn(newer, 50)
    assert (balance(alice), remaining(given)) == (10, [10])
    close_turn(older, 0)
    expire_lots()
    assert balance(alice) == 0


def test_a_refund_takes_what_was_bought_and_not_what_was_given(alice: User) -> None:
    bought = order(alice, 100)
    pay(bought)
    given = grant(alice, 50, expires_at=in_days(1))
    take_back(bought, 100)
    assert (balance(alice), remaining(given)) == (WELCOME + 50, [50])


def test_a_refund_of_credits_that_expire_takes_what_is_left_of_them(alice: User) -> None:
    bought = order(alice, 100, credits_expire_at=in_days(30))
    paid = pay(bought)
    spend(alice, 60)
    take_back(bought, 100)
    assert (balance(alice), remaining(paid)) == (WELCOME - 60, [0])


def test_what_was_bought_expires_when_its_order_says_so(alice: User) -> None:
    bought = order(alice, 100)
    with refused("a purchase credits what its order says"):
        sql(
            "INSERT INTO billing_transfer (key, kind, debit_id, credit_id, amount, balance_after, order_id, expires_at,"
            " reason, made_by) VALUES ('x', 'purchase', %s, %s, 100, %s, %s, now(), '', '')",
            *(ledger.house(Account.Kind.STRIPE).pk, wallet_of(alice).pk, WELCOME + 100, bought.pk),
        )


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE billing_lot SET remaining = remaining - 1",
        "UPDATE billing_lot SET expires_at = expires_at + interval '1 day'",
        "UPDATE billing_lot SET amount = amount + 1, remaining = remaining + 1",
        "INSERT INTO billing_lot SELECT id, 5, 5, now(), credit_id FROM billing_transfer WHERE kind = 'signup' LIMIT 1",
        A_LOT.format("id", "amount + 1", "amount + 1", "expires_at", "credit_id"),
        A_LOT.format("id", "amount", "amount - 1", "expires_at", "credit_id"),
        A_LOT.format("id", "amount", "amount", "expires_at + interval '1 s'", "credit_id"),
        A_LOT.format("id", "amount", "amount", "expires_at", "debit_id"),
        "INSERT INTO billing_lotuse (lot_id, transfer_id, amount, remaining_after)"
        " SELECT transfer_id, transfer_id, 1, remaining - 1 FROM billing_lot",
        "UPDATE billing_lotuse SET amount = amount - 1",
        "DELETE FROM billing_lotuse",
        "DELETE FROM billing_lot",
    ],
)
def test_lots_cannot_be_written_around(alice: User, statement: str) -> None:
    grant(alice, 50, expires_at=in_days(1))
    spend(alice, 10)
    with refused("a lot|append-only|null value"):
        sql(statement)


@pytest.mark.parametrize(("amount", "day"), [(49, -1), (51, -1), (50, 1)])
def test_an_expiry_by_hand_is_refused_unless_it_is_the_right_one(alice: User, amount: int, day: int) -> None:
    given = grant(alice, 50, expires_at=in_days(day))
    with refused("an expiry books what its lot has left"):
        sql(
            "INSERT INTO billing_transfer (key, kind, debit_id, credit_id, amount, balance_after, source_id, reason,"
            " made_by) VALUES ('x', 'expiry', %s, %s, %s, %s, %s, '', '')",
            *(wallet_of(alice).pk, ledger.house(Account.Kind.EXPIRED).pk, amount),
            *(WELCOME + 50 - amount, given.pk),
        )
    expire_lots()


def test_a_hold_cannot_be_dated_back_to_use_what_has_expired(alice: User) -> None:
    wallet = wallet_of(alice)
    with refused("a hold begins pending, and now"):
        sql(
            "INSERT INTO billing_hold (id, account_id, amount, state, created_at) VALUES (%s, %s, 1, 'pending', %s)",
            *(uuid.uuid4(), wallet.pk, datetime(2026, 1, 1, tzinfo=UTC)),
        )


def test_a_hold_by_hand_on_credits_that_have_expired_is_refused(alice: User) -> None:
    grant(alice, 50, expires_at=now())
    with refused("does not have so many credits available"):
        Hold.objects.create(account=wallet_of(alice), amount=WELCOME + 1)


def test_an_adjustment_by_hand_of_credits_that_have_expired_is_refused(alice: User) -> None:
    grant(alice, 50, expires_at=now())
    with refused("does not have so many credits available"):
        Transfer.objects.create(
            key="x",
            kind=Transfer.Kind.ADJUSTMENT,
            debit=wallet_of(alice),
            credit=ledger.house(Account.Kind.ADJUSTMENTS),
            amount=WELCOME + 1,
            balance_after=49,
            reason="r",
            made_by="an operator",
        )
