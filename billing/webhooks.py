"""Stripe's events and what each of them does here.

An event is done once. Its row and its effect commit together, so a row that says `handled` proves the
effect; recording it any earlier would turn Stripe's retry after a crash into a lost payment. An event
whose handler failed is recorded as failed, answered with 500, and done when Stripe sends it again, or
an operator has it replayed.
"""

from collections.abc import Callable

import structlog
from django.db import transaction

from billing import customers, fulfilment, reversals, stripe_gateway, subscriptions, topups
from billing.errors import EventRejected
from billing.models import StripeEvent
from billing.stripe_gateway import Event
from billing.stripe_gateway.client import our_id
from billing.stripe_gateway.customers import owner_of
from billing.stripe_gateway.payments import retrieve_payment

log = structlog.get_logger(__name__)

# Does the event inside the transaction that records it; False when it concerned nothing of ours.
Effect = Callable[[], bool]
# Asks Stripe, outside any transaction, for what the effect will need.
Handler = Callable[[Event], Effect]


def session_changed(event: Event) -> Effect:
    """Completed, paid later, or expired: which of them, the session itself says."""
    session = stripe_gateway.retrieve_session(event.object_id)
    if not session.subscription and not session.plan_checkout_id:
        return lambda: fulfilment.apply(session) is not None
    news = subscriptions.ask(session.subscription) if session.subscription else None
    return lambda: subscriptions.apply_session(session, news) is not None


def bank_refused(event: Event) -> Effect:
    """A delayed payment failed."""
    session = stripe_gateway.retrieve_session(event.object_id)
    return lambda: fulfilment.apply(session, bank_refused=True) is not None


def subscription_changed(event: Event) -> Effect:
    """Begun, renewed, changed, past due, paused, resumed or ended: which of them, the subscription itself says."""
    news = subscriptions.ask(event.object_id)
    return lambda: subscriptions.apply(news) is not None


def invoice_paid(event: Event) -> Effect:
    """A period of a subscription is paid for."""
    news = subscriptions.ask_of_invoice(event.object_id)
    return lambda: news is not None and subscriptions.apply(news) is not None


def invoice_not_paid(event: Event) -> Effect:
    """A card was refused, or the bank wants the person to confirm: nobody but they can go on."""
    news = subscriptions.ask_of_invoice(event.object_id)
    return lambda: news is not None and subscriptions.apply_failure(news) is not None


def payment_changed(event: Event) -> Effect:
    """A payment was made or failed. Those that belong to a checkout or an invoice are told of there."""
    if not topups.is_for_one(our_id(event.payload["data"]["object"].get("metadata"), "order")):
        return lambda: False
    payment = retrieve_payment(event.object_id)
    return lambda: topups.settle(payment) is not None


def card_removed(event: Event) -> Effect:
    """Somebody had Stripe forget a card."""
    gone = not owner_of(event.object_id)
    return lambda: gone and customers.card_is_gone(event.object_id)


def customer_deleted(event: Event) -> Effect:
    """Somebody deleted a person's customer in Stripe's dashboard."""
    return lambda: customers.forget(event.object_id)


def refund_changed(event: Event) -> Effect:
    """A refund was begun, went through or failed: which of them, the refund itself says."""
    news = reversals.told_of_refund(event)
    return lambda: reversals.apply(news) is not None


def charge_refunded(event: Event) -> Effect:
    """Some of a charge was given back."""
    news = reversals.told_of_charge(event)
    return lambda: news is not None and reversals.apply(news) is not None


def dispute_changed(event: Event) -> Effect:
    """A buyer asked the bank for the money: which of them has it, the dispute itself says."""
    news = reversals.told_of_dispute(event)
    return lambda: reversals.apply(news) is not None


HANDLERS: dict[str, Handler] = {
    "checkout.session.completed": session_changed,
    "checkout.session.async_payment_succeeded": session_changed,
    "checkout.session.async_payment_failed": bank_refused,
    "checkout.session.expired": session_changed,
    "customer.deleted": customer_deleted,
    "customer.subscription.created": subscription_changed,
    "customer.subscription.updated": subscription_changed,
    "customer.subscription.deleted": subscription_changed,
    "customer.subscription.paused": subscription_changed,
    "customer.subscription.resumed": subscription_changed,
    "invoice.paid": invoice_paid,
    "invoice.payment_failed": invoice_not_paid,
    "invoice.payment_action_required": invoice_not_paid,
    "payment_intent.succeeded": payment_changed,
    "payment_intent.processing": payment_changed,
    "payment_intent.payment_failed": payment_changed,
    "payment_intent.canceled": payment_changed,
    "payment_method.detached": card_removed,
    "refund.created": refund_changed,
    "refund.updated": refund_changed,
    "refund.failed": refund_changed,
    "charge.refunded": charge_refunded,
    "charge.dispute.created": dispute_changed,
    "charge.dispute.updated": dispute_changed,
    "charge.dispute.closed": dispute_changed,
    "charge.dispute.funds_withdrawn": dispute_changed,
    "charge.dispute.funds_reinstated": dispute_changed,
}


def check(event: Event) -> None:
    """EventRejected if the event does not say which object its handler is to ask Stripe for."""
    if event.type in HANDLERS and not event.object_id:
        raise EventRejected("The event is about an object without an id.")


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


def replay(stored: StripeEvent) -> StripeEvent.Outcome:
    """Have a stored event handled once more, whatever became of it; what becomes of it now.

    The handler is the one that runs when Stripe sends it, so what it did before it finds done. Whatever it raises comes
    through. The row then says so, unless the event was handled before: that stays true.
    """
    about = stored.payload["data"]["object"]
    event = Event(
        id=stored.pk, type=stored.type, object_id=str(about.get("id") or ""), payload=stored.payload
    )
    try:
        handler = HANDLERS.get(event.type)
        done = _do(event, handler(event) if handler else None, again=True)
    except Exception as error:
        _record_failure(event, error)
        raise
    log.info("stripe event replayed", event_id=event.id, type=event.type, outcome=done.outcome)
    return StripeEvent.Outcome(done.outcome)


@transaction.atomic
def _do(event: Event, effect: Effect | None, *, again: bool = False) -> StripeEvent:
    record = _locked(event)
    if record.outcome != StripeEvent.Outcome.FAILED and not again:
        return record  # another delivery of it was faster
    if effect is not None and effect():
        record.outcome = StripeEvent.Outcome.HANDLED
    elif record.outcome == StripeEvent.Outcome.FAILED:
        record.outcome = StripeEvent.Outcome.IGNORED
    record.error = ""
    record.save(update_fields=["outcome", "error"])
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
