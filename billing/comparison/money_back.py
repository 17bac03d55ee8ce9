"""Money that went back: were its credits taken, and is there a refund or dispute for each taking?"""

from collections.abc import Iterator

from django.db import transaction
from django.db.models import QuerySet

from billing import ledger, reversals
from billing.comparison.finding import Finding, Kind, attempt
from billing.comparison.theirs import Theirs
from billing.credits import as_string
from billing.models import Account, Order, Reconciliation, Transfer
from billing.stripe_gateway import lists
from billing.stripe_gateway.reversals import Reversal
from billing.templatetags.credits import money


def of_reversal(reversal: Reversal) -> Iterator[Finding]:
    """A refund or dispute at Stripe, against what was taken for it or given back; booked now if it was not."""
    key = reversal.key
    order = reversals.order_of(reversal)
    before, took_too_much = _told_by(key), order is not None and _left(order) < 0
    if before != _wanted(reversal, before) or took_too_much:
        attempt(lambda: _reverse(reversal))
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


def taken_back(run: Reconciliation) -> QuerySet[Transfer]:
    """What was taken back in the time that is compared, as our books have it."""
    return Transfer.objects.filter(
        kind__in=[Transfer.Kind.REFUND, Transfer.Kind.DISPUTE],
        credit=ledger.house(Account.Kind.STRIPE),
        created_at__gte=run.since,
        created_at__lt=run.began_at,
    ).select_related("order")


def of_transfer(transfer: Transfer, theirs: Theirs) -> Iterator[Finding]:
    """Credits that were taken back here: the refund or dispute is there at Stripe."""
    kind, stripe_id, *_ = f"{transfer.key}:".split(":")
    if stripe_id in theirs.ids:
        return
    reversal = lists.reversal_or_none(kind, stripe_id)
    if reversal is not None:
        yield from of_reversal(reversal)
        return
    yield Finding(
        kind=Kind.REVERSED,
        stripe_id=stripe_id,
        order=transfer.order,
        says=f"Credits were taken back for {kind} {stripe_id}, which Stripe does not know.",
        expected=f"no {kind}",
        found=f"{as_string(transfer.amount)} credits taken",
    )
