"""Refunds: from the API and from the dashboard, at once or after days, and those that the bank sends back."""

from chatapp.local.demo_stripe import money_objects
from chatapp.local.demo_stripe.objects import Json, now
from chatapp.local.demo_stripe.refusals import Refusal, invalid
from chatapp.local.demo_stripe.shop import Shop

STATUSES = ("succeeded", "pending", "failed", "canceled")
REASONS = ("duplicate", "fraudulent", "requested_by_customer")


def create(
    shop: Shop,
    charge: Json,
    *,
    amount: int | None,
    reason: str | None,
    metadata: dict[str, str],
    status: str | None = None,
) -> Json:
    """Give money back: all that is left unless `amount` says less. A card's comes out as told by `/demo/refunds`,
    a bank's is pending until the bank answers."""
    left = charge["amount"] - charge["amount_refunded"]
    if left == 0:
        raise Refusal(
            400, f"Charge {charge['id']} has already been refunded.", code="charge_already_refunded"
        )
    if _is_charged_back(shop, charge):
        raise Refusal(
            400,
            f"Charge {charge['id']} has been charged back; cannot issue a refund.",
            code="charge_disputed",
        )
    amount = left if amount is None else amount
    if amount < 1:
        raise Refusal(400, "Invalid positive integer", code="parameter_invalid_integer", param="amount")
    if amount > left:
        # Stripe gives this one no code.
        raise Refusal(
            400,
            f"Refund amount (${amount / 100:.2f}) is greater than unrefunded amount on charge "
            f"(${left / 100:.2f})",
            param="amount",
        )
    if reason is not None and reason not in REASONS:
        raise invalid("reason", f"Invalid reason: must be one of {', '.join(REASONS)}")
    by_card = charge["payment_method_details"]["type"] == "card"
    status = status or (shop.refund_status if by_card else "pending")
    if status not in STATUSES:
        raise invalid("status", f"status must be one of {', '.join(STATUSES)}")
    at_first = "succeeded" if status == "succeeded" else "pending"
    refund = money_objects.refund(
        charge=charge, amount=amount, status=at_first, reason=reason, metadata=metadata
    )
    shop.records.refunds[refund["id"]] = refund
    _count(shop, charge)
    if not by_card and status == "pending":
        shop.at(now() + shop.bank_seconds, _arrive_when_due, refund["id"])
    shop.emit("refund.created", refund)
    shop.emit("charge.refunded", charge)
    if status != at_first:
        settle(shop, refund["id"], status=status)
    return refund


def settle(shop: Shop, id: str, *, status: str, failure_reason: str | None = None) -> Json:
    """What became of a refund. One that had succeeded can still fail: the bank sent the money back."""
    refund = shop.find("refund", id)
    before = refund["status"]
    ends = {"pending": {"succeeded", "failed", "canceled"}, "succeeded": {"failed"}}
    if status not in ends.get(before, set()):
        raise Refusal(400, f"Refund {id} is {before} and cannot become {status}.")
    refund.update(status=status, pending_reason=None)
    if status == "failed":
        refund["failure_reason"] = failure_reason or "expired_or_canceled_card"
    _count(shop, shop.find("charge", refund["charge"]))
    shop.emit("refund.updated", refund, previous={"status": before})
    if status == "failed":
        shop.emit("refund.failed", refund)
    return refund


def go_on(shop: Shop) -> None:
    """A bank answers a refund that a run before this one asked for."""
    for refund in shop.records.refunds.values():
        charge = shop.records.charges.get(refund["charge"])
        if refund["status"] == "pending" and charge and charge["payment_method_details"]["type"] != "card":
            shop.at(refund["created"] + shop.bank_seconds, _arrive_when_due, refund["id"])


def _arrive_when_due(shop: Shop, id: str) -> None:
    refund = shop.records.refunds.get(id)
    if refund and refund["status"] == "pending":
        settle(shop, id, status="succeeded")


def _count(shop: Shop, charge: Json) -> None:
    """A refund counts from when it is asked for, and no more once it failed or was canceled."""
    refunded = sum(
        refund["amount"]
        for refund in shop.records.refunds.values()
        if refund["charge"] == charge["id"] and refund["status"] in {"succeeded", "pending"}
    )
    charge.update(amount_refunded=refunded, refunded=refunded == charge["amount"])


def _is_charged_back(shop: Shop, charge: Json) -> bool:
    return any(
        dispute["charge"] == charge["id"] and not dispute["is_charge_refundable"]
        for dispute in shop.records.disputes.values()
    )
