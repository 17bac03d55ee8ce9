"""The ledger as the application uses it: one at a time, and all at once."""

import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from random import Random
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction
from django.db.models import Sum
from pytest_django.fixtures import Settings

from accounts.models import User
from billing import audit, ledger
from billing.errors import HoldEnded, InsufficientCredits, KeyReused
from billing.ledger import Settlement
from billing.models import Account, Hold, Transfer
from billing.movements import Filters, older
from chatapp.conversations import rows
from tests.billing.books import (
    CREDIT,
    at_once,
    close_turn,
    commit_would_follow,
    give,
    grant,
    mark_paid,
    open_turn,
    order,
    pay,
    somebody_waits,
    sql,
    take_back,
    wallet_of,
)
from tests.servers import wait_until

WELCOME = 100 * CREDIT


def has(user: User) -> tuple[int, int]:
    """Balance and held, in microcredits."""
    wallet = wallet_of(user)
    return wallet.balance, wallet.held


def moves(user: User) -> list[Transfer]:
    """Every movement of a person's credits as their statement has them, newest first."""
    page = older(wallet_of(user), Filters(), than=None, limit=10_000)
    assert not page.has_older
    return page.transfers


def sum_of(kind: str) -> int:
    """What a house account has received less what it has given."""
    account = Account.objects.get(kind=kind)
    came, went = (
        Transfer.objects.filter(**{side: account}).aggregate(sum=Sum("amount"))["sum"] or 0
        for side in ("credit", "debit")
    )
    return came - went


# --- A textbook's example --------------------------------------------------------------------------------


def test_pioneer_advertising_earns_what_it_was_paid_in_advance(db: None, settings: Settings) -> None:
    """The standard case of unearned revenue (Weygandt, Financial Accounting: Pioneer Advertising).

    On October 2, R. Knox pays $1,200 in advance. By October 31, $400 of it has been earned, and the adjusted trial
    balance shows cash 1,200 Dr., unearned service revenue 800 Cr., service revenue 400 Cr.
    """
    settings.SIGNUP_CREDITS = 0
    dollar = 100 * CREDIT
    before = {kind: sum_of(kind) for kind in ("stripe", "usage")}
    knox = User.objects.create_user("r.knox@example.org")

    pay(order(knox, 1_200 * dollar))
    for work in (150, 250):
        close_turn(open_turn(knox, 300 * dollar), price=work * dollar)
    commit_would_follow()

    cash, earned = (sum_of(kind) - before[kind] for kind in ("stripe", "usage"))
    unearned = wallet_of(knox).balance
    assert (-cash, unearned, earned) == (1_200 * dollar, 800 * dollar, 400 * dollar)
    assert cash + unearned + earned == 0
    assert [(move.kind, move.amount, move.balance_after) for move in moves(knox)] == [
        ("charge", 250 * dollar, 800 * dollar),
        ("charge", 150 * dollar, 1_050 * dollar),
        ("purchase", 1_200 * dollar, 1_200 * dollar),
    ]


# --- Wallets ---------------------------------------------------------------------------------------------


def test_a_new_wallet_has_the_welcome_credits(alice: User) -> None:
    assert has(alice) == (WELCOME, 0)
    assert has(alice) == (WELCOME, 0)
    assert [move.kind for move in moves(alice)] == ["signup"]


def test_without_welcome_credits_a_new_wallet_is_empty(alice: User, settings: Settings) -> None:
    settings.SIGNUP_CREDITS = 0
    assert has(alice) == (0, 0)
    assert moves(alice) == []


def test_a_statement_has_only_the_wallets_own_movements(alice: User, bob: User) -> None:
    give(alice, 5)
    give(bob, 7)
    assert [move.amount for move in moves(alice)] == [5, WELCOME]


def test_a_wallet_is_locked_only_inside_a_transaction(committed_db: None, alice: User) -> None:
    wallet_of(alice)
    with pytest.raises(transaction.TransactionManagementError):
        ledger.locked_wallet_of(alice)


# --- Hold, settle, release -------------------------------------------------------------------------------


def test_a_hold_is_set_aside_and_not_yet_spent(alice: User) -> None:
    open_turn(alice, 30 * CREDIT)
    assert has(alice) == (WELCOME, 30 * CREDIT)
    assert wallet_of(alice).available == 70 * CREDIT


@pytest.mark.parametrize(
    ("price", "settlement", "state"),
    [
        (10, Settlement(charged=10, overrun=0), "settled"),
        (30, Settlement(charged=30, overrun=0), "settled"),
        (31, Settlement(charged=30, overrun=1), "settled"),
        (9_000, Settlement(charged=30, overrun=8_970), "settled"),
        (0, Settlement(charged=0, overrun=0), "released"),
    ],
)
def test_settling_charges_up_to_the_hold_and_the_house_bears_the_rest(
    alice: User, price: int, settlement: Settlement, state: str
) -> None:
    usage, overruns = sum_of("usage"), sum_of("overruns")
    turn = open_turn(alice, 30)

    assert close_turn(turn, price) == settlement
    commit_would_follow()

    assert has(alice) == (WELCOME - settlement.charged, 0)
    assert sum_of("usage") - usage == price
    assert overruns - sum_of("overruns") == settlement.overrun
    assert Hold.objects.get(pk=turn).state == state
    assert set(Transfer.objects.filter(hold=turn).values_list("kind", flat=True)) == {
        kind for kind in ("charge", "overrun") if getattr(settlement, kind.replace("charge", "charged"))
    }


def test_a_wallet_in_hand_tells_what_postgresql_has(alice: User) -> None:
    """Views tell the balance from the object they hold, without asking again."""
    held = uuid.uuid4()
    with transaction.atomic():
        wallet = ledger.locked_wallet_of(alice)
        ledger.hold(wallet=wallet, hold_id=held, amount=30)
    assert (wallet.balance, wallet.held) == has(alice) == (WELCOME, 30)
    with transaction.atomic():
        wallet, _ = ledger.lock_wallet_holding(held)
        ledger.settle(wallet=wallet, hold_id=held, held=30, price=12)
    assert (wallet.balance, wallet.held) == has(alice) == (WELCOME - 12, 0)
    with transaction.atomic():
        wallet = ledger.locked_wallet_of(alice)
        bought = order(alice, 500)
        mark_paid(bought)
        ledger.purchase(wallet=wallet, order=bought)
        assert (wallet.balance, wallet.held) == has(alice) == (WELCOME + 488, 0)


def test_more_than_is_available_cannot_be_held(alice: User) -> None:
    open_turn(alice, 60 * CREDIT)
    with pytest.raises(InsufficientCredits) as refusal:
        open_turn(alice, 40 * CREDIT + 1)
    assert (refusal.value.available, refusal.value.needed) == (40 * CREDIT, 40 * CREDIT + 1)
    assert has(alice) == (WELCOME, 60 * CREDIT)


@pytest.mark.parametrize("first", [0, 10])
@pytest.mark.parametrize("second", [0, 10])
def test_a_hold_is_settled_or_released_once(alice: User, first: int, second: int) -> None:
    turn = open_turn(alice, 30)
    close_turn(turn, first)
    with pytest.raises(HoldEnded):
        close_turn(turn, second)
    assert has(alice) == (WELCOME - first, 0)


@pytest.mark.parametrize(
    ("before", "held"), [(10, 30), (None, 31)], ids=["ended before", "of something else"]
)
def test_what_goes_with_a_settlement_is_not_done_without_it(
    alice: User, before: int | None, held: int
) -> None:
    turn = open_turn(alice, 30)
    if before is not None:
        close_turn(turn, before)
    as_it_was = has(alice)
    beside = rows.update(User, alice.pk, name="stored")
    wallet = wallet_of(alice)
    with pytest.raises(HoldEnded), transaction.atomic():
        ledger.settle(wallet=wallet, hold_id=turn, held=held, price=20, then=lambda settlement: [beside])
    alice.refresh_from_db()
    assert alice.name == "Alice"
    assert has(alice) == as_it_was


def test_a_hold_is_not_settled_from_another_wallet(alice: User, bob: User) -> None:
    turn = open_turn(alice, 30)
    with pytest.raises(HoldEnded), transaction.atomic():
        ledger.settle(wallet=ledger.locked_wallet_of(bob), hold_id=turn, held=30, price=30)
    assert (has(alice), has(bob)) == ((WELCOME, 30), (WELCOME, 0))


def test_a_negative_price_mints_nothing(alice: User) -> None:
    turn = open_turn(alice, 30)
    with pytest.raises(IntegrityError, match="transfer_amount_is_positive"), transaction.atomic():
        close_turn(turn, -30)
    assert has(alice) == (WELCOME, 30)


@pytest.mark.parametrize("amount", [0, -30])
def test_a_hold_of_nothing_or_less_frees_nothing(alice: User, amount: int) -> None:
    with pytest.raises(IntegrityError, match="hold_amount_is_positive"), transaction.atomic():
        open_turn(alice, amount)
    assert has(alice) == (WELCOME, 0)


def test_a_hold_ends_after_its_person_is_gone(alice: User) -> None:
    turn = open_turn(alice, 30)
    wallet = wallet_of(alice)
    alice.delete()
    close_turn(turn, 10)
    wallet.refresh_from_db()
    assert (wallet.balance, wallet.held) == (WELCOME - 10, 0)


# --- Keys and adjustments --------------------------------------------------------------------------------


def test_a_purchase_repeated_is_the_same_purchase(alice: User) -> None:
    bought = order(alice, 500)
    first, again = pay(bought), pay(bought)
    assert first == again
    assert has(alice) == (WELCOME + 500, 0)


def test_a_key_cannot_be_used_for_something_else(alice: User, bob: User, operator: User) -> None:
    adjust = partial(ledger.adjust, user=alice, amount=50, reason="sorry", made_by=operator, key="k")
    first = adjust()
    assert adjust() == first
    other: dict[str, Any]
    for other in (
        {"amount": 51},
        {"amount": -50},
        {"user": bob},
        {"reason": "thanks"},
        {"made_by": bob},
    ):
        with pytest.raises(KeyReused):
            adjust(**other)
    assert (has(alice), has(bob)) == ((WELCOME + 50, 0), (WELCOME, 0))


def test_an_order_whose_credits_were_changed_is_not_credited_again(alice: User) -> None:
    bought = order(alice, 500)
    pay(bought)
    bought.credits_microcredits = 50_000
    with pytest.raises(KeyReused):
        pay(bought)
    assert has(alice) == (WELCOME + 500, 0)


def test_taking_credits_is_repeatable_also_when_nothing_is_left(alice: User, operator: User) -> None:
    take = partial(ledger.adjust, user=alice, amount=-WELCOME, reason="abuse", made_by=operator, key="take")
    assert take() == take()
    assert has(alice) == (0, 0)


def test_an_adjustment_takes_only_what_is_available(alice: User) -> None:
    open_turn(alice, 60 * CREDIT)
    with pytest.raises(InsufficientCredits) as refusal:
        give(alice, -40 * CREDIT - 1)
    assert (refusal.value.available, refusal.value.needed) == (40 * CREDIT, 40 * CREDIT + 1)
    give(alice, -40 * CREDIT)
    assert has(alice) == (60 * CREDIT, 60 * CREDIT)


def test_a_wallet_below_zero_buys_nothing_until_it_is_repaid(alice: User) -> None:
    bought = order(alice, 500)
    pay(bought)
    running = open_turn(alice, 200)
    give(alice, 200 - wallet_of(alice).balance)

    take_back(bought, 500)
    assert has(alice) == (-300, 200)
    close_turn(running, 200)
    assert has(alice) == (-500, 0)

    pay(order(alice, 500))
    with pytest.raises(InsufficientCredits) as refusal:
        open_turn(alice, 1)
    assert refusal.value.available == 0
    pay(order(alice, 1))
    open_turn(alice, 1)


# --- All at once -----------------------------------------------------------------------------------------


def test_twenty_first_visits_at_once_open_one_wallet_and_give_once(committed_db: None, alice: User) -> None:
    def visit() -> int:
        return wallet_of(User.objects.get(pk=alice.pk)).balance

    assert at_once([visit] * 20) == [WELCOME] * 20
    assert len(moves(alice)) == 1


def test_the_last_credits_are_spent_once(committed_db: None, alice: User) -> None:
    """Fifty turns at once on credits for one: one begins, forty-nine are refused, and nothing goes below zero."""
    price = WELCOME // 2 + 1

    begun = at_once([partial(open_turn, alice, price)] * 50)

    assert Counter(map(type, begun)) == {uuid.UUID: 1, InsufficientCredits: 49}
    assert has(alice) == (WELCOME, price)
    [turn] = [answer for answer in begun if isinstance(answer, uuid.UUID)]
    close_turn(turn, price)
    assert has(alice) == (WELCOME - price, 0)


def test_the_last_credits_are_spent_once_even_by_statements_that_lock_nothing(
    committed_db: None, alice: User
) -> None:
    """PostgreSQL keeps the rule alone, without our code's care to lock the wallet first."""
    wallet, price = wallet_of(alice), WELCOME // 2 + 1

    begun = at_once(
        [partial(open_turn, alice, price, hold=partial(Hold.objects.create, account=wallet))] * 12
    )

    assert Counter(map(type, begun)) == {uuid.UUID: 1, IntegrityError: 11}
    assert has(alice) == (WELCOME, price)
    [turn] = [answer for answer in begun if isinstance(answer, uuid.UUID)]
    close_turn(turn, 0)
    assert has(alice) == (WELCOME, 0)


def test_holds_that_all_fit_are_all_made_at_once(committed_db: None, alice: User) -> None:
    begun = at_once([partial(open_turn, alice, 5 * CREDIT)] * 20)
    assert has(alice) == (WELCOME, WELCOME)
    assert (
        at_once([partial(close_turn, turn, 2 * CREDIT) for turn in begun]) == [Settlement(2 * CREDIT, 0)] * 20
    )
    assert has(alice) == (60 * CREDIT, 0)


@pytest.mark.parametrize("prices", [[30] * 10, [30, 0] * 5, [0] * 10], ids=["settle", "either", "release"])
def test_a_hold_ends_once_whoever_ends_it(committed_db: None, alice: User, prices: list[int]) -> None:
    """Two processes that each think the turn is theirs to close: an answer's end, a stop, and the sweep."""
    turn = open_turn(alice, 30)

    ends = at_once([partial(close_turn, turn, price) for price in prices])

    assert Counter(map(type, ends)) == {Settlement: 1, HoldEnded: 9}
    [settlement] = [end for end in ends if isinstance(end, Settlement)]
    assert settlement.charged in prices
    assert has(alice) == (WELCOME - settlement.charged, 0)
    assert Hold.objects.get(pk=turn).state == ("settled" if settlement.charged else "released")


def test_an_order_paid_twice_in_one_moment_is_credited_once(committed_db: None, alice: User) -> None:
    wallet_of(alice)
    bought = order(alice, 500)

    purchases = at_once([partial(pay, bought)] * 10)

    assert {purchase.pk for purchase in purchases} == {Transfer.objects.get(order=bought).pk}
    assert has(alice) == (WELCOME + 500, 0)


def test_a_first_visit_and_a_payment_in_one_moment(committed_db: None, alice: User) -> None:
    bought = order(alice, 500)
    at_once([partial(pay, bought), partial(wallet_of, alice)] * 5)
    assert has(alice) == (WELCOME + 500, 0)


def test_a_key_sent_twice_at_once_adjusts_once(committed_db: None, alice: User) -> None:
    adjust = partial(ledger.adjust, user=alice, amount=50, reason="r", made_by=alice, key=uuid.uuid4().hex)
    made = at_once([adjust] * 10)
    assert len({transfer.pk for transfer in made}) == 1
    assert has(alice) == (WELCOME + 50, 0)


def test_a_key_sent_for_two_people_at_once_is_used_for_one(
    committed_db: None, alice: User, bob: User
) -> None:
    def adjust(person: User, amount: int) -> Transfer:
        return ledger.adjust(user=person, amount=amount, reason="r", made_by=alice, key=key)

    for _ in range(5):
        key = uuid.uuid4().hex
        made = at_once([partial(adjust, alice, 50), partial(adjust, bob, 50), partial(adjust, alice, 51)])
        assert Counter(map(type, made)) == {Transfer: 1, KeyReused: 2}


def test_who_has_waited_for_a_wallet_cannot_spend_what_expired_meanwhile(
    committed_db: None, alice: User
) -> None:
    def open_turn_on_all() -> uuid.UUID:
        try:
            return open_turn(alice, WELCOME + CREDIT)
        finally:
            connection.close()

    wallet_of(alice)
    with ThreadPoolExecutor(1) as others:
        with transaction.atomic():
            ledger.locked_wallet_of(alice)
            opened = others.submit(open_turn_on_all)
            wait_until(somebody_waits, "the other one waits for the wallet")
            grant(alice, CREDIT, expires_at=sql("SELECT clock_timestamp()")[0][0])
        with pytest.raises(InsufficientCredits):
            opened.result()


def test_everything_at_once_neither_deadlocks_nor_breaks_the_books(
    committed_db: None, alice: User, bob: User, charlie: User
) -> None:
    """Eight people at work on three wallets, and an auditor who finds the books right at every moment.

    Any deadlock, serialization failure or broken rule would come back as an error that is not in `expected`.
    """
    people = [alice, bob, charlie]

    def work(seed: int) -> set[type]:
        chance, running, met = Random(seed), [], set()
        for _ in range(25):
            person = chance.choice(people)
            step = chance.choice(["open", "open", "close", "close", "pay", "give", "take", "look"])
            try:
                match step:
                    case "open":
                        running.append(open_turn(person, chance.randrange(1, 40) * CREDIT))
                    case "close" if running:
                        close_turn(running.pop(), chance.choice([0, CREDIT, 50 * CREDIT]))
                    case "pay":
                        bought = order(person, chance.randrange(1, 9) * CREDIT)
                        pay(bought)
                        pay(bought)
                    case "give":
                        give(person, CREDIT)
                    case "take":
                        give(person, -30 * CREDIT)
                    case "look":
                        assert wallet_of(person).available >= 0
            except InsufficientCredits as refusal:
                met.add(type(refusal))
        for turn in running:
            close_turn(turn, CREDIT)
        return met

    def look_through_the_books() -> set[type]:
        for _ in range(8):
            assert not [row for rows in audit.prove(audit.RULES).broken.values() for row in rows]
        return set()

    met = at_once([*(partial(work, seed) for seed in range(8)), look_through_the_books])

    assert [error for error in met if isinstance(error, Exception)] == []
    assert set().union(*met) == {InsufficientCredits}
    for person in people:
        wallet = wallet_of(person)
        assert wallet.held == 0
        came = [move.amount if move.credit_id == wallet.pk else -move.amount for move in moves(person)]
        assert wallet.balance == sum(came) >= 0
