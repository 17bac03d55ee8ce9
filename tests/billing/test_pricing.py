"""Tokens to microcredits: the price book by hand, and what holds for any price and any usage."""

import ast
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from math import ceil
from pathlib import Path

import pytest
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

import billing
from billing import pricing
from billing.credits import MICROCREDITS_PER_CREDIT, to_microcredits
from billing.models import LanguageModel, Price
from billing.pricing import Usage

CLASSES = ("input", "output", "cache_read", "cache_write_5m", "cache_write_1h")


def price_of(model: str) -> Price:
    """The row that the price book begins with."""
    return Price.objects.filter(model=model).earliest("effective_from")


def price(**fields: str | int | None) -> Price:
    """A row of the price book that is not in it; what is not said is Sonnet's."""
    usd = {
        "input": "2",
        "output": "10",
        "cache_write_5m": "2.50",
        "cache_write_1h": "4",
        "cache_read": "0.10",
    }
    facts = {**{f"{name}_usd": amount for name, amount in usd.items()}, **fields}
    return Price(
        **{name: Decimal(value) if isinstance(value, str) else value for name, value in facts.items()}
    )


# --- The price book, by hand -----------------------------------------------------------------------------

# 1 US$ a million tokens = 100 microcredits a token. 1,000 tokens of input, 500 of output, 2,000 read from the cache,
# 300 written to it for five minutes and 100 for an hour.
OF_ALL = Usage(1_000, 500, cache_read_tokens=2_000, cache_write_5m_tokens=300, cache_write_1h_tokens=100)
OPUS_BEFORE = 500_000 + 1_250_000 + 100_000 + 187_500 + 100_000


@pytest.mark.parametrize(
    ("model", "microcredits"),
    [
        ("claude-sonnet-5-5", 200_000 + 500_000 + 20_000 + 75_000 + 40_000),
        ("claude-haiku-5-5", 10_000 + 25_000 + 2_000 + 3_750 + 2_000),
        ("claude-opus-5-5", 400_000 + 1_000_000 + 40_000 + 150_000 + 80_000),
        ("claude-fable-5-2", 800_000 + 2_000_000 + 40_000 + 300_000 + 160_000),
        ("claude-opus-5", OPUS_BEFORE),
        ("claude-opus-4-8", OPUS_BEFORE),
        ("claude-opus-4-7", OPUS_BEFORE),
        ("claude-opus-4-6", OPUS_BEFORE),
        ("claude-opus-4-5", OPUS_BEFORE),
        ("claude-haiku-4-5", 100_000 + 250_000 + 20_000 + 37_500 + 20_000),
    ],
)
def test_each_model_costs_what_its_provider_asks(db: None, model: str, microcredits: int) -> None:
    row = price_of(model)
    assert pricing.cost(OF_ALL, row) == pricing.charge(OF_ALL, row) == microcredits


# Microcredits a token: input, output, cache read, cache write 5 m, cache write 1 h
RATES = {
    "claude-sonnet-5-5": (200, 1_000, 10, 250, 400),
    "claude-haiku-5-5": (10, 50, 1, Fraction(25, 2), 20),
    "claude-opus-5-5": (400, 2_000, 20, 500, 800),
    "claude-fable-5-2": (800, 4_000, 20, 1_000, 1_600),
    "claude-opus-5": (500, 2_500, 50, 625, 1_000),
    "claude-haiku-4-5": (100, 500, 10, 125, 200),
}


@pytest.mark.parametrize("model", RATES)
@pytest.mark.parametrize("tokens", [1, 2, 777, 100_000])
def test_each_class_of_tokens_has_its_own_price(db: None, model: str, tokens: int) -> None:
    row = price_of(model)
    for name, rate in zip(CLASSES, RATES[model], strict=True):
        assert pricing.charge(Usage(**{f"{name}_tokens": tokens}), row) == ceil(rate * tokens), name


@pytest.mark.parametrize(
    ("usage", "microcredits"),
    [
        (Usage(100_000), 1_000_000),
        (Usage(100_001), 5_000_050),
        (Usage(cache_read_tokens=100_000), 100_000),
        (Usage(cache_read_tokens=100_001), 500_005),
        (Usage(cache_write_5m_tokens=100_001), 6_250_063),  # 6,250,062.5
        (Usage(cache_write_1h_tokens=100_001), 10_000_100),
        # The size of a prompt is all of it, cached or not; output does not count, but pays the tier's price.
        (Usage(60_000, 1_000, 30_000, 9_000, 1_000), 600_000 + 50_000 + 30_000 + 112_500 + 20_000),
        (Usage(60_001, 1_000, 30_000, 9_000, 1_000), 3_000_050 + 250_000 + 150_000 + 562_500 + 100_000),
        (Usage(100_000, 50_000), 1_000_000 + 2_500_000),
        (Usage(50_000, 60_000), 500_000 + 3_000_000),
    ],
)
def test_haiku_costs_more_above_a_hundred_thousand_tokens(db: None, usage: Usage, microcredits: int) -> None:
    assert pricing.charge(usage, price_of("claude-haiku-5-5")) == microcredits


@pytest.mark.parametrize(
    ("fields", "usage", "charged", "cost"),
    [
        ({"markup": "1.2"}, Usage(1_000, 500), 840_000, 700_000),
        ({"markup": "0.5"}, Usage(1_000, 500), 350_000, 700_000),
        ({"markup": "1.0001"}, Usage(1), 201, 200),  # 200.02
        ({"flat_fee": "0.25"}, Usage(1_000, 500), 950_000, 700_000),
        (
            {"flat_fee": "0.25", "markup": "2"},
            Usage(1_000, 500),
            1_650_000,
            700_000,
        ),  # the fee is not marked up
        ({"flat_fee": "0.000001"}, Usage(), 1, 0),
        ({}, Usage(), 0, 0),
        # Rounded once, up: three tenths are one, and not one for each of three classes.
        ({"input_usd": "0.001", "output_usd": "0.001", "cache_read_usd": "0.001"}, Usage(1, 1, 1), 1, 1),
        ({"input_usd": "0.001"}, Usage(10), 1, 1),
        ({"input_usd": "0.001"}, Usage(11), 2, 2),
        ({"input_usd": "0.001", "markup": "3"}, Usage(11), 4, 2),  # 3.3, and not thrice the rounded cost
        ({"input_usd": "0.000001", "markup": "0.01"}, Usage(1), 1, 1),
    ],
)
def test_markup_fee_and_rounding(fields: dict[str, str], usage: Usage, charged: int, cost: int) -> None:
    row = price(**fields)
    assert (pricing.charge(usage, row), pricing.cost(usage, row)) == (charged, cost)


@pytest.mark.parametrize(
    ("model", "prompt_tokens", "microcredits"),
    [
        # The dearest that a prompt can become is a cache write of five minutes; 256 tokens of answer.
        ("claude-sonnet-5-5", 1_000, 250_000 + 256_000),
        ("claude-opus-5-5", 1_000, 500_000 + 512_000),
        ("claude-haiku-5-5", 100_000, 1_250_000 + 12_800),
        ("claude-haiku-5-5", 100_001, 6_250_063 + 64_000),
    ],
)
def test_the_worst_case_by_hand(db: None, model: str, prompt_tokens: int, microcredits: int) -> None:
    row = price_of(model)
    assert pricing.worst_case(prompt_tokens=prompt_tokens, max_tokens=256, price=row) == microcredits
    afforded = pricing.affordable_tokens(available=microcredits, prompt_tokens=prompt_tokens, price=row)
    assert afforded == 256
    assert (
        pricing.affordable_tokens(available=microcredits - 1, prompt_tokens=prompt_tokens, price=row) == 255
    )


def test_a_prompt_that_may_stay_below_a_cheaper_tier_is_held_at_the_dearer_side() -> None:
    row = price(tier_tokens=1_000, **{f"tier_{name}_usd": "1" for name in CLASSES})
    held = pricing.worst_case(prompt_tokens=2_000, max_tokens=10, price=row)
    assert held == 2_000 * 250 + 10 * 1_000
    assert held >= pricing.charge(Usage(output_tokens=10, cache_write_5m_tokens=1_000), row) == 260_000


def test_a_balance_that_does_not_pay_the_prompt_affords_less_than_nothing() -> None:
    for available in (249_999, 0, -1_000_000):
        assert pricing.affordable_tokens(available=available, prompt_tokens=1_000, price=price()) < 0
    assert pricing.affordable_tokens(available=250_000, prompt_tokens=1_000, price=price()) == 0
    # Nor the fee.
    free_prompt = price(flat_fee="1", input_usd="0", cache_write_5m_usd="0", cache_read_usd="0")
    assert pricing.affordable_tokens(available=999_999, prompt_tokens=1_000, price=free_prompt) < 0


# --- Whatever the price, whatever the usage --------------------------------------------------------------


def decimals(least: int, most: int, *, places: int) -> st.SearchStrategy[Decimal]:
    """Decimals of so many places; the bounds are told in units of the last."""
    return st.integers(min_value=least, max_value=most).map(lambda units: Decimal(units).scaleb(-places))


USD = decimals(0, 1000 * 10**6, places=6)
SOME_USD = decimals(1, 1000 * 10**6, places=6)
TOKENS = st.integers(min_value=0, max_value=2_000_000)


@st.composite
def prices(draw: st.DrawFn, *, tiers: bool = True) -> Price:
    """Anything that the price book takes."""
    row = Price(
        effective_from=timezone.now(),
        markup=draw(decimals(100, 20 * 10**4, places=4)),
        flat_fee=draw(USD),
    )
    prefixes = [""]
    if tiers and draw(st.booleans()):
        row.tier_tokens = draw(st.integers(min_value=1, max_value=1_000_000))
        prefixes.append("tier_")
    for prefix in prefixes:
        for name in CLASSES:
            setattr(row, f"{prefix}{name}_usd", draw(SOME_USD if name == "output" else USD))
    return row


@st.composite
def usages(draw: st.DrawFn) -> Usage:
    return Usage(*(draw(TOKENS) for _ in range(5)))


@st.composite
def bounded_usages(draw: st.DrawFn) -> tuple[int, int, Usage]:
    """How long the prompt and the answer can be at most, and a usage within that, of which nothing is kept an hour."""
    prompt_tokens, max_tokens = draw(TOKENS), draw(TOKENS)
    first, second, third = sorted(draw(st.integers(min_value=0, max_value=prompt_tokens)) for _ in range(3))
    output = draw(st.integers(min_value=0, max_value=max_tokens))
    return prompt_tokens, max_tokens, Usage(first, output, second - first, third - second)


def exact(usage: Usage, row: Price) -> Fraction:
    """What the provider asks for `usage` in microcredits, in fractions, which know no rounding."""
    dear = row.tier_tokens is not None and usage.prompt_tokens > row.tier_tokens
    prefix = "tier_" if dear else ""
    return sum(
        (
            getattr(usage, f"{name}_tokens") * Fraction(getattr(row, f"{prefix}{name}_usd")) * 100
            for name in CLASSES
        ),
        start=Fraction(0),
    )


@given(usages(), prices())
def test_a_charge_is_the_exact_price_rounded_up_once(usage: Usage, row: Price) -> None:
    fee = Fraction(row.flat_fee) * MICROCREDITS_PER_CREDIT
    assert pricing.cost(usage, row) == ceil(exact(usage, row))
    assert pricing.charge(usage, row) == ceil(exact(usage, row) * Fraction(row.markup) + fee)


@given(bounded_usages(), prices())
def test_nothing_within_its_bounds_costs_more_than_was_held(
    bounded: tuple[int, int, Usage], row: Price
) -> None:
    prompt_tokens, max_tokens, usage = bounded
    held = pricing.worst_case(prompt_tokens=prompt_tokens, max_tokens=max_tokens, price=row)
    assert 0 <= pricing.charge(usage, row) <= held


@given(prices(tiers=False), TOKENS, TOKENS)
def test_no_more_is_held_than_the_worst_can_cost(row: Price, prompt_tokens: int, max_tokens: int) -> None:
    held = pricing.worst_case(prompt_tokens=prompt_tokens, max_tokens=max_tokens, price=row)
    assert held == max(
        pricing.charge(Usage(output_tokens=max_tokens, **{name: prompt_tokens}), row)
        for name in ("input_tokens", "cache_read_tokens", "cache_write_5m_tokens")
    )


@given(prices(), TOKENS, TOKENS, TOKENS, TOKENS)
def test_a_longer_prompt_or_answer_is_never_held_for_less(
    row: Price, prompt: int, tokens: int, more_prompt: int, more_tokens: int
) -> None:
    held = pricing.worst_case(prompt_tokens=prompt, max_tokens=tokens, price=row)
    assert held <= pricing.worst_case(prompt_tokens=prompt + more_prompt, max_tokens=tokens, price=row)
    assert held <= pricing.worst_case(prompt_tokens=prompt, max_tokens=tokens + more_tokens, price=row)


@given(prices(), st.integers(min_value=-(10**12), max_value=10**13), TOKENS)
def test_what_a_balance_affords_is_the_most_that_fits(row: Price, available: int, prompt_tokens: int) -> None:
    tokens = pricing.affordable_tokens(available=available, prompt_tokens=prompt_tokens, price=row)
    worst = [
        pricing.worst_case(prompt_tokens=prompt_tokens, max_tokens=max(count, 0), price=row)
        for count in (tokens, tokens + 1)
    ]
    if tokens >= 0:
        assert worst[0] <= available
    assert worst[1] > available


@given(prices(), TOKENS, TOKENS)
def test_exactly_what_is_held_affords_exactly_so_many_tokens(
    row: Price, prompt_tokens: int, max_tokens: int
) -> None:
    held = pricing.worst_case(prompt_tokens=prompt_tokens, max_tokens=max_tokens, price=row)
    afforded = pricing.affordable_tokens(available=held, prompt_tokens=prompt_tokens, price=row)
    assert afforded >= max_tokens
    assert pricing.worst_case(prompt_tokens=prompt_tokens, max_tokens=afforded, price=row) == held


@given(usages(), prices(), TOKENS)
def test_amounts_are_whole_numbers(usage: Usage, row: Price, tokens: int) -> None:
    amounts = [
        pricing.cost(usage, row),
        pricing.charge(usage, row),
        pricing.worst_case(prompt_tokens=tokens, max_tokens=tokens, price=row),
        pricing.affordable_tokens(available=10**9, prompt_tokens=tokens, price=row),
        to_microcredits(row.flat_fee),
    ]
    assert {type(amount) for amount in amounts} == {int}


@pytest.mark.parametrize("module", ["credits", "ledger", "pricing", "audit/proof"])
def test_no_float_is_written_where_money_is(module: str) -> None:
    # `seconds`, of an audit, is the one quantity there that is not money.
    tree = ast.parse((Path(billing.__file__).parent / f"{module}.py").read_text())
    floats = [
        ast.unparse(node)
        for node in ast.walk(tree)
        if (isinstance(node, ast.Constant) and isinstance(node.value, float))
        or (isinstance(node, ast.Name) and node.id in {"float", "round"})
    ]
    assert floats == (["float"] if module == "audit/proof" else [])


# --- The price book --------------------------------------------------------------------------------------


@pytest.fixture
def model(db: None) -> LanguageModel:
    return LanguageModel.objects.create(id="m", name="M", context_tokens=200_000, max_output_tokens=10_000)


def test_the_price_in_force_is_the_newest_whose_day_has_come(model: LanguageModel) -> None:
    with pytest.raises(Price.DoesNotExist):
        Price.objects.now_for("m")
    rows = []
    for days in (3, 10, -3):
        rows.append(price())
        rows[-1].model, rows[-1].effective_from = model, timezone.now() - timezone.timedelta(days=days)
        rows[-1].save()
    assert Price.objects.now_for("m") == rows[0]
    assert Price.objects.in_force().get(model="m") == rows[0]


@pytest.mark.parametrize("field", ["input_usd", "output_usd", "cache_read_usd", "markup"])
def test_a_price_that_is_no_number_prices_nothing(field: str) -> None:
    """PostgreSQL refuses to keep one (tests/billing/test_price_rules.py); pricing does not rely on that."""
    row = price(**{field: "NaN"})
    with pytest.raises((ValueError, InvalidOperation)):
        pricing.worst_case(prompt_tokens=10, max_tokens=10, price=row)
    with pytest.raises((ValueError, InvalidOperation)):
        pricing.charge(Usage(10, 10, 10), row)
