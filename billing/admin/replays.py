"""Having events handled once more: one from its page, or those that are selected in the list."""

from typing import Any

import structlog
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from unfold.sites import UnfoldAdminSite

from accounts.admin import keep_in_log
from billing import webhooks
from billing.errors import BillingError, PaymentUnavailable, RequestRefused
from billing.models import StripeEvent

log = structlog.get_logger(__name__)

# Each asks Stripe, in one request.
MOST_EVENTS = 50


def allowed(request: HttpRequest) -> bool:
    return request.user.has_perm("billing.replay_events")


def replay(request: HttpRequest, event: StripeEvent, site: UnfoldAdminSite) -> HttpResponse:
    """The page that asks once, and then has one event handled."""
    if not allowed(request):
        raise PermissionDenied
    if request.method == "POST":
        _replayed(request, event)
        return redirect("admin:billing_stripeevent_change", event.pk)
    context: dict[str, Any] = {
        **site.each_context(request),
        "opts": StripeEvent._meta,
        "original": event,
        "title": "Replay this event?",
        "sentence": f"{event.type} is handled as if Stripe had just sent it. What it did before is not done twice.",
        "button": "Replay the event",
        "variant": "primary",
    }
    return TemplateResponse(request, "admin/ask_once.html", context)


def replay_selected(
    request: HttpRequest, events: QuerySet[StripeEvent], site: UnfoldAdminSite
) -> HttpResponse | None:
    """The page that asks once, and then has the selected events handled, oldest first; what became of each is shown."""
    if not allowed(request):
        raise PermissionDenied
    chosen = list(events.order_by("received_at")[: MOST_EVENTS + 1])
    if len(chosen) > MOST_EVENTS:
        messages.error(request, f"At most {MOST_EVENTS} events are replayed at once. Select fewer.")
        return None
    if "confirmed" not in request.POST:
        context = {
            **site.each_context(request),
            "opts": StripeEvent._meta,
            "title": "Replay these events?",
            "events": chosen,
        }
        return TemplateResponse(request, "admin/billing/replay_events.html", context)
    for tried, event in enumerate(chosen, start=1):
        if not _replayed(request, event) and tried < len(chosen):
            messages.warning(request, f"Stripe is away: the other {len(chosen) - tried} were not tried.")
            break
    return None


def _replayed(request: HttpRequest, event: StripeEvent) -> bool:
    """Replay an event and say what became of it; False if Stripe cannot be asked, and so not about another either."""
    try:
        outcome = webhooks.replay(event)
    except Exception as error:  # noqa: BLE001  whatever the handler raises is what became of it
        # A handler that breaks is a fault to be mended; one that Stripe does not answer is not.
        write = log.warning if isinstance(error, BillingError) else log.exception
        write("stripe event failed again", event_id=event.pk, type=event.type)
        keep_in_log(request, event, f"Replayed: failed with {type(error).__name__}."[:200])
        messages.error(request, f"{event.type} {event.pk} failed: {error or type(error).__name__}"[:500])
        return not isinstance(error, PaymentUnavailable) or isinstance(error, RequestRefused)
    keep_in_log(request, event, f"Replayed: {outcome}.")
    messages.success(request, f"{event.type} {event.pk} was {outcome}.")
    return True
