"""How amounts are written on pages."""

import uuid
from decimal import Decimal

import pytest
from django.db import transaction

from accounts.models import User
from billing import ledger
from billing.templatetags.credits import (
    BAR_WIDTH,
    credits,
    decimal_credits,
    difference,
    for_tokens,
    money,
    wallet_bar,
)


@pytest.mark.parametrize(
    ("microcredits", "rounding", "written"),
    [
        (0, "down", "0.00"),
        (58_429_999, "down", "58.42"),
        (58_420_001, "up", "58.43"),
        (1_058_420_000, "down", "1,058.42"),
        (99_999, "down", "0.099"),
        (3_149, "nearest", "0.0031"),
        (42, "down", "0.000042"),
        (7, "down", "0.000007"),
        (-1_234_560, "down", "−1.24"),
    ],
)
def test_credits_are_as_exact_as_matters(microcredits: int, rounding: str, written: str) -> None:
    assert credits(microcredits, rounding) == written


@pytest.mark.parametrize(
    ("revenue", "cost", "written"),
    [
        (92_543_800, 92_665_600, ("92.54", "92.66", "−0.12")),
        (92_549_999, 12_340_000, ("92.54", "12.34", "80.20")),
        (0, 0, ("0.00", "0.00", "0.00")),
    ],
)
def test_a_difference_is_that_of_what_stands_beside_it(
    revenue: int, cost: int, written: tuple[str, str, str]
) -> None:
    assert (credits(revenue), credits(cost), difference(revenue, cost)) == written


def test_credits_of_the_price_list_have_no_idle_zeros() -> None:
    written = [decimal_credits(Decimal(amount)) for amount in ("1500.000000", "0.050000", "10500", "0")]
    assert written == ["1,500", "0.05", "10,500", "0"]
    assert for_tokens(Decimal(1000), 700) == Decimal("0.7")


@pytest.mark.parametrize(
    ("cents", "currency", "written"),
    [
        (1000, "usd", "$10"),
        (999, "eur", "€9.99"),
        (123_456_789, "gbp", "£1,234,567.89"),
        (1200, "chf", "12 CHF"),
        (1500, "jpy", "1,500 JPY"),
        (-250, "usd", "−$2.50"),
        (1500, "xof", "1,500 XOF"),
        (1550, "kwd", "1.550 KWD"),
        (150_000, "ugx", "1,500 UGX"),
    ],
)
def test_prices_are_written_as_money(cents: int, currency: str, written: str) -> None:
    assert money(cents, currency) == written


def test_the_bar_is_full_at_what_the_last_top_up_left(alice: User, operator: User) -> None:
    wallet = ledger.wallet_of(alice)
    assert wallet_bar(wallet).available == BAR_WIDTH
    ledger.adjust(user=alice, amount=-50_000_000, reason="test", made_by=operator, key=str(uuid.uuid4()))
    with transaction.atomic():
        wallet = ledger.locked_wallet_of(alice)
        ledger.hold(wallet=wallet, hold_id=uuid.uuid4(), amount=25_000_000)
    bar = wallet_bar(wallet)
    assert (bar.available, bar.held, bar.full) == (BAR_WIDTH / 4, BAR_WIDTH / 4, 100_000_000)
    ledger.adjust(user=alice, amount=150_000_000, reason="test", made_by=operator, key=str(uuid.uuid4()))
    assert wallet_bar(ledger.wallet_of(alice)).full == 200_000_000


def test_the_least_hold_is_seen_and_stays_within_the_bar(alice: User) -> None:
    with transaction.atomic():
        wallet = ledger.locked_wallet_of(alice)
        ledger.hold(wallet=wallet, hold_id=uuid.uuid4(), amount=1)
    bar = wallet_bar(wallet)
    assert bar.held > 0
    assert bar.available + bar.held <= BAR_WIDTH
