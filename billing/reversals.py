"""Refunds and disputes take the credits back: once each, in proportion, whoever began them and in whatever order
Stripe tells of them.

Nothing here counts events. All refunds and disputes of a payment are looked at as Stripe has them, and the ledger is
brought to that: what gives money back has taken its share of the credits under the key `refund:<id>` or `dispute:<id>`,
and what came to nothing has returned it under `<that key>:returned`. So doubled, late and reordered events change
nothing. Together they take no more than was bought: who comes when nothing is left takes its share, or the rest of it
(`<key>:2`), once another has returned some.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import structlog
from django.db import transaction
from django.db.models import Q, Sum

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
    """A refund or dispute, and how its payment is credited should that not have happened yet.

    `others` are all refunds and disputes of the payment, oldest first, this one among them; none if our key may not
    list them.
    """

    reversal: Reversal
    credit: Credit | None
    others: tuple[Reversal, ...] = ()


# --- Asking Stripe, outside any transaction --------------------------------------------------------------


def ask_of_refund(refund_id: str) -> News:
    """A refund as Stripe has it now. PaymentUnavailable when Stripe cannot be asked."""
    return _news(at_stripe.retrieve_refund(refund_id))


def ask_of_dispute(dispute_id: str) -> News:
    """A dispute as Stripe has it now. PaymentUnavailable when Stripe cannot be asked."""
    return _news(at_stripe.retrieve_dispute(dispute_id))


def told_of_refund(event: Event) -> News:
    """The refund that an event is about."""
    try:
        return ask_of_refund(event.object_id)
    except RequestRefused:
        return _news(at_stripe.refund_in(_newest_told(event)))


def told_of_dispute(event: Event) -> News:
    """The dispute that an event is about."""
    try:
        return ask_of_dispute(event.object_id)
    except RequestRefused:
        return _news(at_stripe.dispute_in(_newest_told(event)))


def told_of_charge(event: Event) -> News | None:
    """The refunds of the charge that an event is about; None if it has none."""
    try:
        refunds = at_stripe.refunds_of(event.object_id)
    except RequestRefused:
        told = event.payload["data"]["object"].get("refunds") or {}
        refunds = [at_stripe.refund_in(refund) for refund in told.get("data", [])]
        # Stripe lists the newest first.
        return News(refunds[0], None, tuple(reversed(refunds))) if refunds else None
    return _news(refunds[0]) if refunds else None


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


def _news(reversal: Reversal) -> News:
    order = order_of(reversal)
    is_paid = order is not None and order.state == Order.State.PAID
    credit = None if is_paid else _credit_of(reversal, order)
    return News(reversal, credit, _others(reversal) if order or credit else ())


def _others(reversal: Reversal) -> tuple[Reversal, ...]:
    if not reversal.payment_intent:
        return ()
    try:
        return tuple(at_stripe.reversals_of(reversal.payment_intent))
    except RequestRefused:
        return ()


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
    before = wallet.balance
    is_among_others = any(other.key == reversal.key for other in news.others)
    taken = _bring([*news.others, *([] if is_among_others else [reversal])], order, wallet)
    if order.user and wallet.balance != before:
        person = order.user.pk
        transaction.on_commit(lambda: notify(person, "balance"), robust=True)
    if order.user and taken and wallet.balance < 0:
        mails.debt(order.user, order, taken_by=taken[-1].key, balance=wallet.balance)
    if taken:
        transaction.on_commit(lambda: _look_again(reversal), robust=True)
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
    if any(one.is_off for one in (news.reversal, *news.others)):
        with transaction.atomic():
            apply(news)


def _bring(found: list[Reversal], order: Order, wallet: Account) -> list[Reversal]:
    """Return what came to nothing, and then take the shares of what gives money back; those that took some now."""
    for reversal in found:
        for transfer in _unreturned(reversal, order) if reversal.is_off else ():
            ledger.give_back(
                wallet=wallet,
                order=order,
                kind=Transfer.Kind(reversal.kind),
                amount=transfer.amount,
                key=f"{transfer.key}:returned",
                reason=RETURNED[Transfer.Kind(reversal.kind)],
            )
    taken = []
    for reversal, amount in _due(found, order, wallet):
        if amount > 0:
            _take(reversal, amount, order, wallet)
            taken.append(reversal)
    return taken


def _due(found: list[Reversal], order: Order, wallet: Account) -> Iterator[tuple[Reversal, int]]:
    """What of each share is missing and can be had: each is taken before the next is asked for."""
    cents = 0
    for reversal in found:
        if not reversal.counts or _is_returned(reversal, order):
            continue  # what came to nothing stays so: an answer that says otherwise is older
        cents += reversal.amount
        left = left_of(order, wallet)
        if order.paid_cents and cents >= order.paid_cents:
            yield reversal, left
        else:
            yield reversal, min(share(reversal.amount, order) - taken_by(reversal, order), left)


def _take(reversal: Reversal, amount: int, order: Order, wallet: Account) -> None:
    before = len(_unreturned(reversal, order))
    ledger.reverse(
        wallet=wallet,
        order=order,
        kind=Transfer.Kind(reversal.kind),
        amount=amount,
        key=f"{reversal.key}:{before + 1}" if before else reversal.key,
        reason=reversal.reason,
        made_by=reversal.made_by,
    )


def taken_by(reversal: Reversal, order: Order) -> int:
    """Microcredits that a refund or dispute has taken and not returned."""
    return sum(transfer.amount for transfer in _unreturned(reversal, order))


def _booked(reversal: Reversal, order: Order) -> list[Transfer]:
    """What the ledger has of a refund or dispute, oldest first."""
    keys = Q(key=reversal.key) | Q(key__startswith=f"{reversal.key}:")
    return list(Transfer.objects.filter(keys, order=order).order_by("pk"))


def _unreturned(reversal: Reversal, order: Order) -> list[Transfer]:
    booked = _booked(reversal, order)
    returned = {transfer.key.removesuffix(":returned") for transfer in booked if _is_return(transfer)}
    return [transfer for transfer in booked if not _is_return(transfer) and transfer.key not in returned]


def _is_returned(reversal: Reversal, order: Order) -> bool:
    return any(_is_return(transfer) for transfer in _booked(reversal, order))


def _is_return(transfer: Transfer) -> bool:
    return transfer.key.endswith(":returned")


RETURNED = {
    Transfer.Kind.REFUND: "The refund did not go through",
    Transfer.Kind.DISPUTE: "The dispute was decided for the payment",
}


def share(cents: int, order: Order) -> int:
    """Microcredits that so much of what was paid had bought, rounded down.

    A promotion code lets less money buy them, so it is what was paid that counts and not the price. What makes the
    money whole takes whatever is left instead, so nothing is lost to rounding.
    """
    if not order.paid_cents:
        return 0
    return min(order.credits_microcredits, order.credits_microcredits * cents // order.paid_cents)


def left_of(order: Order, wallet: Account) -> int:
    """Microcredits of a purchase that no refund or dispute has taken back."""
    reversed_ = Transfer.objects.filter(order=order, kind__in=[Transfer.Kind.REFUND, Transfer.Kind.DISPUTE])
    taken = reversed_.filter(debit=wallet).aggregate(sum=Sum("amount", default=0))["sum"]
    returned = reversed_.filter(credit=wallet).aggregate(sum=Sum("amount", default=0))["sum"]
    left: int = order.credits_microcredits - taken + returned
    return left
