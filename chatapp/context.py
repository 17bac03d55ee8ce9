"""What every page shows."""

from functools import partial
from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.urls import reverse
from django.utils.functional import SimpleLazyObject

from accounts.presence import is_to_resume
from billing import ledger
from billing.models import Account


def site(request: HttpRequest) -> dict[str, Any]:
    """The demo banner's facts; and what is looked up by the page that shows it: the wallet of whoever is signed in,
    and whether they delete their account by confirming that it is them.
    """
    return {
        "demo_claude": settings.DEMO_CLAUDE,
        "demo_stripe": settings.DEMO_STRIPE,
        # The admin renders each of its parts as a page of its own, and shows no wallet.
        "wallet": SimpleLazyObject(partial(_wallet, request)),
        "confirming_deletes": SimpleLazyObject(partial(is_to_resume, request, reverse("delete_account"))),
    }


def _wallet(request: HttpRequest) -> Account | None:
    user = getattr(request, "user", None)
    return ledger.wallet_of(user) if user is not None and user.is_authenticated else None
