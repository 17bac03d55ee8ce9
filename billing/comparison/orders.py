"""Credited here: is it paid at Stripe, once, and were its credits booked?"""

from collections.abc import Iterator

from django.db.models import Count, OuterRef, QuerySet, Subquery, Sum
from django.db.models.functions import Coalesce

from billing import fulfilment
from billing.comparison.finding import Finding, Kind
from billing.comparison.payments import amounts, of_session
from billing.comparison.theirs import Theirs
from billing.credits import as_string
from billing.models import MoneyBack, Order, Reconciliation, Transfer
from billing.stripe_gateway import lists
from billing.templatetags.credits import money


def credited(run: Reconciliation) -> QuerySet[Order]:
    """What was paid in the time that is compared, as our books have it."""
    return Order.objects.filter(state=Order.State.PAID, paid_at__gte=run.since, paid_at__lt=run.began_at)


def of_credit(order: Order, theirs: Theirs) -> Iterator[Finding]:
    """A paid order of ours: its credits booked once, and its payment at Stripe, also where that is older."""
    yield from _booked(order)
    if order.source == Order.Source.CHECKOUT:
        yield from _of_checkout(order, theirs)
    elif order.source == Order.Source.AUTO_TOPUP:
        yield from _of_topup(order, theirs)
    elif order.stripe_invoice not in theirs.ids:
        invoice = lists.invoice_or_none(order.stripe_invoice) if order.stripe_invoice else None
        if invoice is None:
            yield _not_paid(order, order.stripe_invoice or "")
        else:
            yield from amounts(invoice.id, order, invoice.amount_paid, invoice.currency)


def _of_checkout(order: Order, theirs: Theirs) -> Iterator[Finding]:
    if order.stripe_session in theirs.ids:
        return
    session = lists.session_or_none(order.stripe_session) if order.stripe_session else None
    if session is None or not session.is_paid:
        yield _not_paid(order, order.stripe_session or "")
    else:
        yield from of_session(session)


def _of_topup(order: Order, theirs: Theirs) -> Iterator[Finding]:
    if order.stripe_payment_intent in theirs.ids:
        return
    payment = lists.payment_or_none(order.stripe_payment_intent) if order.stripe_payment_intent else None
    if payment is None or not payment.is_paid:
        yield _not_paid(order, order.stripe_payment_intent)
    else:
        yield from amounts(payment.id, order, payment.amount_received, payment.currency)


def _not_paid(order: Order, stripe_id: str) -> Finding:
    return Finding(
        kind=Kind.NOT_PAID,
        stripe_id=stripe_id,
        order=order,
        says="The order is paid in our books, and Stripe has no payment for it.",
        expected="no payment",
        found=f"{money(order.paid_cents or 0, order.currency)} paid",
    )


def _booked(order: Order) -> Iterator[Finding]:
    """What was booked for a paid order: its credits, once."""
    booked = list(order.transfers.filter(kind=Transfer.Kind.PURCHASE).values_list("amount", flat=True))
    if booked == [order.credits_microcredits]:
        return
    kind = {0: Kind.NOT_CREDITED, 1: Kind.AMOUNT}.get(len(booked), Kind.CREDITED_TWICE)
    owed, given = as_string(order.credits_microcredits), as_string(sum(booked))
    yield Finding(
        kind=kind,
        stripe_id=order.stripe_session or order.stripe_invoice or order.stripe_payment_intent,
        order=order,
        says=f"The order is for {owed} credits, and {given} were booked for it.",
        expected=f"{owed} credits",
        found=f"{given} credits",
    )


def paid_by_nobody(run: Reconciliation) -> Iterator[Finding]:
    """Payments of people whose account was gone by then, who can use nothing of it, until the money has gone back."""
    back = MoneyBack.objects.filter(order=OuterRef("pk")).order_by().values("order")
    orders = credited(run).filter(
        user=None,
        transfers__kind=Transfer.Kind.PURCHASE,
        transfers__reason=fulfilment.PAID_BY_NOBODY,
        paid_cents__gt=Coalesce(Subquery(back.annotate(sum=Sum("cents")).values("sum")), 0),
    )
    for order in orders:
        price = money(order.paid_cents or 0, order.currency)
        yield Finding(
            kind=Kind.PAID_BY_NOBODY,
            stripe_id=order.stripe_payment_intent or order.stripe_session or order.stripe_invoice or "",
            order=order,
            says=f"{price} was paid by somebody who had deleted their account: refund it.",
            expected=f"{price} paid",
            found="nobody to credit",
        )


def credited_twice(run: Reconciliation) -> Iterator[Finding]:
    """Payments that more than one order was credited for."""
    paid = Order.objects.filter(state=Order.State.PAID).exclude(stripe_payment_intent="")
    lately = paid.filter(paid_at__gte=run.since, paid_at__lt=run.began_at).values("stripe_payment_intent")
    counted = paid.filter(stripe_payment_intent__in=lately).order_by().values("stripe_payment_intent")
    for row in counted.annotate(orders=Count("pk")).filter(orders__gt=1):
        payment = row["stripe_payment_intent"]
        yield Finding(
            kind=Kind.CREDITED_TWICE,
            stripe_id=payment,
            order=paid.filter(stripe_payment_intent=payment).latest("paid_at"),
            says=f"{row['orders']} orders were credited for the one payment {payment}.",
            expected="one order",
            found=f"{row['orders']} orders",
        )
