"""Each payment, refund and dispute at Stripe looked for in our books, and each credit of ours at Stripe.

What an event would have done, had it come, is done in the same repeat-safe way. The rest is for a person to look into.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog
from django.db import IntegrityError, transaction
from django.db.models import Count, QuerySet

from billing import fulfilment, ledger, reversals, subscriptions, topups
from billing.credits import as_string
from billing.errors import KeyReused, NotYetPaid, RequestRefused, WrongCurrency
from billing.models import (
    Account,
    Customer,
    Discrepancy,
    Order,
    PlanCheckout,
    Reconciliation,
    Subscription,
    Transfer,
)
from billing.stripe_gateway import Session, lists
from billing.stripe_gateway.lists import PaidInvoice
from billing.stripe_gateway.payments import Payment, retrieve_payment
from billing.stripe_gateway.reversals import Reversal, disputes_since, refunds_since
from billing.templatetags.credits import money

log = structlog.get_logger(__name__)

Kind = Discrepancy.Kind

# How long before it is paid, or decided, something may have been begun.
SESSION_TAKES = timedelta(days=1)
BANK_TAKES = INVOICE_TAKES = REFUND_TAKES = timedelta(days=30)
DISPUTE_TAKES = timedelta(days=120)


@dataclass(frozen=True, slots=True)
class Finding:
    """Something on which the books differ; `expected` as Stripe has it, `found` as we had it."""

    kind: Discrepancy.Kind
    stripe_id: str
    order: Order | None
    says: str
    expected: str
    found: str
    mended: bool = False


@dataclass(frozen=True, slots=True)
class Theirs:
    """What Stripe has of the time that is compared."""

    sessions: list[Session]
    payments: list[Payment]
    invoices: list[PaidInvoice]
    reversals: list[Reversal]
    ids: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        for rows in (self.sessions, self.payments, self.invoices, self.reversals):
            self.ids.update(row.id for row in rows)


def ask(since: datetime) -> Theirs:
    """Everything that Stripe has of it; PaymentUnavailable if Stripe is away."""
    return Theirs(
        sessions=lists.paid_sessions(since - SESSION_TAKES),
        payments=lists.paid_payments(since - SESSION_TAKES),
        invoices=lists.paid_invoices(since - INVOICE_TAKES),
        reversals=[*refunds_since(since - REFUND_TAKES), *disputes_since(since - DISPUTE_TAKES)],
    )


def findings(run: Reconciliation, theirs: Theirs) -> Iterator[Finding]:
    """Everything on which the books differ. What can be mended has been when it comes out."""
    for session in theirs.sessions:
        yield from _of_session(session)
    through_sessions = {session.payment_intent for session in theirs.sessions}
    for payment in theirs.payments:
        if payment.id not in through_sessions:
            yield from _of_payment(payment)
    for invoice in theirs.invoices:
        yield from _of_invoice(invoice)
    for order in _waiting(run):
        yield from _of_waiting(order)
    for order in credited(run):
        yield from _of_credit(order, theirs)
    yield from _credited_twice(run)
    for reversal in theirs.reversals:
        yield from _of_reversal(reversal)
    for transfer in _taken_back(run):
        yield from _of_transfer(transfer, theirs)


def _try(mend: Callable[[], object]) -> None:
    """Do what an event would have done. What it cannot do stays as it is; PaymentUnavailable if Stripe is away."""
    try:
        mend()
    except (RequestRefused, NotYetPaid, WrongCurrency, KeyReused, IntegrityError) as error:
        log.warning("could not be mended", error=f"{type(error).__name__}: {error}")


# --- Paid at Stripe: is it credited here? ----------------------------------------------------------------


def _of_session(session: Session) -> Iterator[Finding]:
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
        yield from _amounts(session.id, order, session.amount_total, session.currency, asked=asked)


def _of_payment(payment: Payment) -> Iterator[Finding]:
    order = Order.objects.filter(pk=payment.order_id).first()
    if order is None:
        yield _of_no_order(payment.id, payment.order_id, payment.amount_received, payment.currency)
    elif order.state == Order.State.PAID and order.stripe_payment_intent not in {"", payment.id}:
        yield _paid_again(payment.id, order, payment.amount_received, payment.currency)
    elif order.source == Order.Source.AUTO_TOPUP:
        if order.state == Order.State.PAID:
            yield from _amounts(payment.id, order, payment.amount_received, payment.currency)
        else:
            yield _mended_by(lambda: _settle(payment.id), payment.id, order)


def _of_invoice(invoice: PaidInvoice) -> Iterator[Finding]:
    order = Order.objects.filter(stripe_invoice=invoice.id).first()
    if order is not None:
        yield from _amounts(invoice.id, order, invoice.amount_paid, invoice.currency)
        return
    if not _is_ours(invoice):
        return
    _try(lambda: _credit(invoice.id))
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


def _waiting(run: Reconciliation) -> QuerySet[Order]:
    """Orders begun before the time that Stripe was asked for, which may have been paid in it."""
    return Order.objects.filter(
        state__in=[Order.State.OPEN, Order.State.PENDING],
        created_at__lt=run.since,
        created_at__gte=run.since - BANK_TAKES,
    )


def _of_waiting(order: Order) -> Iterator[Finding]:
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
    _try(mend)
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


def _amounts(
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


# --- Credited here: is it paid at Stripe? ----------------------------------------------------------------


def credited(run: Reconciliation) -> QuerySet[Order]:
    """What was paid in the time that is compared, as our books have it."""
    return Order.objects.filter(state=Order.State.PAID, paid_at__gte=run.since, paid_at__lt=run.began_at)


def _of_credit(order: Order, theirs: Theirs) -> Iterator[Finding]:
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
            yield from _amounts(invoice.id, order, invoice.amount_paid, invoice.currency)


def _of_checkout(order: Order, theirs: Theirs) -> Iterator[Finding]:
    if order.stripe_session in theirs.ids:
        return
    session = lists.session_or_none(order.stripe_session) if order.stripe_session else None
    if session is None or not session.is_paid:
        yield _not_paid(order, order.stripe_session or "")
    else:
        yield from _of_session(session)


def _of_topup(order: Order, theirs: Theirs) -> Iterator[Finding]:
    if order.stripe_payment_intent in theirs.ids:
        return
    payment = lists.payment_or_none(order.stripe_payment_intent) if order.stripe_payment_intent else None
    if payment is None or not payment.is_paid:
        yield _not_paid(order, order.stripe_payment_intent)
    else:
        yield from _amounts(payment.id, order, payment.amount_received, payment.currency)


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


def _credited_twice(run: Reconciliation) -> Iterator[Finding]:
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


# --- Money that went back --------------------------------------------------------------------------------


def _of_reversal(reversal: Reversal) -> Iterator[Finding]:
    key = reversal.key
    order = reversals.order_of(reversal)
    before, took_too_much = _told_by(key), order is not None and _left(order) < 0
    if before != _wanted(reversal, before) or took_too_much:
        _try(lambda: _reverse(reversal))
    after = _told_by(key)
    order = order or reversals.order_of(reversal)
    if order is None:
        return
    wanted = _wanted(reversal, after)
    if after == "nothing" and wanted == "taken" and _is_gone(reversals.share(reversal.amount, order), order):
        return  # nothing was left to take
    if took_too_much:
        yield Finding(
            kind=Kind.AMOUNT,
            stripe_id=reversal.id,
            order=order,
            says=f"Credits of {reversal.kind} {reversal.id} were taken that had expired before.",
            expected="no more than was left",
            found="more than was left",
            mended=_left(order) >= 0,
        )
    elif before != after or after != wanted:
        yield Finding(
            kind=Kind.NOT_REVERSED,
            stripe_id=reversal.id,
            order=order,
            says=f"{_name(reversal)} of {money(reversal.amount, reversal.currency)} was not booked.",
            expected=f"credits {wanted}",
            found=f"credits {before}",
            mended=after == wanted,
        )
    elif after == "taken":
        yield from _share(reversal, order)


def _name(reversal: Reversal) -> str:
    return f"{reversal.kind.title()} {reversal.id}"


def _told_by(key: str) -> str:
    """What our books have of a refund or a dispute."""
    booked = set(Transfer.objects.filter(key__in=[key, f"{key}:returned"]).values_list("key", flat=True))
    return {0: "nothing", 1: "taken", 2: "returned"}[len(booked)]


def _wanted(reversal: Reversal, booked: str) -> str:
    """What our books should have of it: a refund that failed at once was never taken, and need not be."""
    if reversal.counts:
        return "taken"
    return "nothing" if booked == "nothing" else "returned"


def _reverse(reversal: Reversal) -> None:
    ask = reversals.ask_of_refund if reversal.kind == "refund" else reversals.ask_of_dispute
    news = ask(reversal.id)
    with transaction.atomic():
        reversals.apply(news)


def _left(order: Order) -> int:
    """Microcredits of an order's purchase that neither went back nor expired; all of them if it was never booked."""
    wallet = ledger.wallet_credited_with(order)
    return reversals.left_of(order, wallet) if wallet else order.credits_microcredits


def _is_gone(missing: int, order: Order) -> bool:
    """Whether what a refund or dispute has not taken is not there to be taken, or left the wallet by expiring."""
    return _left(order) <= 0 or missing <= reversals.expired_of(order)


def _share(reversal: Reversal, order: Order) -> Iterator[Finding]:
    """What was taken against what the money had bought."""
    taken = reversals.taken_by(reversal, order)
    due = reversals.share(reversal.amount, order)
    # What makes the money whole takes what is left: with what rounding had left to it, or less after a dispute.
    if abs(taken - due) <= (order.paid_cents or 0) or (taken < due and _is_gone(due - taken, order)):
        return
    yield Finding(
        kind=Kind.AMOUNT,
        stripe_id=reversal.id,
        order=order,
        says=f"{_name(reversal)} is of {as_string(due)} credits, and {as_string(taken)} were taken.",
        expected=f"{as_string(due)} credits",
        found=f"{as_string(taken)} credits",
    )


def _taken_back(run: Reconciliation) -> QuerySet[Transfer]:
    """What was taken back in the time that is compared, as our books have it."""
    return Transfer.objects.filter(
        kind__in=[Transfer.Kind.REFUND, Transfer.Kind.DISPUTE],
        credit=ledger.house(Account.Kind.STRIPE),
        created_at__gte=run.since,
        created_at__lt=run.began_at,
    ).select_related("order")


def _of_transfer(transfer: Transfer, theirs: Theirs) -> Iterator[Finding]:
    kind, stripe_id, *_ = f"{transfer.key}:".split(":")
    if stripe_id in theirs.ids:
        return
    reversal = lists.reversal_or_none(kind, stripe_id)
    if reversal is not None:
        yield from _of_reversal(reversal)
        return
    yield Finding(
        kind=Kind.REVERSED,
        stripe_id=stripe_id,
        order=transfer.order,
        says=f"Credits were taken back for {kind} {stripe_id}, which Stripe does not know.",
        expected=f"no {kind}",
        found=f"{as_string(transfer.amount)} credits taken",
    )
