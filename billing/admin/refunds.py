"""Giving money back: a refund at Stripe, with a reason, and with the name of who did it; the credits follow."""

import uuid
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, cast

from django import forms
from django.contrib import messages
from django.contrib.admin.models import LogEntry
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from unfold.sites import UnfoldAdminSite
from unfold.widgets import UnfoldAdminDecimalFieldWidget, UnfoldAdminTextareaWidget

from accounts.admin import keep_in_log
from accounts.models import User
from billing import currencies, ledger, reversals
from billing.credits import as_string
from billing.errors import PaymentUnavailable, RequestRefused, WrongCurrency
from billing.models import Order, Transfer
from billing.stripe_gateway import reversals as at_stripe
from billing.stripe_gateway.reversals import Paid, Reversal
from billing.templatetags.credits import money

USED_BEFORE = "This form has made another refund before. Open the page anew for one more."


class RefundForm(forms.Form):
    """How much of the money goes back. `key` is made with the form: sent twice, it refunds once.

    `confirmed` is the amount, in smallest units, whose consequences were on the page when it was sent.
    """

    amount = forms.DecimalField(
        label="Money",
        max_digits=12,
        decimal_places=3,
        widget=UnfoldAdminDecimalFieldWidget(attrs={"step": "any", "autofocus": True}),
    )
    reason = forms.CharField(
        max_length=300,
        help_text="The person reads it on their statement.",
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 3}),
    )
    key = forms.UUIDField(widget=forms.HiddenInput)
    confirmed = forms.IntegerField(required=False, widget=forms.HiddenInput)

    def __init__(self, *args: Any, order: Order, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.order = order

    def clean_amount(self) -> Decimal:
        amount: Decimal = self.cleaned_data["amount"]
        if amount <= 0:
            raise ValidationError("A refund of nothing refunds nothing. Say how much goes back.")
        cents = _as_cents(amount, self.order)
        if cents is None:
            least = currencies.amount(1, self.order.currency)
            raise ValidationError(f"{self.order.currency.upper()} has no smaller unit than {least}.")
        self.cents = cents
        return amount

    def clean_reason(self) -> str:
        return " ".join(self.cleaned_data["reason"].split())

    @property
    def is_confirmed(self) -> bool:
        return bool(self.cleaned_data["confirmed"] == self.cents)


@dataclass(frozen=True, slots=True)
class Preview:
    """What a refund would do: `takes` and `leaves` are microcredits of the wallet."""

    money: str
    takes: int
    leaves: int

    @property
    def is_debt(self) -> bool:
        return self.leaves < 0


def allowed(request: HttpRequest) -> bool:
    return request.user.has_perm("billing.refund_orders")


def refund(request: HttpRequest, order: Order, site: UnfoldAdminSite) -> HttpResponse:
    """The page on which an operator refunds an order that is paid, whole or in part.

    It is sent twice: the first time shows what the refund will do, the second does it.
    """
    if not allowed(request):
        raise PermissionDenied
    paid, problem = _paid_for(order)
    form = RefundForm(
        request.POST or None,
        initial={
            "key": uuid.uuid4(),
            "amount": currencies.amount(paid.left, order.currency) if paid else None,
        },
        order=order,
    )
    if paid and form.is_valid() and form.is_confirmed and _refunded(request, order, form):
        return redirect("admin:billing_order_change", order.pk)
    preview = _preview(order, form, paid) if paid and form.is_bound and form.is_valid() else None
    if form.is_bound:
        form.data = {**request.POST.dict(), "confirmed": str(form.cents) if preview else ""}
    context = {
        **site.each_context(request),
        "opts": Order._meta,
        "original": order,
        "title": "Refund",
        "form": form,
        "problem": problem,
        "preview": preview,
        "left": paid and money(paid.left, order.currency),
        "operator": request.user,
    }
    return TemplateResponse(request, "admin/billing/refund_order.html", context)


def _paid_for(order: Order) -> tuple[Paid | None, str]:
    """What Stripe has of the payment, and why nothing of it can be refunded now, if that is so."""
    if order.state != Order.State.PAID:
        return None, "This order is not paid, so there is nothing to give back."
    if not order.stripe_payment_intent:
        return None, "Nothing was paid for this order: a promotion code took all of its price."
    try:
        paid = at_stripe.paid_for(order)
    except PaymentUnavailable:
        return None, "Stripe could not be asked what was paid. Nothing was changed; try again soon."
    return paid, "" if paid.left > 0 else "All that was paid has been given back."


def _preview(order: Order, form: RefundForm, paid: Paid) -> Preview | None:
    """What the form, which is valid, would do; None if Stripe would not let it."""
    wallet = ledger.wallet_credited_with(order)
    if wallet is None:
        form.add_error(None, "No credits were booked for this order: look into that first.")
        return None
    if form.cents > paid.left:
        form.add_error("amount", f"Only {money(paid.left, order.currency)} of what was paid is left.")
        return None
    takes = reversals.would_take(order, wallet, refunded=paid.refunded, cents=form.cents)
    return Preview(money(form.cents, order.currency), takes, wallet.balance - takes)


def _refunded(request: HttpRequest, order: Order, form: RefundForm) -> bool:
    """Whether the refund is made, now or by the same form before; if not, the form says why."""
    reason, key = form.cleaned_data["reason"], form.cleaned_data["key"]
    operator = cast(User, request.user)
    try:
        made = at_stripe.refund_made_with(key, order) or at_stripe.refund(
            order, amount=form.cents, reason=reason, made_by=operator.email, key=key
        )
    except RequestRefused:
        form.add_error("amount", "Stripe does not refund this: more than is left, or taken back by the bank.")
        return False
    except PaymentUnavailable:
        form.add_error(None, "Stripe did not answer. Send this form again: it refunds once, however often.")
        return False
    if (made.amount, made.reason) != (form.cents, reason):
        form.add_error(None, USED_BEFORE)
        return False
    _keep_in_log(request, order, made)
    if not made.counts:
        messages.error(request, "The bank did not take the refund. Nothing was given back or taken.")
        return True
    try:
        reversals.take(made.id)
    except PaymentUnavailable:
        # Stripe's event, which is on its way, does the same.
        messages.warning(
            request, "The money is refunded; its credits are taken back when Stripe tells of it."
        )
        return True
    except WrongCurrency as error:
        messages.error(request, f"The money is refunded and no credits were taken back: {error}.")
        return True
    messages.success(request, _told(order, made))
    return True


@transaction.atomic
def _keep_in_log(request: HttpRequest, order: Order, made: Reversal) -> None:
    """Once, however often the form is sent."""
    Order.objects.select_for_update().get(pk=order.pk)
    message = f"Refunded {money(made.amount, order.currency)} ({made.id}): {made.reason}"
    if not LogEntry.objects.filter(object_id=str(order.pk), change_message=message).exists():
        keep_in_log(request, order, message)


def _told(order: Order, made: Reversal) -> str:
    did = f"{money(made.amount, order.currency)} was refunded by {made.made_by}: {made.reason}."
    taken = Transfer.objects.filter(key=made.key).first()
    if taken is None:
        return f"{did} No credits were left to take back."
    debt = ", which leaves a debt" if (taken.balance_after or 0) < 0 else ""
    return f"{did} {as_string(taken.amount)} credits were taken back{debt}."


def _as_cents(amount: Decimal, order: Order) -> int | None:
    """In the currency's smallest unit; None if it is finer than that."""
    cents = amount.scaleb(currencies.places(order.currency))
    return int(cents) if cents == cents.to_integral_value() else None
