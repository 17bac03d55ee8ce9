"""Refunds and disputes take the credits back: once each, in proportion, whoever began them and in whatever order
Stripe tells of them.

Nothing here counts events. All refunds and disputes of a payment are looked at as Stripe has them, and the ledger is
brought to that: what gives money back has taken its share of the credits under the key `refund:<id>` or `dispute:<id>`,
and what came to nothing has returned it under `<that key>:returned`. So doubled, late and reordered events change
nothing. Together they take no more than was bought: who comes when nothing is left takes its share, or the rest of it
(`<key>:2`), once another has returned some.

What has expired of a purchase left the wallet for it already. It counts as taken, for the oldest first, so the sum is
the same whether the credits expire before their money goes back or would have done so afterwards.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import structlog
from django.db import transaction
from django.db.models import Q, Sum

from accounts.notify import notify
from billing import fulfilment, ledger, mails, stripe_gateway, subscriptions, topups
from billing.errors import NotYetPaid, PaymentUnavailable, PermissionRefused, WrongCurrency
from billing.models import Account, MoneyBack, Order, StripeEvent, Transfer
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
    """The refund that an event is about, as Stripe has it; as the event has it if our key may not read refunds."""
    try:
        return ask_of_refund(event.object_id)
    except PermissionRefused:
        return _news(at_stripe.refund_in(_newest_told(event)))


def told_of_dispute(event: Event) -> News:
    """The dispute that an event is about, likewise."""
    try:
        return ask_of_dispute(event.object_id)
    except PermissionRefused:
        return _news(at_stripe.dispute_in(_newest_told(event)))


def told_of_charge(event: Event) -> News | None:
    """The refunds of the charge that an event is about; None if it has none."""
    try:
        refunds = at_stripe.refunds_of(event.object_id)
    except PermissionRefused:
        told = event.payload["data"]["object"].get("refunds") or {}
        refunds = [at_stripe.refund_in(refund) for refund in told.get("data", [])]
        # Stripe lists the newest first.
        return News(refunds[0], None, tuple(reversed(refunds))) if refunds else None
    return _news(refunds[0]) if refunds else None


def _newest_told(event: Event) -> dict[str, object]:
    """What Stripe told last of an object that our key may not read: events are signed, but come in any order."""
    told = StripeEvent.objects.filter(about=event.object_id).values_list("payload", flat=True)
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
    except PermissionRefused:
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
    WrongCurrency if it cannot be told how much of what was paid goes back.
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
    found = [*news.others, *([] if is_among_others else [reversal])]
    _refuse_other_currencies(found, order)
    gone = _record_money(found, order)
    taken = _bring(found, order, wallet)
    if order.user and wallet.balance != before:
        person = order.user.pk
        transaction.on_commit(lambda: notify(person, "balance"), robust=True)
    if order.user and taken and wallet.balance < 0:
        mails.debt(order.user, order, taken_by=taken[-1].key, balance=wallet.balance)
    if order.user and gone:
        topups.stop_after_reversal(order.user)
    if gone or taken:
        transaction.on_commit(lambda: _look_again(reversal), robust=True)
    return order


def _refuse_other_currencies(found: list[Reversal], order: Order) -> None:
    """A hundred yen are no hundred cents: their share of what was paid cannot be told."""
    for reversal in found:
        if reversal.currency != order.currency:
            raise WrongCurrency(
                f"{reversal.kind} {reversal.id} is in {reversal.currency.upper() or 'no currency'} and "
                f"order {order.pk} in {order.currency.upper()}"
            )


def _look_again(reversal: Reversal) -> None:
    """Ask once more, after something was booked: what Stripe said before may have been overtaken.

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


def _record_money(found: list[Reversal], order: Order) -> list[Reversal]:
    """Keep how much of the money is back now; those by which some of it went just now."""
    gone = []
    for reversal in found:
        known = list(order.money_back.filter(reversal=reversal.key).values_list("cents", flat=True))
        # What came to nothing stays so, as it does in the ledger.
        is_over = reversal.is_off or (known and sum(known) == 0) or _came_to_nothing(reversal, order)
        if not (is_over or reversal.counts):
            continue
        if change := (0 if is_over else reversal.amount) - sum(known):
            MoneyBack.objects.create(order=order, reversal=reversal.key, cents=change)
            if change > 0:
                gone.append(reversal)
    return gone


def _bring(found: list[Reversal], order: Order, wallet: Account) -> list[Reversal]:
    """Return what came to nothing, and then take the shares of what gives money back; those that took some now."""
    for reversal in found:
        for transfer in _unreturned(reversal, order) if reversal.is_off else ():
            _return(
                transfer, order, wallet, suffix=RETURNED, reason=CAME_TO_NOTHING[Transfer.Kind(reversal.kind)]
            )
    for transfer in _too_much(found, order, wallet):
        _return(transfer, order, wallet, suffix=SPARED, reason="These credits had expired already")
    taken = []
    for reversal, amount in _due(found, order, wallet):
        if amount > 0:
            _take(reversal, amount, order, wallet)
            taken.append(reversal)
    return taken


def _due(found: list[Reversal], order: Order, wallet: Account) -> Iterator[tuple[Reversal, int]]:
    """What of each share is missing and can be had: each is taken before the next is asked for."""
    cents, expired = 0, expired_of(order)
    for reversal in _going_back(found, order):
        cents += reversal.amount
        left = left_of(order, wallet)
        if order.paid_cents and cents >= order.paid_cents:
            yield reversal, left
        else:
            missing = max(0, share(reversal.amount, order) - taken_by(reversal, order))
            counted = min(missing, expired)
            expired -= counted
            yield reversal, min(missing - counted, left)


def _too_much(found: list[Reversal], order: Order, wallet: Account) -> Iterator[Transfer]:
    """What was taken besides what had expired and need not have been, the newest first.

    What had expired counted for another that has come to nothing since, or did not count when this was taken. Whoever
    was not told of all that the books know of the order cannot say so.
    """
    expired = expired_of(order)
    is_newest = {reversal.key for reversal in found} >= set(_keys_of(order))
    came_to_nothing = is_newest and any(reversal.is_off for reversal in found)
    if not expired or not (came_to_nothing or left_of(order, wallet) < 0):
        return
    going_back = _going_back(found, order)
    is_whole = sum(reversal.amount for reversal in going_back) >= (order.paid_cents or 0)
    shares = [order.credits_microcredits] if is_whole else [share(one.amount, order) for one in going_back]
    spare = expired + sum(taken_by(reversal, order) for reversal in going_back) - sum(shares)
    for transfer in sorted(
        (transfer for one in going_back for transfer in _unreturned(one, order)),
        key=lambda transfer: -transfer.pk,
    ):
        of_the_purchase = transfer.lot_uses.filter(lot__transfer__order=order)
        beside = transfer.amount - sum(use.amount for use in of_the_purchase)
        if spare > 0 and beside:
            spare -= beside
            yield transfer


def _going_back(found: list[Reversal], order: Order) -> list[Reversal]:
    """Those that give money back. What came to nothing stays so: an answer that says otherwise is older."""
    return [reversal for reversal in found if reversal.counts and not _came_to_nothing(reversal, order)]


def _take(reversal: Reversal, amount: int, order: Order, wallet: Account) -> None:
    before = sum(not _is_return(transfer) for transfer in _booked(reversal, order))
    ledger.reverse(
        wallet=wallet,
        order=order,
        kind=Transfer.Kind(reversal.kind),
        amount=amount,
        key=f"{reversal.key}:{before + 1}" if before else reversal.key,
        reason=reversal.reason,
        made_by=reversal.made_by,
    )


def _return(transfer: Transfer, order: Order, wallet: Account, *, suffix: str, reason: str) -> None:
    ledger.give_back(
        wallet=wallet,
        order=order,
        kind=Transfer.Kind(transfer.kind),
        amount=transfer.amount,
        key=f"{transfer.key}{suffix}",
        reason=reason,
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
    returned = {transfer.key.rpartition(":")[0] for transfer in booked if _is_return(transfer)}
    return [transfer for transfer in booked if not _is_return(transfer) and transfer.key not in returned]


def _came_to_nothing(reversal: Reversal, order: Order) -> bool:
    return any(transfer.key.endswith(RETURNED) for transfer in _booked(reversal, order))


def _is_return(transfer: Transfer) -> bool:
    return transfer.key.endswith((RETURNED, SPARED))


def _keys_of(order: Order) -> Iterator[str]:
    """Of every refund and dispute that the ledger has something of."""
    for key in order.transfers.filter(kind__in=REVERSALS).values_list("key", flat=True):
        yield ":".join(key.split(":")[:2])


REVERSALS = [Transfer.Kind.REFUND, Transfer.Kind.DISPUTE]

# Of the key of what was taken: it came to nothing, or what has expired counts for it after all.
RETURNED, SPARED = ":returned", ":spared"

CAME_TO_NOTHING = {
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


def would_take(order: Order, wallet: Account, *, refunded: int, cents: int) -> int:
    """Microcredits that a refund of `cents` will take, where so much of the money is `refunded` already."""
    left = left_of(order, wallet)
    if refunded + cents >= (order.paid_cents or 0):
        return max(left, 0)
    # What has expired counts for what was refunded before first.
    refunds = Transfer.objects.filter(order=order, kind=Transfer.Kind.REFUND)
    taken = refunds.filter(debit=wallet).aggregate(sum=Sum("amount", default=0))["sum"]
    returned = refunds.filter(credit=wallet).aggregate(sum=Sum("amount", default=0))["sum"]
    expired = max(0, expired_of(order) - max(0, share(refunded, order) - taken + returned))
    return max(0, min(share(cents, order) - expired, left))


def left_of(order: Order, wallet: Account) -> int:
    """Microcredits of a purchase that no refund or dispute has taken back, and that have not expired."""
    reversed_ = Transfer.objects.filter(order=order, kind__in=REVERSALS)
    taken = reversed_.filter(debit=wallet).aggregate(sum=Sum("amount", default=0))["sum"]
    returned = reversed_.filter(credit=wallet).aggregate(sum=Sum("amount", default=0))["sum"]
    left: int = order.credits_microcredits - taken + returned - expired_of(order)
    return left


def expired_of(order: Order) -> int:
    """Microcredits of a purchase that were booked as expired."""
    booked = Transfer.objects.filter(kind=Transfer.Kind.EXPIRY, source__order=order)
    expired: int = booked.aggregate(sum=Sum("amount", default=0))["sum"]
    return expired
