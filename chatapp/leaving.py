"""A person deletes their account: what was theirs goes, and the books stay, without their name."""

from typing import Any, cast

import structlog
from django import forms
from django.conf import settings
from django.contrib import messages
from django.contrib.admin.models import LogEntry
from django.contrib.auth import logout
from django.contrib.auth.decorators import login_required
from django.db import transaction
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from accounts.models import User
from accounts.presence import ask_again
from billing import closing, ledger, subscriptions
from billing.errors import PaymentUnavailable
from billing.models import Account, Customer, Order
from chatapp.conversations.models import Conversation, Turn
from chatapp.conversations.stopping import ask_to_stop

log = structlog.get_logger(__name__)


class DebtLeft(Exception):
    """Who owes credits repays them before they go: the debt would go with the account."""

    def __init__(self, microcredits: int) -> None:
        super().__init__(f"{microcredits} microcredits are owed")
        self.microcredits = microcredits


class AnswerRuns(Exception):
    """What is held for an answer that is being written may become a debt: it has to end first."""


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
@require_http_methods(["GET", "HEAD", "POST"])
def delete_account(request: HttpRequest) -> HttpResponseBase:
    """Say what will be gone, ask for the address, and delete once the person has shown just now that it is them."""
    user = cast(User, request.user)
    if is_on_record(user):
        return render(request, "settings/delete.html", {"on_record": True}, status=403)
    form = LeavingForm(request.POST or None, user=user)
    status = 200
    try:
        refuse_debts(ledger.wallet_of(user))
        if form.is_valid():
            if asked := ask_again(request, user):
                return asked
            delete(user)
            logout(request)
            messages.success(
                request, "Your account is deleted, and you are signed out. Thank you for having been here."
            )
            return redirect("home")
    except DebtLeft as error:
        owes = {"debt": error.microcredits, "can_buy": bool(settings.STRIPE_SECRET_KEY)}
        return render(request, "settings/delete.html", owes, status=403)
    except AnswerRuns:
        return render(request, "settings/delete.html", {"answer_runs": True}, status=409)
    except PaymentUnavailable as error:
        log.warning("account not deleted", user=str(user.pk), error=str(error))
        # Django saves no session with a 503: who has just confirmed would have to once more.
        request.session.save()
        form.add_error(
            None,
            "Stripe could not be asked now to end what you may still be charged for. "
            "Nothing was deleted: try again later.",
        )
        status = 503
    context = {
        "form": form,
        "chats": Conversation.objects.of(user).count(),
        "api_keys": user.api_keys.active().count(),
        "subscription": subscriptions.of(user),
        "waits_for_bank": user.orders.filter(state=Order.State.PENDING).exists(),
    }
    return render(request, "settings/delete.html", context, status=status)


def is_on_record(user: User) -> bool:
    """Whether what they did as staff is kept in the admin's log, which their account's end would take with it."""
    return user.is_staff or LogEntry.objects.filter(user=user).exists()


def refuse_debts(wallet: Account) -> None:
    """DebtLeft if more was taken back than the wallet had, AnswerRuns if more than it has beside what is held."""
    if wallet.balance < 0:
        raise DebtLeft(-wallet.balance)
    if wallet.available < 0:
        raise AnswerRuns


def delete(user: User) -> None:
    """Close the Checkout pages on which the person may still pay, end their subscription, and erase them.

    DebtLeft if they owe credits, AnswerRuns if they may come to, and PaymentUnavailable if Stripe cannot be asked:
    then nothing was deleted. Stripe is asked first, which no transaction undoes: if a payment is given back between
    that and the lock, so that one of the first two is raised only then, the account stays and its plan is gone.
    """
    refuse_debts(ledger.wallet_of(user))
    # Before the subscriptions: one may have begun on such a page a moment ago.
    closing.close_pages_of(user)
    for subscription in user.subscriptions.live():
        subscriptions.end_at_once(subscription)
    with transaction.atomic():
        refuse_debts(ledger.locked_wallet_of(user))
        erase(user)


@transaction.atomic
def erase(user: User) -> None:
    """Stop the person's answers, and delete them with all they wrote and all that signs in, whatever they owe.

    Wallet, transfers, orders and turns stay as rows of nobody. An answer that is being written is stopped at once, and
    settled on that wallet.
    """
    wallet = Account.objects.filter(user=user)
    if not wallet.exists():
        # Nobody opens one from here on. This does not either: it would use up the welcome credits of the address.
        User.objects.select_for_update(no_key=True).filter(pk=user.pk).first()
    # Whoever opens or closes a turn waits here: none comes to point at what is being deleted.
    wallet.select_for_update().first()
    ask_to_stop(Turn.objects.of(user))
    Customer.objects.filter(user=user).update(email="")
    log.info("account deleted", user=str(user.pk))
    user.delete()
