"""Credits with all six places, as the admin writes them in columns, and what they are in dollars."""

from decimal import ROUND_HALF_UP, Decimal

from django import template
from django.utils.html import format_html
from django.utils.safestring import SafeString

from billing.credits import CREDITS_PER_USD, to_credits

register = template.Library()


@register.filter
def amount(microcredits: int, sign: str = "") -> SafeString:
    """Microcredits as "1,058.420000", with a true minus; `sign` stands before what is positive."""
    text = f"{to_credits(abs(microcredits)):,.6f}"
    if microcredits < 0:
        return format_html('<span class="amount negative">−{}</span>', text)
    return format_html('<span class="amount">{}{}</span>', sign if microcredits else "", text)


@register.filter
def usd(microcredits: int) -> SafeString:
    """What microcredits are at list price, as "$10.58": rounded to the nearest cent."""
    dollars = (to_credits(abs(microcredits)) / CREDITS_PER_USD).quantize(Decimal("0.01"), ROUND_HALF_UP)
    if microcredits < 0 and dollars:
        return format_html('<span class="amount negative">−${}</span>', f"{dollars:,}")
    return format_html('<span class="amount">${}</span>', f"{dollars:,}")
