"""How amounts of money are counted at Stripe: whole numbers of a currency's smallest unit."""

from decimal import Decimal

from django.core.validators import RegexValidator

# https://docs.stripe.com/currencies#zero-decimal. Ugandan shillings have no smaller unit either, but are counted as
# if they had: so are Icelandic kronur.
WITHOUT_CENTS = frozenset(
    ["bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga", "pyg", "rwf", "vnd", "vuv", "xaf", "xof", "xpf"]
)
OF_A_THOUSAND = frozenset(["bhd", "jod", "kwd", "omr", "tnd"])

CODE = r"^[a-z]{3}$"
is_a_code = RegexValidator(CODE, "Write the three letters of its ISO 4217 code in lower case, such as usd.")


def places(currency: str) -> int:
    """Digits after the point."""
    return 0 if currency in WITHOUT_CENTS else 3 if currency in OF_A_THOUSAND else 2


def amount(units: int, currency: str) -> Decimal:
    """So many of the smallest unit in the currency, with all of its places: 500 are 5.00 dollars or 500 yen."""
    return Decimal(units).scaleb(-places(currency))
