"""What every page shows."""

from typing import Any

from django.conf import settings
from django.http import HttpRequest

from billing import ledger


def site(request: HttpRequest) -> dict[str, Any]:
    """The demo banner's facts, and the wallet of whoever is signed in."""
    user = getattr(request, "user", None)
    return {
        "demo_claude": settings.DEMO_CLAUDE,
        "demo_stripe": settings.DEMO_STRIPE,
        "wallet": ledger.wallet_of(user) if user is not None and user.is_authenticated else None,
    }
