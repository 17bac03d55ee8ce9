"""What django-allauth says to people, in our words."""

from allauth.account.adapter import DefaultAccountAdapter


class AccountAdapter(DefaultAccountAdapter):
    """allauth's behaviour with error messages that say what to do next."""

    error_messages = {
        **DefaultAccountAdapter.error_messages,
        "account_inactive": "This account is switched off.",
        "cannot_remove_primary_email": "You cannot remove the address you sign in with.",
        "duplicate_email": "This is already your address.",
        "email_password_mismatch": "This e-mail address and password do not belong together.",
        "email_taken": "There is an account with this e-mail address. Log in instead.",
        "enter_current_password": "This is not your current password.",
        "incorrect_code": "This code is not right, or no longer valid.",
        "incorrect_password": "This password is not right.",
        "invalid_or_expired_key": "This link is not valid, or no longer valid.",
        "invalid_password_reset": "This link is not valid, or no longer valid.",
        "rate_limited": "Too many tries. Wait a minute and try again.",
        "same_as_current": "This is already your address.",
        "too_many_login_attempts": "Too many tries. Wait a few minutes and try again.",
        "unverified_primary_email": "Verify this address first.",
    }
