"""Tokens to microcredits. Pure: no database, no clock, no floats."""

from dataclasses import dataclass, replace
from decimal import ROUND_CEILING, Decimal, localcontext

from billing.credits import CREDITS_PER_USD, to_microcredits
from billing.models import Price


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one answer in the five classes that have a price; the classes are disjoint.

    As Anthropic reports them: `input_tokens` is the uncached remainder of the prompt.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_5m_tokens: int = 0
    cache_write_1h_tokens: int = 0

    @property
    def prompt_tokens(self) -> int:
        return (
            self.input_tokens
            + self.cache_read_tokens
            + self.cache_write_5m_tokens
            + self.cache_write_1h_tokens
        )


@dataclass(frozen=True, slots=True)
class Rates:
    """Microcredits per token. US$ 1 per million tokens is exactly 100 microcredits per token."""

    input: Decimal
    output: Decimal
    cache_read: Decimal
    cache_write_5m: Decimal
    cache_write_1h: Decimal


def rates(price: Price, *, prompt_tokens: int) -> Rates:
    """What the provider asks per token for a prompt of this size, before markup.

    Above `price.tier_tokens` the tier's rates apply to every token of the request, output too.
    """
    tier = price.tier_tokens is not None and prompt_tokens > price.tier_tokens
    prefix = "tier_" if tier else ""
    names = ("input", "output", "cache_read", "cache_write_5m", "cache_write_1h")
    return Rates(**{name: getattr(price, f"{prefix}{name}_usd") * CREDITS_PER_USD for name in names})


def cost(usage: Usage, price: Price) -> int:
    """Microcredits that the provider asks for `usage`, rounded up once."""
    return _rounded_up(_exact_cost(usage, price))


def charge(usage: Usage, price: Price) -> int:
    """Microcredits that a person pays for `usage`: cost, markup and flat fee, rounded up once."""
    with localcontext(prec=50):
        return _rounded_up(_exact_cost(usage, price) * price.markup + to_microcredits(price.flat_fee))


def worst_case(*, prompt_tokens: int, max_tokens: int, price: Price) -> int:
    """Microcredits that a turn can cost at most: what is held before it starts."""
    with localcontext(prec=50):
        prompt, token = _worst_rates(prompt_tokens, price)
        return _rounded_up((prompt + token * max_tokens) * price.markup + to_microcredits(price.flat_fee))


def affordable_tokens(*, available: int, prompt_tokens: int, price: Price) -> int:
    """The largest `max_tokens` whose worst case `available` microcredits can pay; below zero if not even the prompt."""
    with localcontext(prec=50):
        prompt, token = _worst_rates(prompt_tokens, price)
        left = (Decimal(available) - to_microcredits(price.flat_fee)) / price.markup - prompt
        tokens = int((left / token).to_integral_value(rounding="ROUND_FLOOR"))
    # Division by the markup may have rounded: step down until the promise holds.
    while tokens > 0 and worst_case(prompt_tokens=prompt_tokens, max_tokens=tokens, price=price) > available:
        tokens -= 1
    return tokens


@dataclass(frozen=True, slots=True)
class Example:
    """What a typical turn comes to at some price, in microcredits."""

    name: str
    usage: Usage
    charged: int
    cost: int

    @property
    def earned(self) -> int:
        return self.charged - self.cost


SHORT = Usage(input_tokens=1_000, output_tokens=500)
# Far into a conversation: of 50,000 tokens nearly all are read from the cache.
LONG = Usage(input_tokens=2_000, output_tokens=1_000, cache_read_tokens=45_000, cache_write_5m_tokens=3_000)


def examples(price: Price) -> list[Example]:
    """A short turn, a long one, and one whose prompt is just above the tier where there is one."""
    turns = {"Short turn": SHORT, "Long turn": LONG}
    if price.tier_tokens is not None:
        turns["Turn above the tier"] = replace(LONG, cache_read_tokens=price.tier_tokens)
    return [
        Example(name, usage, charged=charge(usage, price), cost=cost(usage, price))
        for name, usage in turns.items()
    ]


def _worst_rates(prompt_tokens: int, price: Price) -> tuple[Decimal, Decimal]:
    """The dearest price of the whole prompt, and of one token of output.

    `prompt_tokens` is an upper bound, so the real prompt may fall below the tier: the dearer side counts. Of the
    cache, only writes of five minutes are asked for.
    """
    sides = [rates(price, prompt_tokens=0), rates(price, prompt_tokens=prompt_tokens)]
    token = max(max(side.input, side.cache_write_5m, side.cache_read) for side in sides)
    return prompt_tokens * token, max(side.output for side in sides)


def _exact_cost(usage: Usage, price: Price) -> Decimal:
    with localcontext(prec=50):
        rate = rates(price, prompt_tokens=usage.prompt_tokens)
        return (
            usage.input_tokens * rate.input
            + usage.output_tokens * rate.output
            + usage.cache_read_tokens * rate.cache_read
            + usage.cache_write_5m_tokens * rate.cache_write_5m
            + usage.cache_write_1h_tokens * rate.cache_write_1h
        )


def _rounded_up(amount: Decimal) -> int:
    return int(amount.to_integral_value(rounding=ROUND_CEILING))
