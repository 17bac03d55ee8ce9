"""Giving and taking credits by hand: a transfer with a reason, and with the name of who did it."""

import uuid
from dataclasses import dataclass
from decimal import Decimal
from typing import cast

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from unfold.sites import UnfoldAdminSite
from unfold.widgets import UnfoldAdminDecimalFieldWidget, UnfoldAdminTextareaWidget

from accounts.admin import keep_in_log
from accounts.models import User
from accounts.notify import notify
from billing import ledger
from billing.credits import as_string, to_microcredits
from billing.errors import InsufficientCredits, KeyReused
from billing.models import Account, Transfer

# US$ 10,000. A slip of the keyboard is refused; who means more does it in two steps.
MOST_CREDITS = Decimal(1_000_000)


class AdjustmentForm(forms.Form):
    """Credits to give (positive) or take (negative). `key` is made with the form: sent twice, it adjusts once.

    `confirmed` is the amount, in microcredits, whose consequences were on the page when it was sent.
    """

    amount = forms.DecimalField(
        label="Credits",
        max_digits=13,
        decimal_places=6,
        min_value=-MOST_CREDITS,
        max_value=MOST_CREDITS,
        help_text="Positive gives, negative takes; up to six places. 100 credits are US$ 1.",
        widget=UnfoldAdminDecimalFieldWidget(attrs={"step": "any", "autofocus": True}),
    )
    reason = forms.CharField(
        max_length=300,
        help_text="The person reads it on their statement.",
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 3}),
    )
    key = forms.UUIDField(widget=forms.HiddenInput)
    confirmed = forms.IntegerField(required=False, widget=forms.HiddenInput)

    def clean_amount(self) -> Decimal:
        amount: Decimal = self.cleaned_data["amount"]
        if amount == 0:
            raise ValidationError("An adjustment of nothing adjusts nothing. Give or take some credits.")
        self.microcredits = to_microcredits(amount)
        return amount

    def clean_reason(self) -> str:
        return " ".join(self.cleaned_data["reason"].split())

    @property
    def is_confirmed(self) -> bool:
        return bool(self.cleaned_data["confirmed"] == self.microcredits)


@dataclass(frozen=True, slots=True)
class Preview:
    """What an adjustment would do to a balance of so much; microcredits."""

    amount: int
    balance: int

    @property
    def gives(self) -> bool:
        return self.amount > 0

    @property
    def moves(self) -> int:
        return abs(self.amount)

    @property
    def leaves(self) -> int:
        return self.balance + self.amount


def allowed(request: HttpRequest) -> bool:
    return request.user.has_perm("billing.adjust_credits")


def adjust(request: HttpRequest, person: User, site: UnfoldAdminSite) -> HttpResponse:
    """The page on which an operator adjusts a person's credits.

    It is sent twice: the first time shows what the adjustment will do, the second does it.
    """
    if not allowed(request):
        raise PermissionDenied
    form = AdjustmentForm(request.POST or None, initial={"key": uuid.uuid4()})
    if form.is_valid() and form.is_confirmed and _adjusted(request, person, form):
        return redirect("admin:accounts_user_change", person.pk)
    account = ledger.wallet_of(person)
    preview = _preview(form, account) if form.is_bound and form.is_valid() else None
    if form.is_bound:
        form.data = {**request.POST.dict(), "confirmed": str(form.microcredits) if preview else ""}
    context = {
        **site.each_context(request),
        "opts": User._meta,
        "original": person,
        "title": "Adjust credits",
        "form": form,
        "preview": preview,
        "account": account,
        "operator": request.user,
    }
    return TemplateResponse(request, "admin/billing/adjust_credits.html", context)


def _preview(form: AdjustmentForm, account: Account) -> Preview | None:
    """What the form, which is valid, would do; None if the ledger would not let it."""
    if form.microcredits < 0 and -form.microcredits > account.available:
        _say_what_is_available(form, account.available)
        return None
    return Preview(form.microcredits, account.balance)


def _say_what_is_available(form: AdjustmentForm, available: int) -> None:
    form.add_error("amount", f"Only {as_string(available)} credits are available, so no more can be taken.")


def _adjusted(request: HttpRequest, person: User, form: AdjustmentForm) -> bool:
    """Whether the adjustment is made, now or by the same form before; if not, the form says why."""
    try:
        made = _make(request, person, form)
    except InsufficientCredits as refused:
        _say_what_is_available(form, refused.available)
    except KeyReused:
        form.add_error(None, "This form has made another adjustment before. Open the page anew for one more.")
    else:
        did = "given to" if made.credit.user_id == person.pk else "taken from"
        messages.success(
            request,
            f"{as_string(made.amount)} credits were {did} {person} by {made.made_by}: {made.reason}. "
            f"Their balance was then {as_string(made.balance_after or 0)}.",
        )
        return True
    return False


def _make(request: HttpRequest, person: User, form: AdjustmentForm) -> Transfer:
    amount, reason, key = (form.cleaned_data[name] for name in ("amount", "reason", "key"))
    with transaction.atomic():
        # Under the lock a repeated form finds the first one's transfer, and the balance that it left.
        before = ledger.locked_wallet_of(person).balance
        made = ledger.adjust(
            user=person,
            amount=form.microcredits,
            reason=reason,
            made_by=cast(User, request.user),
            key=str(key),
        )
        if made.reason != reason:
            raise KeyReused(f"transfer {made} exists with another reason")
        if ledger.wallet_of(person).balance != before:
            keep_in_log(request, person, f"Adjusted credits by {amount:+f}: {reason}")
            transaction.on_commit(lambda: notify(person.pk, "balance"), robust=True)
    return made
