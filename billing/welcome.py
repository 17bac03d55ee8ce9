"""Welcome credits: once per e-mail address, whatever becomes of the account that had them.

An address that had them is remembered as a keyed hash, in the transaction that gives them. So it does not matter how
an account ends, and when it has, nothing of the address is left that could be read.
"""

from django.conf import settings
from django.utils.crypto import salted_hmac

from accounts.models import User
from billing.credits import to_microcredits
from billing.models import Account, Transfer, WelcomedAddress

# Migration 0023_welcomed_addresses hashes the same way.
SALT = "billing.welcome"


def digest(email: str) -> str:
    """The keyed hash of an address, in capitals or not; another SECRET_KEY makes others of all.

    Two addresses that can be two accounts are two here: nobody is told that theirs had what a stranger had. That one
    mailbox can be reached by several addresses (dots, a `+tag`, another spelling of its domain), and is welcomed at
    each, is accepted.
    """
    return salted_hmac(SALT, email.lower(), algorithm="sha256").hexdigest()


def credits_for(user: User) -> int:
    """Microcredits that the new wallet of a person begins with: `SIGNUP_CREDITS`, or 0 if their address had them.

    From the commit of the caller's transaction on, the address has had them.
    """
    given = to_microcredits(settings.SIGNUP_CREDITS)
    if not given:
        return 0
    _, is_first = WelcomedAddress.objects.get_or_create(pk=digest(user.email))
    return given if is_first else 0


def were_had_before(user: User, wallet: Account) -> bool:
    """Whether `wallet` is empty because the welcome credits of the person's address went to an earlier account."""
    if wallet.balance or Transfer.objects.filter(credit=wallet).exists():
        return False
    return WelcomedAddress.objects.filter(pk=digest(user.email)).exists()
