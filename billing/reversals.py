"""Refunds and disputes take the credits back: once each, in proportion, whoever began them and in whatever order
Stripe tells of them.

Nothing here counts events. A refund or a dispute is looked at as Stripe has it, and the ledger is brought to that: what
gives money back has taken its share of the credits under the key `refund:<id>` or `dispute:<id>`, and what came to
nothing has returned it under `<that key>:returned`. So doubled, late and reordered events change nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import structlog
from django.db import transaction
from django.db.models import Sum

from accounts.notify import notify
from billing import fulfilment, ledger, mails, stripe_gateway, subscriptions, topups
from billing.errors import NotYetPaid, PaymentUnavailable, RequestRefused
from billing.models import Account, Order, StripeEvent, Transfer
from billing.stripe_gateway import reversals as at_stripe
from billing.stripe_gateway.events import Event
from billing.stripe_gateway.payments import retrieve_payment
from billing.stripe_gateway.reversals import Reversal
from billing.stripe_gateway.subscriptions import invoice_of_payment

log = structlog.get_logger(__name__)

# Inside the caller's transaction: credit what was paid, before any of it is taken back.
Credit = Callable[[], object]


@dataclass(frozen=True, slots=True)
class News:
    """A refund or dispute, and how its payment is credited should that not have happened yet."""

    reversal: Reversal
    credit: Credit | None


# --- Asking Stripe, outside any transaction --------------------------------------------------------------


def ask_of_refund(refund_id: str) -> News:
    """A refund as Stripe has it now. PaymentUnavailable when Stripe cannot be asked."""
    return _with_credit(at_stripe.retrieve_refund(refund_id))


def ask_of_dispute(dispute_id: str) -> News:
    """A dispute as Stripe has it now. PaymentUnavailable when Stripe cannot be asked."""
    return _with_credit(at_stripe.retrieve_dispute(dispute_id))


def told_of_refund(event: Event) -> News:
    """The refund that an event is about."""
    try:
        return ask_of_refund(event.object_id)
    except RequestRefused:
        return _with_credit(at_stripe.refund_in(_newest_told(event)))


def told_of_dispute(event: Event) -> News:
    """The dispute that an event is about."""
    try:
        return ask_of_dispute(event.object_id)
    except RequestRefused:
        return _with_credit(at_stripe.dispute_in(_newest_told(event)))


def told_of_charge(event: Event) -> list[News]:
    """All refunds of the charge that an event is about."""
    try:
        refunds = at_stripe.refunds_of(event.object_id)
    except RequestRefused:
        told = event.payload["data"]["object"].get("refunds") or {}
        refunds = [at_stripe.refund_in(refund) for refund in told.get("data", [])]
    return [_with_credit(refund) for refund in refunds]


def _newest_told(event: Event) -> dict[str, object]:
    """What Stripe told last of an object that our key may not read: events are signed, but come in any order."""
    told = StripeEvent.objects.filter(payload__data__object__id=event.object_id).values_list(
        "payload", flat=True
    )
    # Of two in one second, the one that ends it is the later.
    newest = max(
        [event.payload, *told],
        key=lambda payload: (
            payload.get("created") or 0,
            payload["data"]["object"].get("status")
            in at_stripe.REFUND_IS_OFF | at_stripe.DISPUTE_IS_OFF | {"lost"},
        ),
    )
    found: dict[str, object] = newest["data"]["object"]
    return found


def _with_credit(reversal: Reversal) -> News:
    order = order_of(reversal)
    if order is not None and order.state == Order.State.PAID:
        return News(reversal, None)
    return News(reversal, _credit_of(reversal, order))


def _credit_of(reversal: Reversal, order: Order | None) -> Credit | None:
    """How the payment is credited, as its own event, which is still on its way, will ask for."""
    if order is None:
        invoice = invoice_of_payment(reversal.payment_intent) if reversal.payment_intent else ""
        news = subscriptions.ask_of_invoice(invoice) if invoice else None
        return partial(subscriptions.apply, news) if news else None
    if order.source == Order.Source.AUTO_TOPUP:
        return partial(topups.settle, retrieve_payment(reversal.payment_intent))
    if order.stripe_session:
        return partial(fulfilment.apply, stripe_gateway.retrieve_session(order.stripe_session))
    return None


def order_of(reversal: Reversal) -> Order | None:
    """The order that the payment was for: by the payment we stored, or else by the id we gave it."""
    orders = Order.objects.all()
    found = None
    if reversal.payment_intent:
        found = orders.filter(stripe_payment_intent=reversal.payment_intent).first()
    if found is None and reversal.order_id:
        found = orders.filter(pk=reversal.order_id).first()
    paid_by = found.stripe_payment_intent if found and found.state == Order.State.PAID else ""
    if found and paid_by and reversal.payment_intent and paid_by != reversal.payment_intent:
        # The order is paid by another payment: to give this one back takes nothing from it.
        log.warning("reversal of a second payment", kind=reversal.kind, id=reversal.id, order=str(found.pk))
        return None
    return found


# --- Bringing the ledger to it ---------------------------------------------------------------------------


def take(refund_id: str) -> Order | None:
    """Do at once what Stripe's events of a refund will ask for."""
    news = ask_of_refund(refund_id)
    with transaction.atomic():
        return apply(news)


def apply(news: News) -> Order | None:
    """Bring the ledger to what Stripe says, inside the caller's transaction; None if the payment is not ours.

    NotYetPaid if the order has not been credited and Stripe does not call it paid either: told again later, it will.
    """
    reversal = news.reversal
    if news.credit is not None:
        news.credit()
    order = order_of(reversal)
    if order is None:
        log.info("reversal of no order", kind=reversal.kind, id=reversal.id)
        return None
    # The wallet before the order, like everybody who takes both.
    wallet = ledger.locked_wallet_credited_with(order)
    if wallet is None:
        if not reversal.counts:
            return order
        raise NotYetPaid(f"{reversal.kind} {reversal.id} is of order {order.pk}, which is not paid yet")
    order = Order.objects.select_for_update().get(pk=order.pk)
    if _bring(reversal, order, wallet):
        if order.user:
            transaction.on_commit(partial(notify, order.user.pk, "balance"), robust=True)
            if reversal.counts and wallet.balance < 0:
                mails.debt(order.user, order, taken_by=reversal.key, balance=wallet.balance)
        if reversal.counts:
            transaction.on_commit(partial(_look_again, reversal), robust=True)
    return order


def _look_again(reversal: Reversal) -> None:
    """Ask once more, after a share was taken: what Stripe said before may have been overtaken.

    A refund can fail between the question and the commit, and that event be done before there was anything to return.
    Whatever happens from now on has an event of its own, which will find what was taken.
    """
    try:
        news = ask_of_refund(reversal.id) if reversal.kind == "refund" else ask_of_dispute(reversal.id)
    except PaymentUnavailable as error:
        # The nightly reconciliation asks again.
        log.warning("reversal not asked for again", kind=reversal.kind, id=reversal.id, error=str(error))
        return
    if not news.reversal.counts:
        with transaction.atomic():
            apply(news)


def _bring(reversal: Reversal, order: Order, wallet: Account) -> bool:
    """Take or return the share of one refund or dispute; whether anything moved."""
    key, kind = reversal.key, Transfer.Kind(reversal.kind)
    taken = Transfer.objects.filter(key=key).first()
    if reversal.counts and taken is None:
        amount = min(share(reversal.amount, order), left_of(order, wallet))
        if amount == 0:
            return False
        ledger.reverse(
            wallet=wallet,
            order=order,
            kind=kind,
            amount=amount,
            key=key,
            reason=reversal.reason,
            made_by=reversal.made_by,
        )
        return True
    if not reversal.counts and taken is not None and not _is_returned(key):
        ledger.give_back(
            wallet=wallet,
            order=order,
            kind=kind,
            amount=taken.amount,
            key=f"{key}:returned",
            reason=RETURNED[kind],
        )
        return True
    return False


RETURNED = {
    Transfer.Kind.REFUND: "The refund did not go through",
    Transfer.Kind.DISPUTE: "The dispute was decided for the payment",
}


def _is_returned(key: str) -> bool:
    return Transfer.objects.filter(key=f"{key}:returned").exists()


def share(cents: int, order: Order) -> int:
    """Microcredits that so much of what was paid had bought, rounded up: all of the money takes all of the credits.

    A promotion code lets less money buy them, so it is what was paid that counts and not the price.
    """
    if not order.paid_cents:
        return 0
    return min(order.credits_microcredits, -(-order.credits_microcredits * cents // order.paid_cents))


def left_of(order: Order, wallet: Account) -> int:
    """Microcredits of a purchase that no refund or dispute has taken back."""
    reversed_ = Transfer.objects.filter(order=order, kind__in=[Transfer.Kind.REFUND, Transfer.Kind.DISPUTE])
    taken = reversed_.filter(debit=wallet).aggregate(sum=Sum("amount", default=0))["sum"]
    returned = reversed_.filter(credit=wallet).aggregate(sum=Sum("amount", default=0))["sum"]
    left: int = order.credits_microcredits - taken + returned
    return left
