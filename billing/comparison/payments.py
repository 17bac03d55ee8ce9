"""Paid at Stripe: is it credited here? If not, it is credited now as an event would have had it."""

from collections.abc import Callable, Iterator

from django.db import transaction
from django.db.models import QuerySet

from billing import fulfilment, subscriptions, topups
from billing.comparison.finding import Finding, Kind, attempt
from billing.comparison.theirs import BANK_TAKES
from billing.models import Customer, Order, PlanCheckout, Reconciliation, Subscription
from billing.stripe_gateway import Session
from billing.stripe_gateway.lists import PaidInvoice
from billing.stripe_gateway.payments import Payment, retrieve_payment
from billing.templatetags.credits import money


def of_session(session: Session) -> Iterator[Finding]:
    """A checkout that is paid, against the order it was for; credited now if it was not."""
    orders = Order.objects.all()
    order = orders.filter(stripe_session=session.id).first()
    if order is None and session.order_id:
        order = orders.filter(pk=session.order_id).first()
        if order is None:
            yield _of_no_order(session.id, session.order_id, session.amount_total, session.currency)
            return
    if order is None:
        return  # none of ours, such as of a Payment Link
    if order.stripe_session not in {None, session.id}:
        yield _paid_again(session.id, order, session.amount_total, session.currency)
    elif order.state != Order.State.PAID:
        yield _mended_by(lambda: fulfilment.fulfil(session.id), session.id, order)
    else:
        asked = session.amount_total if session.amount_subtotal is None else session.amount_subtotal
        yield from amounts(session.id, order, session.amount_total, session.currency, asked=asked)


def of_payment(payment: Payment) -> Iterator[Finding]:
    """A payment through no checkout, such as an automatic top-up; credited now if it was not."""
    order = Order.objects.filter(pk=payment.order_id).first()
    if order is None:
        yield _of_no_order(payment.id, payment.order_id, payment.amount_received, payment.currency)
    elif order.state == Order.State.PAID and order.stripe_payment_intent not in {"", payment.id}:
        yield _paid_again(payment.id, order, payment.amount_received, payment.currency)
    elif order.source == Order.Source.AUTO_TOPUP:
        if order.state == Order.State.PAID:
            yield from amounts(payment.id, order, payment.amount_received, payment.currency)
        else:
            yield _mended_by(lambda: _settle(payment.id), payment.id, order)


def of_invoice(invoice: PaidInvoice) -> Iterator[Finding]:
    """A paid period of a subscription; credited now if it was not. Invoices of others are none of ours."""
    order = Order.objects.filter(stripe_invoice=invoice.id).first()
    if order is not None:
        yield from amounts(invoice.id, order, invoice.amount_paid, invoice.currency)
        return
    if not _is_ours(invoice):
        return
    attempt(lambda: _credit(invoice.id))
    order = Order.objects.filter(stripe_invoice=invoice.id).first()
    price = money(invoice.amount_paid, invoice.currency)
    # Nothing is owed for what was free, such as a trial.
    if order or invoice.amount_paid:
        yield Finding(
            kind=Kind.NOT_CREDITED,
            stripe_id=invoice.id,
            order=order,
            says=f"Invoice {invoice.id} of a subscription was paid, and no credits were booked for it.",
            expected=f"{price} paid",
            found="no order",
            mended=order is not None,
        )


def _is_ours(invoice: PaidInvoice) -> bool:
    return (
        Subscription.objects.filter(stripe_id=invoice.subscription).exists()
        or Customer.objects.filter(stripe_id=invoice.customer).exists()
        or (
            bool(invoice.plan_checkout_id)
            and PlanCheckout.objects.filter(pk=invoice.plan_checkout_id).exists()
        )
    )


def waiting(run: Reconciliation) -> QuerySet[Order]:
    """Orders begun before the time that Stripe was asked for, which may have been paid in it."""
    return Order.objects.filter(
        state__in=[Order.State.OPEN, Order.State.PENDING],
        created_at__lt=run.since,
        created_at__gte=run.since - BANK_TAKES,
    )


def of_waiting(order: Order) -> Iterator[Finding]:
    """An order that was waiting; nothing to tell unless it turns out to be paid, and is credited now."""
    if order.stripe_session:
        session_id = order.stripe_session
        finding = _mended_by(lambda: fulfilment.fulfil(session_id), session_id, order)
    elif order.source == Order.Source.AUTO_TOPUP and order.stripe_payment_intent:
        payment_id = order.stripe_payment_intent
        finding = _mended_by(lambda: _settle(payment_id), payment_id, order)
    else:
        return
    # Whether it is paid at all was not known before.
    if finding.mended:
        yield finding


def _settle(payment_id: str) -> None:
    topups.settle_at_once(retrieve_payment(payment_id))


def _credit(invoice_id: str) -> None:
    news = subscriptions.ask_of_invoice(invoice_id)
    if news:
        with transaction.atomic():
            subscriptions.apply(news)


def _mended_by(mend: Callable[[], object], stripe_id: str, order: Order) -> Finding:
    """Have an order credited that is paid, and tell whether it is now."""
    before = order.get_state_display()
    attempt(mend)
    order.refresh_from_db()
    return Finding(
        kind=Kind.NOT_CREDITED,
        stripe_id=stripe_id,
        order=order,
        says=f"What {stripe_id} paid for was not credited.",
        expected="a paid order",
        found=f"an order that is {before}",
        mended=order.state == Order.State.PAID,
    )


def _of_no_order(stripe_id: str, order_id: str, cents: int, currency: str) -> Finding:
    return Finding(
        kind=Kind.NOT_CREDITED,
        stripe_id=stripe_id,
        order=None,
        says=f"{stripe_id} paid for order {order_id}, which is not there.",
        expected=f"{money(cents, currency)} paid",
        found="no order",
    )


def _paid_again(stripe_id: str, order: Order, cents: int, currency: str) -> Finding:
    return Finding(
        kind=Kind.PAID_TWICE,
        stripe_id=stripe_id,
        order=order,
        says=f"{stripe_id} paid once more for an order that belongs to another payment.",
        expected=f"{money(cents, currency)} paid again",
        found="one order",
    )


def amounts(
    stripe_id: str, order: Order, paid: int, currency: str, *, asked: int | None = None
) -> Iterator[Finding]:
    """What was paid, and what was asked for where Stripe tells, against the order."""
    checks = [("took", paid, order.paid_cents)]
    if asked is not None:
        checks.append(("asked for", asked, order.amount_cents))
    for did, theirs, ours in checks:
        if (theirs, currency) != (ours, order.currency):
            expected, found = money(theirs, currency), money(ours or 0, order.currency)
            yield Finding(
                kind=Kind.AMOUNT,
                stripe_id=stripe_id,
                order=order,
                says=f"Stripe {did} {expected} where the order has {found}.",
                expected=f"{did} {expected}",
                found=found,
            )
