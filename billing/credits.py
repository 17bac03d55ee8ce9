"""Microcredits to and from the decimals that people read."""

from decimal import Decimal

MICROCREDITS_PER_CREDIT = 1_000_000
CREDITS_PER_USD = 100


def to_microcredits(credits: Decimal) -> int:
    """Exact: ValueError when `credits` is finer than a microcredit, or no number."""
    # In whole numbers: multiplying decimals rounds to the context's precision.
    numerator, denominator = credits.as_integer_ratio()
    amount, rest = divmod(numerator * MICROCREDITS_PER_CREDIT, denominator)
    if rest:
        raise ValueError(f"{credits} credits is finer than a microcredit")
    return amount


def to_credits(microcredits: int) -> Decimal:
    """Credits with exactly six places."""
    return Decimal(microcredits).scaleb(-6)


def as_string(microcredits: int) -> str:
    """The form of every amount in the API: a decimal string with six places, such as "12.340000"."""
    return f"{to_credits(microcredits):.6f}"
