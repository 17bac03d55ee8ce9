"""How the price of an answer comes about, part by part and to the last microcredit. Pure."""

from dataclasses import dataclass
from decimal import Decimal, localcontext

from billing import pricing
from billing.answers import Answer
from billing.credits import to_credits

CLASSES = {
    "input_tokens": ("Input", "input"),
    "cache_read_tokens": ("Read from the cache", "cache_read"),
    "cache_write_5m_tokens": ("Written to the cache", "cache_write_5m"),
    "cache_write_1h_tokens": ("Written to the cache for an hour", "cache_write_1h"),
    "output_tokens": ("Output", "output"),
}


@dataclass(frozen=True, slots=True)
class Part:
    """Tokens of one class, or something counted once; `per_million` and `credits` are exact, markup included."""

    name: str
    credits: Decimal
    tokens: int | None = None
    per_million: Decimal | None = None

    @property
    def figure(self) -> str:
        """The credits with at least six places, so that points stand below each other."""
        exact = self.credits.normalize()
        places = max(6, -int(exact.as_tuple().exponent))
        return f"{exact:,.{places}f}".replace("-", "−")


def parts(answer: Answer, charged: int) -> list[Part]:
    """What adds up to the `charged` microcredits of an answer."""
    usage, price = answer.usage, answer.price
    rates = pricing.rates(price, prompt_tokens=usage.prompt_tokens)
    found = []
    with localcontext(prec=50):
        for column, (name, rate) in CLASSES.items():
            if tokens := getattr(usage, column):
                # Microcredits per token are credits per million tokens.
                per_million = getattr(rates, rate) * price.markup
                found.append(Part(name, tokens * per_million / 1_000_000, tokens, per_million))
        if price.flat_fee:
            found.append(Part("Each message", price.flat_fee))
        due = to_credits(pricing.charge(usage, price))
        if rounding := due - sum((part.credits for part in found), Decimal(0)):
            found.append(Part("Rounded up", rounding))
        if ours := to_credits(charged) - due:
            found.append(Part("Above what was held: not yours to pay", ours))
    return found


def borne_by_house(answer: Answer, charged: int) -> int:
    """Microcredits of the price that were not charged, since no more was held."""
    return pricing.charge(answer.usage, answer.price) - charged


def rates_per_million(answer: Answer) -> pricing.Rates:
    """Credits per million tokens that held for a prompt of this size, before the markup."""
    # Microcredits per token are credits per million tokens.
    return pricing.rates(answer.price, prompt_tokens=answer.usage.prompt_tokens)


def above_tier(answer: Answer) -> int | None:
    """The size of prompt above which other prices hold, if this prompt was."""
    tier = answer.price.tier_tokens
    return tier if tier is not None and answer.usage.prompt_tokens > tier else None
