"""The pages on which credits are bought and accounted for, and the door at which Stripe's events arrive."""

from typing import Any

import structlog
from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, StreamingHttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST, require_safe

from accounts.models import User
from billing import fulfilment, ledger, statement, stripe_gateway, webhooks
from billing.checkout import offer, open_checkout
from billing.errors import EventRejected, PaymentUnavailable
from billing.forms import CheckoutForm
from billing.models import Order, Pack

log = structlog.get_logger(__name__)

LINES_PER_PAGE = 25


class SeeOther(HttpResponseRedirect):
    """303: whatever the method was, GET what is there."""

    status_code = 303


@require_safe
@never_cache
@login_required
def billing(request: HttpRequest) -> HttpResponse:
    """Balance, packs, and the statement."""
    return _billing_page(request)


@require_safe
@never_cache
@login_required
def statement_csv(request: HttpRequest) -> StreamingHttpResponse:
    """The whole statement as a file."""
    wallet = ledger.wallet_of(_person(request))
    response = StreamingHttpResponse(statement.as_csv(wallet), content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="statement-{timezone.now():%Y-%m-%d}.csv"'
    return response


@require_POST
@login_required
def checkout(request: HttpRequest) -> HttpResponse:
    """Go to Stripe to pay for a pack."""
    form = CheckoutForm(request.POST)
    if not settings.STRIPE_SECRET_KEY:
        return _billing_page(request, problem="Buying credits is switched off on this site.", status=503)
    if not form.is_valid():
        return _billing_page(request, problem=form.first_error, status=400)
    # Stripe puts the session's id in place of the braces, so they must reach it unquoted.
    success_url = request.build_absolute_uri(reverse("billing_return")) + "?session_id={CHECKOUT_SESSION_ID}"
    try:
        url = open_checkout(
            user=_person(request),
            purchase=form.purchase,
            order_id=form.cleaned_data["order"],
            success_url=success_url,
            cancel_url=request.build_absolute_uri(reverse("billing")) + "?cancelled=1",
        )
    except PaymentUnavailable as error:
        return _billing_page(request, problem=str(error), status=503)
    return SeeOther(url)


@require_safe
@never_cache
@login_required
def checkout_return(request: HttpRequest) -> HttpResponse:
    """Where Stripe sends a buyer back to: credits at once what is paid, even if no event came."""
    session_id = request.GET.get("session_id", "")
    # PostgreSQL's text has no NUL, and no session's id has anything unprintable.
    order = session_id.isprintable() and _person(request).orders.filter(stripe_session=session_id).first()
    if not order:
        raise Http404("no checkout of yours")
    unconfirmed = False
    if order.state != Order.State.PAID:
        try:
            order = fulfilment.fulfil(session_id) or order
        except PaymentUnavailable:
            unconfirmed = True
    context = {"order": order, "unconfirmed": unconfirmed}
    return render(request, "billing/return.html", context, status=503 if unconfirmed else 200)


@csrf_exempt
@require_POST
def webhook(request: HttpRequest) -> HttpResponse:
    """Stripe's events. 200 says that its effect is committed; anything else has Stripe send it again."""
    body = request.read(stripe_gateway.LARGEST_EVENT_BYTES + 1)
    if len(body) > stripe_gateway.LARGEST_EVENT_BYTES:
        return _said("The body is larger than any event.", status=413)
    try:
        event = stripe_gateway.construct_event(body, request.headers.get("Stripe-Signature", ""))
    except EventRejected as error:
        log.warning("stripe event rejected", reason=str(error), bytes=len(body))
        return _said(str(error), status=400)
    try:
        outcome = webhooks.receive(event)
    except Exception:
        log.exception("stripe event failed", event_id=event.id, type=event.type)
        return _said("The event could not be handled. Send it again.", status=500)
    return _said(outcome.value, status=200)


def _billing_page(request: HttpRequest, *, problem: str = "", status: int = 200) -> HttpResponse:
    user = _person(request)
    wallet = ledger.wallet_of(user)
    page = Paginator(ledger.statement(wallet).select_related("order"), LINES_PER_PAGE).get_page(
        request.GET.get("page")
    )
    context: dict[str, Any] = {
        "problem": problem,
        "cancelled": "cancelled" in request.GET,
        "can_buy": bool(settings.STRIPE_SECRET_KEY),
        "offers": [offer(pack) for pack in Pack.objects.filter(on_sale=True)],
        "waiting": _waiting(user),
        "page": page,
        "lines": [statement.line(transfer, wallet) for transfer in page],
    }
    return render(request, "billing/billing.html", context, status=status)


def _waiting(user: User) -> QuerySet[Order]:
    """Orders that a bank has not answered yet."""
    return user.orders.filter(state=Order.State.PENDING)


def _person(request: HttpRequest) -> User:
    if not isinstance(request.user, User):
        raise TypeError("a view that needs a person is open to everybody")
    return request.user


def _said(sentence: str, *, status: int) -> HttpResponse:
    return HttpResponse(sentence + "\n", status=status, content_type="text/plain; charset=utf-8")
