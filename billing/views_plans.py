"""What a person does about paying again and again: plans, automatic top-ups, invoices, and Stripe's own pages."""

import uuid
from collections.abc import Callable

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from billing import invoices, plan_terms, subscriptions, topups
from billing.checkout import open_checkout
from billing.customers import portal_url
from billing.errors import BillingError, PaymentRefused, PaymentUnavailable, SubscriptionRefused
from billing.forms import AutoTopUpForm, PlanForm, SubscriptionForm
from billing.models import Order
from billing.views import SWITCHED_OFF, SeeOther, billing_page, person_of, way_back

STATUS = {PaymentRefused: 402, SubscriptionRefused: 409, PaymentUnavailable: 503}


@require_POST
@login_required
def portal(request: HttpRequest) -> HttpResponse:
    """Go to the person's own pages at Stripe: cards, invoices, subscription."""
    back = request.build_absolute_uri(reverse("billing"))
    return _go(request, lambda: portal_url(person_of(request), return_url=back))


@require_POST
@login_required
def subscribe(request: HttpRequest) -> HttpResponse:
    """Go to Stripe to subscribe to a plan."""
    form = PlanForm(request.POST)
    if not form.is_valid():
        return billing_page(request, problem=form.first_error, status=400)
    plan = form.cleaned_data["plan"]
    return _go(
        request, lambda: subscriptions.subscribe(user=person_of(request), plan=plan, **way_back(request))
    )


@require_safe
@never_cache
@login_required
def change(request: HttpRequest) -> HttpResponse:
    """Say what changing to another plan costs and brings, before anything is done."""
    form = PlanForm(request.GET)
    if not form.is_valid():
        return billing_page(request, problem=form.first_error, status=400)
    user, plan = person_of(request), form.cleaned_data["plan"]
    return _answer(
        request,
        lambda: render(request, "billing/change_plan.html", {"terms": plan_terms.of_change(user, plan)}),
    )


@require_safe
@never_cache
@login_required
def end(request: HttpRequest) -> HttpResponse:
    """Say what ending the subscription means, before anything is done."""
    user = person_of(request)
    return _answer(
        request, lambda: render(request, "billing/end_plan.html", {"terms": plan_terms.of_end(user)})
    )


@require_POST
@login_required
def subscription(request: HttpRequest) -> HttpResponse:
    """Change to another plan, end with the period (`action=cancel`), or go on after all (`action=resume`).

    A plan without the price that it was shown at is not charged: what it costs is said first.
    """
    form = SubscriptionForm(request.POST)
    if not form.is_valid():
        return billing_page(request, problem=form.first_error, status=400)
    if plan := form.plan_to_confirm:
        return SeeOther(f"{reverse('billing_change')}?plan={plan.pk}")
    user, plan, action = person_of(request), form.cleaned_data["plan"], form.cleaned_data["action"]

    def act() -> str:
        if action == "cancel":
            ending = subscriptions.end_with_period(user)
            messages.success(
                request,
                f"Your plan ends on {ending.current_period_end:%-d %B %Y}. Until then it stays as it is.",
            )
        elif action == "resume":
            subscriptions.go_on(user)
            messages.success(request, "Your subscription goes on.")
        else:
            subscriptions.change_plan(user, plan)
            messages.success(request, f"You are on {plan.name} from now on.")
        return reverse("billing") + "#plans"

    return _go(request, act)


@require_safe
@never_cache
@login_required
def unpaid_invoice(request: HttpRequest) -> HttpResponse:
    """Go to Stripe to pay what is due for the subscription."""
    due = get_object_or_404(person_of(request).subscriptions.live().order_by("-created_at")[:1])
    return _go(request, lambda: invoices.page_of_unpaid(due))


@require_POST
@login_required
def auto_topup(request: HttpRequest) -> HttpResponse:
    """Keep what the person wants; where a card is missing or was refused, go to Stripe to pay with one in person."""
    form = AutoTopUpForm(request.POST)
    if not form.is_valid():
        return billing_page(request, topup_form=form, status=400)
    user, purchase = person_of(request), form.purchase

    def keep() -> str:
        rule = topups.keep(
            user=user,
            enabled=form.cleaned_data["enabled"],
            threshold_microcredits=form.threshold_microcredits,
            purchase=purchase,
            monthly_cap_cents=form.monthly_cap_cents,
        )
        if not rule.waits_for_payment:
            said = "Automatic top-up is on." if rule.enabled else "Automatic top-up is off."
            messages.success(request, said)
            return reverse("billing") + "#auto-topup"
        return open_checkout(
            user=user,
            purchase=purchase,
            order_id=form.cleaned_data["order"],
            keeps_card=True,
            **way_back(request),
        )

    return _go(request, keep)


@require_safe
@never_cache
@login_required
def invoice(request: HttpRequest, order_id: uuid.UUID) -> HttpResponse:
    """Go to Stripe's invoice, or receipt, of a payment of one's own."""
    order = get_object_or_404(person_of(request).orders.filter(state=Order.State.PAID), pk=order_id)
    return _go(request, lambda: invoices.page_of(order))


def _go(request: HttpRequest, find: Callable[[], str]) -> HttpResponse:
    """Go where `find` says, or say on the page why not."""
    return _answer(request, lambda: SeeOther(find()))


def _answer(request: HttpRequest, make: Callable[[], HttpResponse]) -> HttpResponse:
    """What `make` makes, or the page that says why not."""
    if not settings.STRIPE_SECRET_KEY:
        return billing_page(request, problem=SWITCHED_OFF, status=503)
    try:
        return make()
    except BillingError as error:
        status = next((status for kind, status in STATUS.items() if isinstance(error, kind)), 400)
        return billing_page(request, problem=str(error), status=status)
