"""Microcredits and the decimals that people read."""

from decimal import Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from billing.credits import as_string, to_credits, to_microcredits

BIGINT = st.integers(min_value=-(2**63), max_value=2**63 - 1)


@pytest.mark.parametrize(
    ("microcredits", "text"),
    [
        (0, "0.000000"),
        (1, "0.000001"),
        (-1, "-0.000001"),
        (12_340_000, "12.340000"),
        (100_000_000, "100.000000"),
        (-400_000_001, "-400.000001"),
        (2**63 - 1, "9223372036854.775807"),
    ],
)
def test_credits_are_told_with_six_places(microcredits: int, text: str) -> None:
    assert as_string(microcredits) == text
    assert to_microcredits(Decimal(text)) == microcredits


@given(BIGINT)
@example(-(2**63))
def test_there_and_back_is_the_same(microcredits: int) -> None:
    assert to_microcredits(to_credits(microcredits)) == microcredits
    assert to_microcredits(Decimal(as_string(microcredits))) == microcredits


@pytest.mark.parametrize(
    ("credits", "microcredits"),
    [("1", 1_000_000), ("1E+3", 1_000_000_000), ("0.5000000000", 500_000), ("-2.5", -2_500_000)],
)
def test_any_exact_decimal_will_do(credits: str, microcredits: int) -> None:
    assert to_microcredits(Decimal(credits)) == microcredits


@pytest.mark.parametrize(
    "credits", ["0.0000001", "-0.0000005", "1.00000000000000000000000000000000000001", "NaN", "Infinity"]
)
def test_what_is_finer_than_a_microcredit_or_no_amount_is_refused(credits: str) -> None:
    with pytest.raises((ValueError, OverflowError)):
        to_microcredits(Decimal(credits))
