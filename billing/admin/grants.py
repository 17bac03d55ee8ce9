"""Promotional credits, given to one person or to many: with a reason, the giver's name, and an end if wanted."""

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, cast

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.utils import timezone
from unfold.sites import UnfoldAdminSite
from unfold.widgets import (
    UnfoldAdminDecimalFieldWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
)

from accounts.admin import keep_in_log
from accounts.models import User
from accounts.notify import notify
from billing import ledger
from billing.admin.adjustments import allowed
from billing.admin.reading import uuid_in
from billing.credits import as_string, to_microcredits
from billing.errors import KeyReused

# US$ 1,000 a person. A slip of the keyboard is refused; who means more does it in two steps.
MOST_CREDITS = Decimal(100_000)
# Each is a transaction of its own, in one request.
MOST_PEOPLE = 500
LONGEST = timedelta(days=5 * 366)


class GrantForm(forms.Form):
    """What each person is given. `key` is made with the form: sent twice, it gives to each of them once.

    `confirmed` is what was on the page, as what would be given, when it was sent.
    """

    amount = forms.DecimalField(
        label="Credits for each person",
        max_digits=12,
        decimal_places=6,
        min_value=Decimal("0.000001"),
        max_value=MOST_CREDITS,
        help_text="Up to six places. 100 credits are US$ 1.",
        widget=UnfoldAdminDecimalFieldWidget(attrs={"step": "any", "autofocus": True}),
    )
    expires_on = forms.DateField(
        label="Last day",
        required=False,
        help_text="The end of this day in UTC takes what is left. Leave empty for credits that stay.",
        widget=UnfoldAdminTextInputWidget(attrs={"type": "date"}),
    )
    reason = forms.CharField(
        max_length=300,
        help_text="Each person reads it on their statement.",
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 3}),
    )
    key = forms.UUIDField(widget=forms.HiddenInput)
    confirmed = forms.CharField(required=False, widget=forms.HiddenInput)

    def clean_expires_on(self) -> date | None:
        last: date | None = self.cleaned_data["expires_on"]
        today = timezone.now().astimezone(UTC).date()
        if last is not None and not today <= last <= today + LONGEST:
            raise ValidationError("Choose today or a later day, within five years.")
        return last

    def clean_reason(self) -> str:
        return " ".join(self.cleaned_data["reason"].split())


@dataclass(frozen=True, slots=True)
class Preview:
    """What would be given to each of `people`, in microcredits, and until when; `balance` if it is one person's."""

    each: int
    people: int
    expires_on: date | None
    balance: int | None

    @classmethod
    def of(cls, form: GrantForm, people: list[User]) -> "Preview":
        return cls(
            each=to_microcredits(form.cleaned_data["amount"]),
            people=len(people),
            expires_on=form.cleaned_data["expires_on"],
            balance=ledger.wallet_of(people[0]).balance if len(people) == 1 else None,
        )

    @property
    def together(self) -> int:
        return self.each * self.people

    @property
    def leaves(self) -> int | None:
        return None if self.balance is None else self.balance + self.each

    def __str__(self) -> str:
        """What the form confirms; a balance may change while its owner chats."""
        return f"{self.each} {self.people} {self.expires_on or ''}".strip()


def grant(request: HttpRequest, person: User, site: UnfoldAdminSite) -> HttpResponse:
    """The page on which an operator gives promotional credits to one person."""
    return _page(request, [person], site, back=["admin:accounts_user_change", str(person.pk)])


def choose(request: HttpRequest, people: QuerySet[User], site: UnfoldAdminSite) -> HttpResponse:
    """The same page for the people who were selected in the list; nothing is given yet."""
    if not allowed(request):
        raise PermissionDenied
    if people.count() > MOST_PEOPLE:
        messages.error(request, f"Credits are given to at most {MOST_PEOPLE} people at once. Select fewer.")
        return redirect("admin:accounts_user_changelist")
    return _shown(request, list(people), site, _new_form(), back=["admin:accounts_user_changelist"])


def grant_to_many(request: HttpRequest, site: UnfoldAdminSite) -> HttpResponse:
    """Where that page is sent to; it names the people."""
    chosen = [pk for text in request.POST.getlist("person") if (pk := uuid_in(text))]
    people = list(User.objects.filter(pk__in=chosen).order_by("email")[: MOST_PEOPLE + 1])
    if not people or len(people) > MOST_PEOPLE:
        messages.error(request, f"Select between one and {MOST_PEOPLE} people first.")
        return redirect("admin:accounts_user_changelist")
    return _page(request, people, site, back=["admin:accounts_user_changelist"])


def _page(request: HttpRequest, people: list[User], site: UnfoldAdminSite, back: list[str]) -> HttpResponse:
    """It is sent twice: the first time shows what will be given, the second gives it."""
    if not allowed(request):
        raise PermissionDenied
    form = GrantForm(request.POST) if request.method == "POST" else _new_form()
    preview = Preview.of(form, people) if form.is_valid() else None
    if preview and form.cleaned_data["confirmed"] == str(preview):
        given, refused = _give(request, people, form)
        if not refused:
            _tell(request, people, given, form)
            return redirect(*back)
        preview = None
        form.add_error(
            None,
            "This form has given other credits before"
            + (f" to {len(refused)} of these people" if len(people) > 1 else "")
            + ". Open the page anew to give more.",
        )
    if form.is_bound:
        form.data = {**request.POST.dict(), "confirmed": str(preview or "")}
    return _shown(request, people, site, form, back, preview)


def _shown(
    request: HttpRequest,
    people: list[User],
    site: UnfoldAdminSite,
    form: GrantForm,
    back: list[str],
    preview: Preview | None = None,
) -> HttpResponse:
    context: dict[str, Any] = {
        **site.each_context(request),
        "opts": User._meta,
        "original": people[0] if len(back) > 1 else None,
        "title": "Give promotional credits",
        "form": form,
        "preview": preview,
        "people": people,
        "to_many": len(back) == 1,
        "operator": request.user,
    }
    return TemplateResponse(request, "admin/billing/grant_credits.html", context)


def _new_form() -> GrantForm:
    return GrantForm(initial={"key": uuid.uuid4()})


def _give(request: HttpRequest, people: Iterable[User], form: GrantForm) -> tuple[list[User], list[User]]:
    """Who was given credits by this call, and who cannot be since the key gave them others before.

    Each in a transaction of its own: what a broken request leaves out is given when the form is sent again.
    """
    amount, expires_on, reason, key = (
        form.cleaned_data[name] for name in ("amount", "expires_on", "reason", "key")
    )
    expires_at = datetime.combine(expires_on, time(), UTC) + timedelta(days=1) if expires_on else None
    given, refused = [], []
    for person in people:
        try:
            with transaction.atomic():
                # Under the lock a repeated form finds the first one's transfer, and the balance that it left.
                before = ledger.locked_wallet_of(person).balance
                ledger.grant(
                    user=person,
                    amount=to_microcredits(amount),
                    reason=reason,
                    expires_at=expires_at,
                    made_by=cast(User, request.user),
                    key=f"{key}:{person.pk}",
                )
                if ledger.wallet_of(person).balance != before:
                    until = f", until {expires_on}" if expires_on else ""
                    keep_in_log(request, person, f"Gave {amount:f} promotional credits{until}: {reason}")
                    _show_balance_to(person)
                    given.append(person)
        except KeyReused:
            refused.append(person)
    return given, refused


def _show_balance_to(person: User) -> None:
    """On the pages that they have open, once the credits are theirs."""
    transaction.on_commit(lambda: notify(person.pk, "balance"), robust=True)


def _tell(request: HttpRequest, people: list[User], given: list[User], form: GrantForm) -> None:
    amount, expires_on, reason = (form.cleaned_data[name] for name in ("amount", "expires_on", "reason"))
    until = f" until the end of {expires_on}" if expires_on else ""
    to = str(people[0]) if len(people) == 1 else f"each of {len(people)} people"
    again = (
        "" if len(given) == len(people) else f" {len(people) - len(given)} had them from this form already."
    )
    messages.success(
        request,
        f"{as_string(to_microcredits(amount))} promotional credits were given to {to}{until}: {reason}.{again}",
    )
