"""The pages on which credits are bought and accounted for, and the door at which Stripe's events arrive."""

from typing import Any

import structlog
from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.contrib.auth.views import redirect_to_login
from django.contrib.messages.storage.base import Message
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST, require_safe

from accounts.models import User
from billing import (
    fulfilment,
    ledger,
    statement_page,
    stripe_gateway,
    subscriptions,
    topups,
    webhooks,
    welcome,
)
from billing.checkout import open_checkout
from billing.errors import EventRejected, PaymentUnavailable
from billing.forms import AutoTopUpForm, CheckoutForm
from billing.models import AutoTopUp, Order, PlanCheckout
from billing.offering import on_offer

log = structlog.get_logger(__name__)

# A page that waits for a bank looks again by itself, for three minutes.
LOOK_AGAIN_SECONDS = 5
LOOKS = 36

SWITCHED_OFF = "Buying credits is switched off on this site."
SIGN_IN_TO_SEE = (
    "Sign in to see your payment. If you paid after deleting your account, write to whoever runs this site "
    "to have the money back."
)


class SeeOther(HttpResponseRedirect):
    """303: whatever the method was, GET what is there."""

    status_code = 303


@require_safe
@never_cache
@login_required
def billing(request: HttpRequest) -> HttpResponse:
    """Balance, packs, and the statement."""
    return billing_page(request)


@require_POST
@login_required
def checkout(request: HttpRequest) -> HttpResponse:
    """Go to Stripe to pay for a pack, or for an amount of choice."""
    form = CheckoutForm(request.POST)
    if not settings.STRIPE_SECRET_KEY:
        return billing_page(request, problem=SWITCHED_OFF, status=503)
    if not form.is_valid():
        # An amount that came with the wish to keep the card was typed in another form, which does not show it.
        if form.has_error("amount") and not form.cleaned_data["keep_card"]:
            return billing_page(request, amount_form=form, status=400)
        return billing_page(request, problem=form.first_error, status=400)
    try:
        url = open_checkout(
            user=person_of(request),
            purchase=form.purchase,
            order_id=form.cleaned_data["order"],
            keeps_card=form.cleaned_data["keep_card"],
            **way_back(request),
        )
    except PaymentUnavailable as error:
        return billing_page(request, problem=str(error), status=503)
    return SeeOther(url)


def way_back(request: HttpRequest) -> dict[str, str]:
    """Where Stripe sends people back to, after paying and before."""
    return {
        # Stripe puts the session's id in place of the braces, so they must reach it unquoted.
        "success_url": request.build_absolute_uri(reverse("billing_return"))
        + "?session_id={CHECKOUT_SESSION_ID}",
        "cancel_url": request.build_absolute_uri(reverse("billing")) + "?cancelled=1",
    }


@require_safe
@never_cache
def checkout_return(request: HttpRequest) -> HttpResponse:
    """Where Stripe sends people back to: credits at once what is paid, even if no event came."""
    if not request.user.is_authenticated:
        # The same for everybody: whose a session is, and whether it is one, is not told to strangers.
        if Message(messages.INFO, SIGN_IN_TO_SEE) not in messages.get_messages(request):
            messages.info(request, SIGN_IN_TO_SEE)
        return redirect_to_login(request.get_full_path())
    session_id = request.GET.get("session_id", "")
    user = person_of(request)
    # PostgreSQL's text has no NUL, and no session's id has anything unprintable.
    if not session_id.isprintable():
        raise Http404("no checkout of yours")
    visit = user.plan_checkouts.filter(stripe_session=session_id).first()
    if visit:
        return _back_from_plan(request, visit)
    order = user.orders.filter(stripe_session=session_id).first()
    if not order:
        raise Http404("no checkout of yours")
    unconfirmed = False
    if order.state != Order.State.PAID:
        try:
            order = fulfilment.fulfil(session_id) or order
        except PaymentUnavailable:
            unconfirmed = True
    topup = AutoTopUp.objects.running().filter(user=user).select_related("pack").first()
    context = {"order": order, "unconfirmed": unconfirmed, "topup": topup}
    context["topup_buys"] = topup and topups.what(topup)
    if order.state == Order.State.PENDING:
        context["look_again"] = _look_again(request)
    return render(request, "billing/return.html", context, status=503 if unconfirmed else 200)


def _back_from_plan(request: HttpRequest, visit: PlanCheckout) -> HttpResponse:
    unconfirmed = False
    try:
        visit = subscriptions.take(stripe_gateway.retrieve_session(visit.stripe_session or "")) or visit
    except PaymentUnavailable:
        unconfirmed = True
    subscription = subscriptions.of(person_of(request))
    context = {
        "visit": visit,
        "subscription": subscription,
        "unconfirmed": unconfirmed,
        "look_again": _look_again(request) if subscription and subscription.is_unpaid else "",
    }
    return render(request, "billing/subscribed.html", context, status=503 if unconfirmed else 200)


def _look_again(request: HttpRequest) -> str:
    """What a page that waits has its browser ask for next, after LOOK_AGAIN_SECONDS; empty after LOOKS."""
    looked = request.GET.get("looked", "0")
    # Whatever else somebody writes there, it ends the looking.
    looks = int(looked) if looked.isascii() and looked.isdecimal() and len(looked) < 3 else LOOKS
    if looks >= LOOKS:
        return ""
    query = request.GET.copy()
    query["looked"] = str(looks + 1)
    return f"{LOOK_AGAIN_SECONDS};url={request.path}?{query.urlencode()}"


@csrf_exempt
@require_POST
def webhook(request: HttpRequest) -> HttpResponse:
    """Stripe's events. 200 says that its effect is committed; anything else has Stripe send it again."""
    body = request.read(stripe_gateway.LARGEST_EVENT_BYTES + 1)
    try:
        event = stripe_gateway.construct_event(body, request.headers.get("Stripe-Signature", ""))
        webhooks.check(event)
    except EventRejected as error:
        # Of a body that is too large, no more than one byte too many was read.
        log.warning("stripe event rejected", reason=str(error), bytes=len(body))
        return _said(str(error), status=413 if len(body) > stripe_gateway.LARGEST_EVENT_BYTES else 400)
    try:
        outcome = webhooks.receive(event)
    except Exception:
        log.exception("stripe event failed", event_id=event.id, type=event.type)
        return _said("The event could not be handled. Send it again.", status=500)
    return _said(outcome.value, status=200)


def billing_page(
    request: HttpRequest,
    *,
    problem: str = "",
    amount_form: CheckoutForm | None = None,
    topup_form: AutoTopUpForm | None = None,
    status: int = 200,
) -> HttpResponse:
    """The whole page, with what went wrong on top, or in the form that it is wrong in, as it was sent."""
    user = person_of(request)
    wallet = ledger.wallet_of(user)
    shown = statement_page.shown(request.GET, user, wallet)
    context: dict[str, Any] = {
        "problem": problem,
        "amount_form": amount_form,
        "topup_form": topup_form,
        "cancelled": "cancelled" in request.GET,
        "can_buy": bool(settings.STRIPE_SECRET_KEY),
        "welcomed_before": welcome.were_had_before(user, wallet),
        **on_offer(user),
        "waiting": _waiting(user),
        **shown,
    }
    if shown["statement_problems"] and status == 200:
        status = 400
    return render(request, "billing/billing.html", context, status=status)


def _waiting(user: User) -> QuerySet[Order]:
    """Orders that a bank has not answered yet."""
    return user.orders.filter(state=Order.State.PENDING)


def person_of(request: HttpRequest) -> User:
    """Who is signed in, behind `login_required`."""
    if not isinstance(request.user, User):
        raise TypeError("a view that needs a person is open to everybody")
    return request.user


def _said(sentence: str, *, status: int) -> HttpResponse:
    return HttpResponse(sentence + "\n", status=status, content_type="text/plain; charset=utf-8")
