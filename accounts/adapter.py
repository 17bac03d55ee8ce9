"""What django-allauth says to people, in our words."""

from allauth.account.adapter import DefaultAccountAdapter
from allauth.mfa.adapter import DefaultMFAAdapter
from allauth.mfa.models import Authenticator
from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import ValidationError
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html

from accounts.addresses import client_address
from accounts.models import User
from accounts.presence import note_sign_in

WRONG_CODE = "This code is not right, or no longer valid."
DEAD_LINK = "This link is not valid, or no longer valid."

VERIFY_FIRST = (
    '<a href="{}">Verify your e-mail address</a> first: it is the way back in when a device is lost.'
)

# Ways to show that it is still oneself, as allauth calls them: what takes least comes first.
WAYS = {
    "reauthenticate": "Use your password",
    "mfa_reauthenticate:webauthn": "Use a passkey",
    "mfa_reauthenticate": "Use an authenticator or recovery code",
}


class AccountAdapter(DefaultAccountAdapter):
    """Error messages that say what to do next, and the easiest way first."""

    error_messages = {
        **DefaultAccountAdapter.error_messages,
        "account_inactive": "This account is switched off.",
        "cannot_remove_primary_email": "You cannot remove the address you sign in with.",
        "duplicate_email": "This is already your address.",
        "email_password_mismatch": "This e-mail address and password do not belong together.",
        "email_taken": "There is an account with this e-mail address. Log in instead.",
        "enter_current_password": "This is not your current password.",
        "incorrect_code": WRONG_CODE,
        "incorrect_password": "This password is not right.",
        "invalid_or_expired_key": DEAD_LINK,
        "invalid_password_reset": DEAD_LINK,
        "rate_limited": "Too many tries. Wait a minute and try again.",
        "same_as_current": "This is already your address.",
        "too_many_login_attempts": "Too many tries. Wait a few minutes and try again.",
        "unverified_primary_email": "Verify this address first.",
    }

    def login(self, request: HttpRequest, user: User) -> None:
        """Whatever the way in, it is remembered when."""
        super().login(request, user)
        note_sign_in(request)

    def get_client_ip(self, request: HttpRequest) -> str:
        """The address that allauth's own limits count, the same as everywhere."""
        return client_address(request)

    def get_reauthentication_methods(self, user: User | AnonymousUser) -> list[dict[str, str]]:
        """The ways that `user` has, the one to offer first in front."""
        ways = {way["id"]: way for way in super().get_reauthentication_methods(user)}
        return [{**ways[name], "description": words} for name, words in WAYS.items() if name in ways]


class MFAAdapter(DefaultMFAAdapter):
    """The same for second factors and passkeys."""

    error_messages = {
        **DefaultMFAAdapter.error_messages,
        "cannot_delete_authenticator": "This cannot be turned off.",
        "incorrect_code": WRONG_CODE,
    }

    def validation_error(self, code: str, *args: object) -> ValidationError:
        """As allauth says it; where something is to be done first, with the way there."""
        if code == "unverified_email":
            return ValidationError(format_html(VERIFY_FIRST, reverse("account_email")), code=code)
        return super().validation_error(code, *args)

    def generate_authenticator_name(self, user: User, type: Authenticator.Type) -> str:
        """The name that the form for a new passkey suggests."""
        before = Authenticator.objects.filter(user=user, type=type).count()
        return f"Passkey {before + 1}" if before else "Passkey"
