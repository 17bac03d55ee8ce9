"""Stripe's events and what each of them does here.

An event is done once. Its row and its effect commit together, so a row that says `handled` proves the
effect; recording it any earlier would turn Stripe's retry after a crash into a lost payment. An event
whose handler failed is recorded as failed, answered with 500, and done when Stripe sends it again.
"""

from collections.abc import Callable

import structlog
from django.db import transaction

from billing import fulfilment, stripe_gateway
from billing.models import StripeEvent
from billing.stripe_gateway import Event

log = structlog.get_logger(__name__)

# Does the event inside the transaction that records it; False when it concerned nothing of ours.
Effect = Callable[[], bool]
# Asks Stripe, outside any transaction, for what the effect will need.
Handler = Callable[[Event], Effect]


def session_changed(event: Event) -> Effect:
    """Completed, paid later, or expired: which of them, the session itself says."""
    session = stripe_gateway.retrieve_session(event.object_id)
    return lambda: fulfilment.apply(session) is not None


def bank_refused(event: Event) -> Effect:
    """A delayed payment failed."""
    session = stripe_gateway.retrieve_session(event.object_id)
    return lambda: fulfilment.apply(session, bank_refused=True) is not None


HANDLERS: dict[str, Handler] = {
    "checkout.session.completed": session_changed,
    "checkout.session.async_payment_succeeded": session_changed,
    "checkout.session.async_payment_failed": bank_refused,
    "checkout.session.expired": session_changed,
}


def receive(event: Event) -> StripeEvent.Outcome:
    """Do what an event asks for, unless that was done before. Whatever its handler raises comes through."""
    done = StripeEvent.objects.filter(pk=event.id).exclude(outcome=StripeEvent.Outcome.FAILED).first()
    if done is None:
        try:
            handler = HANDLERS.get(event.type)
            done = _do(event, handler(event) if handler else None)
        except Exception as error:
            _record_failure(event, error)
            raise
    log.info("stripe event", event_id=event.id, type=event.type, outcome=done.outcome)
    return StripeEvent.Outcome(done.outcome)


@transaction.atomic
def _do(event: Event, effect: Effect | None) -> StripeEvent:
    record = _locked(event)
    if record.outcome != StripeEvent.Outcome.FAILED:
        return record  # another delivery of it was faster
    handled = effect is not None and effect()
    record.outcome = StripeEvent.Outcome.HANDLED if handled else StripeEvent.Outcome.IGNORED
    record.error = ""
    record.save()
    return record


def _locked(event: Event) -> StripeEvent:
    """The event's row, locked; one made just now says failed until its effect has been done."""
    _insert(event, error="")
    return StripeEvent.objects.select_for_update().get(pk=event.id)


def _insert(event: Event, *, error: str) -> None:
    # A second delivery waits here until the transaction of the first has ended.
    row = StripeEvent(
        id=event.id,
        type=event.type,
        payload=event.payload,
        outcome=StripeEvent.Outcome.FAILED,
        error=error,
    )
    StripeEvent.objects.bulk_create([row], ignore_conflicts=True)


def _record_failure(event: Event, error: Exception) -> None:
    text = f"{type(error).__name__}: {error}"[:1000]
    with transaction.atomic():
        _insert(event, error=text)
        # Not over a copy of it that has succeeded meanwhile.
        StripeEvent.objects.filter(pk=event.id, outcome=StripeEvent.Outcome.FAILED).update(error=text)
