"""What is paid is credited: the one way from a payment to credits, run by webhooks, by the return page and by top-ups.

Nothing here believes what an event or a browser says. The session or payment is retrieved from Stripe, the credits
come from our stored order, and however often and from wherever it runs, an order is credited once.
"""

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now
from django.urls import reverse

from accounts.models import User
from accounts.notify import notify
from billing import ledger, mails, stripe_gateway
from billing.models import Account, AutoTopUp, Order
from billing.stripe_gateway import Session
from billing.stripe_gateway.payments import Payment

log = structlog.get_logger(__name__)

# Why a purchase is in a wallet of nobody, by which it is told from those of people who left later.
PAID_BY_NOBODY = "Paid after the account was deleted"


def fulfil(session_id: str) -> Order | None:
    """Bring the order of a Checkout session up to what Stripe says of it; None if it has no order of ours.

    PaymentUnavailable when Stripe cannot be asked: then nothing has changed, and it can be run again.
    """
    return take(stripe_gateway.retrieve_session(session_id))


def take(session: Session) -> Order | None:
    """The same for a session as Stripe has just told of it."""
    with transaction.atomic():
        return apply(session)


def apply(session: Session, *, bank_refused: bool = False) -> Order | None:
    """Do what a session asks for, inside the caller's transaction; the order, or None if it has none of ours.

    `bank_refused`: a delayed payment failed, which the session does not tell from one that waits. Only a
    payment ends an order for good: whatever comes later, or came earlier, changes nothing about it.
    """
    found = _order_of(session)
    if found is None:
        return None
    order, wallet = locked(found)
    if order.state == Order.State.PAID:
        return order
    if order.stripe_session is None:
        # The process died between opening the session and storing it.
        order.stripe_session = session.id
    order.stripe_payment_intent = session.payment_intent
    order.stripe_invoice = order.stripe_invoice or session.invoice or None
    if session.is_paid:
        asked = session.amount_total if session.amount_subtotal is None else session.amount_subtotal
        credit(order, wallet, asked=asked, paid=session.amount_total, currency=session.currency)
        if order.keeps_card and session.payment_method:
            _keep_card(order.user, session)
    elif session.status == "expired":
        order.state = Order.State.EXPIRED
    elif bank_refused:
        order.state = Order.State.FAILED
    elif session.status == "complete" and order.state == Order.State.OPEN:
        order.state = Order.State.PENDING
    order.save()
    order.refresh_from_db()
    return order


def apply_payment(payment: Payment) -> tuple[Order | None, bool]:
    """The same for a payment made while the person was away: the order and whether this changed what it is.

    None if the payment is for no automatic top-up of ours.
    """
    topups = Order.objects.filter(source=Order.Source.AUTO_TOPUP).select_related("user")
    found = topups.filter(pk=payment.order_id).first() if payment.order_id else None
    if found is None:
        return None, False
    order, wallet = locked(found)
    before = order.state
    if before == Order.State.PAID:
        return order, False
    order.stripe_payment_intent = payment.id
    if payment.is_paid:
        order.failure = ""
        received = payment.amount_received
        credit(order, wallet, asked=received, paid=received, currency=payment.currency)
    elif payment.is_on_its_way:
        # Said before it failed and heard after, it would block every further top-up.
        if before == Order.State.OPEN:
            order.state = Order.State.PENDING
    else:
        order.state = Order.State.FAILED
        # A payment that waits for its person, who is away, has no error of its own.
        waits = payment.status == "requires_action"
        order.failure = payment.failure or ("authentication_required" if waits else payment.status)
    order.save()
    order.refresh_from_db()
    return order, order.state != before


def locked(order: Order) -> tuple[Order, Account | None]:
    """An order and the wallet of who made it, both locked; no wallet if they are gone."""
    # The wallet before the order, like everybody who takes both.
    try:
        wallet = ledger.locked_wallet_of(order.user) if order.user else None
    except User.DoesNotExist:  # deleted while this waited
        wallet = None
    return Order.objects.select_for_update().get(pk=order.pk), wallet


def credit(order: Order, wallet: Account | None, *, asked: int, paid: int, currency: str) -> None:
    """Credit an order that is paid, which the caller then saves, to a locked wallet.

    `asked` is what Stripe asked for, `paid` what is left of it after a promotion code, in smallest units.
    """
    reason = ""
    if wallet is None:
        # They deleted their account between paying and now. The books still show the money taken and the
        # credits owed, in a wallet of nobody, from which a refund can take them back.
        wallet, reason = Account.objects.create(kind=Account.Kind.WALLET), PAID_BY_NOBODY
        log.error("payment of a deleted person: refund it in Stripe", order=str(order.pk))
    if (asked, currency) != (order.amount_cents, order.currency):
        log.warning("paid amount differs from the order", order=str(order.pk), asked=asked, currency=currency)
    order.state = Order.State.PAID
    order.paid_at = Now()
    order.paid_cents = paid
    ledger.purchase(wallet=wallet, order=order, reason=reason)
    mails.receipt(order, link=f"{settings.SITE_URL}{reverse('billing_invoice', args=[order.pk])}")
    if (person := order.user_id) is not None:
        transaction.on_commit(lambda: notify(person, "balance"), robust=True)


def _order_of(session: Session) -> Order | None:
    """The order that a session was opened for: by the session we stored, or else by the id we gave it."""
    orders = Order.objects.select_related("user")
    order = orders.filter(stripe_session=session.id).first()
    if order is None and session.order_id:
        order = orders.filter(pk=session.order_id, stripe_session=None).first()
    if order is None:
        log.warning("checkout session of no order", session=session.id)
    return order


def _keep_card(user: User | None, session: Session) -> None:
    """What was just paid with in person pays for automatic top-ups from now on: whatever stopped them is over."""
    AutoTopUp.objects.filter(user=user).update(
        payment_method=session.payment_method, card=session.card, paused_because=""
    )
