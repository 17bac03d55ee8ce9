"""A person deletes their account: what was theirs goes, and the books stay, without their name."""

from typing import Any, cast

import structlog
from allauth.account.decorators import reauthentication_required
from django import forms
from django.conf import settings
from django.contrib import messages
from django.contrib.admin.models import LogEntry
from django.contrib.auth import logout
from django.contrib.auth.decorators import login_required
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from accounts.models import User
from billing import ledger, subscriptions
from billing.errors import PaymentUnavailable
from billing.models import Account, Customer
from chatapp.conversations.models import Conversation, Turn
from chatapp.conversations.stopping import ask_to_stop

log = structlog.get_logger(__name__)


class DebtLeft(Exception):
    """Who owes credits repays them before they go: the debt would go with the account."""

    def __init__(self, microcredits: int) -> None:
        super().__init__(f"{microcredits} microcredits are owed")
        self.microcredits = microcredits


class LeavingForm(forms.Form):
    """Nobody deletes an account by a slip: its address is written out."""

    email = forms.CharField(
        label="Your e-mail address, to confirm",
        widget=forms.EmailInput(attrs={"autocomplete": "off"}),
        error_messages={"required": "Write your e-mail address to confirm."},
    )

    def __init__(self, *args: Any, user: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.user = user

    def clean_email(self) -> str:
        email: str = self.cleaned_data["email"]
        if email.casefold() != self.user.email.casefold():
            raise forms.ValidationError(f"This is not the address of this account, {self.user.email}.")
        return email


@never_cache
@login_required
@reauthentication_required
@require_http_methods(["GET", "HEAD", "POST"])
def delete_account(request: HttpRequest) -> HttpResponse:
    """Say what will be gone, ask for the address, and delete; the person has shown just now that it is them."""
    user = cast(User, request.user)
    if is_on_record(user):
        return render(request, "settings/delete.html", {"on_record": True}, status=403)
    form = LeavingForm(request.POST or None, user=user)
    status = 200
    try:
        refuse_debt(ledger.wallet_of(user))
        if form.is_valid():
            delete(user)
            logout(request)
            messages.success(
                request, "Your account is deleted, and you are signed out. Thank you for having been here."
            )
            return redirect("home")
    except DebtLeft as error:
        owes = {"debt": error.microcredits, "can_buy": bool(settings.STRIPE_SECRET_KEY)}
        return render(request, "settings/delete.html", owes, status=403)
    except PaymentUnavailable as error:
        log.warning("account not deleted", user=str(user.pk), error=str(error))
        form.add_error(
            None, "Your subscription could not be ended at Stripe now. Nothing was deleted: try again later."
        )
        status = 503
    context = {
        "form": form,
        "chats": Conversation.objects.of(user).count(),
        "api_keys": user.api_keys.active().count(),
        "subscription": subscriptions.of(user),
    }
    return render(request, "settings/delete.html", context, status=status)


def is_on_record(user: User) -> bool:
    """Whether what they did as staff is kept in the admin's log, which their account's end would take with it."""
    return user.is_staff or LogEntry.objects.filter(user=user).exists()


def refuse_debt(wallet: Account) -> None:
    """DebtLeft if more was taken back than the wallet had."""
    if wallet.available < 0:
        raise DebtLeft(-wallet.available)


def delete(user: User) -> None:
    """End the person's subscription, stop their answers, and delete them with all they wrote and all that signs in.

    DebtLeft if they owe credits, and PaymentUnavailable if a subscription cannot be ended: then nothing was deleted.
    Wallet, transfers, orders and turns stay as rows of nobody. An answer that is being written is stopped at once, and
    settled on that wallet.
    """
    refuse_debt(ledger.wallet_of(user))
    for subscription in user.subscriptions.live():
        subscriptions.end_at_once(subscription)
    with transaction.atomic():
        # Whoever opens or closes a turn waits here: none comes to point at what is being deleted.
        refuse_debt(ledger.locked_wallet_of(user))
        ask_to_stop(Turn.objects.of(user))
        Customer.objects.filter(user=user).update(email="")
        log.info("account deleted", user=str(user.pk))
        user.delete()
