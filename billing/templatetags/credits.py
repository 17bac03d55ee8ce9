"""How credits and prices are written on pages, and how the wallet's bar is drawn."""

from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_DOWN, ROUND_FLOOR, ROUND_HALF_UP, Decimal

from django import template

from billing import currencies
from billing.credits import MICROCREDITS_PER_CREDIT, as_string, to_credits
from billing.models import Account, Transfer

register = template.Library()

BAR_WIDTH = 84
CURRENCY_SIGNS = {"usd": "$", "eur": "€", "gbp": "£"}
ROUNDING = {"down": ROUND_FLOOR, "up": ROUND_CEILING, "nearest": ROUND_HALF_UP}


@register.filter
def credits(microcredits: int, rounding: str = "down") -> str:
    """Microcredits as people read them: two places, or two significant digits below a tenth of a credit.

    A balance rounds down, so that it is never overstated, and a limit up, so that it is never broken. What is
    between two amounts that stand beside it is their `difference`. static/js/lib/credits.js writes them the same way.
    """
    return _text(_written(microcredits, rounding))


@register.filter
def difference(microcredits: int, less: int) -> str:
    """What `credits` writes of the one, less what it writes of the other: so the three add up as they stand there."""
    return _text(_written(microcredits) - _written(less))


def _written(microcredits: int, rounding: str = "down") -> Decimal:
    places = 2
    if 0 < abs(microcredits) < MICROCREDITS_PER_CREDIT // 10:
        places = min(6, 8 - len(str(abs(microcredits))))
    return to_credits(microcredits).quantize(Decimal(1).scaleb(-places), ROUNDING[rounding])


def _text(amount: Decimal) -> str:
    return f"{amount:,f}".replace("-", "−")


@register.filter
def exact_credits(microcredits: int) -> str:
    """Microcredits as "58.420000", the form of the API."""
    return as_string(microcredits)


@register.filter
def decimal_credits(amount: Decimal) -> str:
    """Credits as exact as they are, without idle zeros: "1,500", "0.05"."""
    exact = Decimal(amount)
    whole = exact == exact.to_integral_value()
    return f"{exact.quantize(Decimal(1)) if whole else exact.normalize():,f}"


@register.filter
def plain(amount: Decimal) -> str:
    """A number as a field takes it, without idle zeros: "1500", "0.05"."""
    return decimal_credits(amount).replace(",", "")


@register.filter
def for_tokens(per_million: Decimal, tokens: int) -> Decimal:
    """Credits that so many tokens come to, at a price per million."""
    return Decimal(per_million) * tokens / 1_000_000


@register.filter
def money(cents: int, currency: str) -> str:
    """A price in a currency's smallest unit as "$10", "€9.99" or "12 CHF"."""
    amount, minus = currencies.amount(abs(cents), currency), "−" if cents < 0 else ""
    text = f"{amount.quantize(Decimal(1)) if amount == amount.to_integral_value() else amount:,f}"
    sign = CURRENCY_SIGNS.get(currency)
    return f"{minus}{sign}{text}" if sign else f"{minus}{text} {currency.upper()}"


@register.filter
def dollars(amount: Decimal) -> str:
    """US dollars as "$10" or "$12.50"."""
    return money(int(amount.scaleb(2)), "usd")


@dataclass(frozen=True, slots=True)
class WalletBar:
    """Widths of the bar's two pieces out of BAR_WIDTH, and the microcredits that the whole bar stands for."""

    available: Decimal
    held: Decimal
    full: int


@register.simple_tag
def wallet_bar(wallet: Account) -> WalletBar:
    """The bar of a wallet, full at what it had after its last top-up."""
    last = (
        Transfer.objects.filter(credit=wallet).order_by("-id").values_list("balance_after", flat=True).first()
    )
    full = max(last or 0, wallet.balance, 1)
    available = _share(max(wallet.available, 0), full)
    held = min(_share(wallet.held, full), BAR_WIDTH - available)
    return WalletBar(available=available, held=held, full=full)


def _share(part: int, full: int) -> Decimal:
    # Anything at all is seen: a live hold of a thousandth would otherwise be less than a pixel.
    width = (Decimal(part) / full * BAR_WIDTH).quantize(Decimal("0.1"), ROUND_DOWN)
    return max(width, Decimal(2)) if part else Decimal(0)
