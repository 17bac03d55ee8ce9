"""What is paid is credited: the one way from a payment to credits, run by the webhook and by the return page.

Nothing here believes what an event or a browser says. The session is retrieved from Stripe, the credits come
from our stored order, and however often and from wherever it runs, an order is credited once.
"""

from functools import partial

import structlog
from django.db import transaction
from django.db.models.functions import Now

from accounts.notify import notify
from billing import ledger, stripe_gateway
from billing.models import Account, Order
from billing.stripe_gateway import Session

log = structlog.get_logger(__name__)


def fulfil(session_id: str) -> Order | None:
    """Bring the order of a Checkout session up to what Stripe says of it; None if it has no order of ours.

    PaymentUnavailable when Stripe cannot be asked: then nothing has changed, and it can be run again.
    """
    session = stripe_gateway.retrieve_session(session_id)
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
    # The wallet before the order, like everybody who takes both.
    wallet = ledger.locked_wallet_of(found.user) if found.user else None
    order = Order.objects.select_for_update().get(pk=found.pk)
    if order.state == Order.State.PAID:
        return order
    if order.stripe_session is None:
        # The process died between opening the session and storing it.
        order.stripe_session = session.id
    order.stripe_payment_intent = session.payment_intent
    if session.is_paid:
        _credit(order, wallet, session)
    elif session.status == "expired":
        order.state = Order.State.EXPIRED
    elif bank_refused:
        order.state = Order.State.FAILED
    elif session.status == "complete" and order.state == Order.State.OPEN:
        order.state = Order.State.PENDING
    order.save()
    order.refresh_from_db()
    return order


def _order_of(session: Session) -> Order | None:
    """The order that a session was opened for: by the session we stored, or else by the id we gave it."""
    orders = Order.objects.select_related("user")
    order = orders.filter(stripe_session=session.id).first()
    if order is None and session.order_id:
        order = orders.filter(pk=session.order_id, stripe_session=None).first()
    if order is None:
        log.warning("checkout session of no order", session=session.id)
    return order


def _credit(order: Order, wallet: Account | None, session: Session) -> None:
    if wallet is None:
        # They deleted their account between paying and now. The books still show the money taken and the
        # credits owed, in a wallet of nobody, from which a refund can take them back.
        wallet = Account.objects.create(kind=Account.Kind.WALLET)
        log.error("payment of a deleted person: refund it in Stripe", order=str(order.pk))
    if (session.amount_total, session.currency) != (order.amount_cents, order.currency):
        log.warning("paid amount differs from the order", order=str(order.pk), paid=session.amount_total)
    order.state = Order.State.PAID
    order.paid_at = Now()
    order.paid_cents = session.amount_total
    ledger.purchase(wallet=wallet, order=order)
    if order.user_id:
        transaction.on_commit(partial(notify, order.user_id, "balance"), robust=True)
