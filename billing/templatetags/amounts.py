"""Credits with all six places, as the admin writes them in columns."""

from django import template
from django.utils.html import format_html
from django.utils.safestring import SafeString

from billing.credits import to_credits

register = template.Library()


@register.filter
def amount(microcredits: int, sign: str = "") -> SafeString:
    """Microcredits as "1,058.420000", with a true minus; `sign` stands before what is positive."""
    text = f"{to_credits(abs(microcredits)):,.6f}"
    if microcredits < 0:
        return format_html('<span class="amount negative">−{}</span>', text)
    return format_html('<span class="amount">{}{}</span>', sign if microcredits else "", text)
