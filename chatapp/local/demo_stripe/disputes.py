"""Disputes: a buyer asks the bank for the money back, and the bank takes it until it is decided."""

from chatapp.local.demo_stripe import money_objects
from chatapp.local.demo_stripe.objects import Json
from chatapp.local.demo_stripe.refusals import Refusal
from chatapp.local.demo_stripe.shop import Shop

# A warning is an inquiry: nothing is taken yet.
NEXT = {
    "warning_needs_response": {"warning_under_review", "warning_closed", "needs_response"},
    "warning_under_review": {"warning_closed", "needs_response"},
    "needs_response": {"under_review", "won", "lost"},
    "under_review": {"won", "lost"},
    "lost": {"won"},  # an appeal
}
CLOSED = {"won", "lost", "warning_closed"}
TAKEN = {"needs_response", "under_review", "lost"}


def start(shop: Shop, charge: Json, *, amount: int | None, status: str, reason: str) -> Json:
    amount = charge["amount"] if amount is None else amount
    if not 0 < amount <= charge["amount"]:
        raise Refusal(400, f"A dispute is about 1 to {charge['amount']}.", param="amount")
    if status not in {"needs_response", "warning_needs_response"}:
        raise Refusal(400, "A dispute begins with needs_response or warning_needs_response.", param="status")
    dispute = money_objects.dispute(charge=charge, amount=amount, status=status, reason=reason)
    shop.records.disputes[dispute["id"]] = dispute
    charge["disputed"] = True
    if status in TAKEN:
        _withdraw(dispute)
    shop.emit("charge.dispute.created", dispute)
    if status in TAKEN:
        shop.emit("charge.dispute.funds_withdrawn", dispute)
    return dispute


def move(shop: Shop, id: str, *, status: str) -> Json:
    """What became of a dispute: under review, won, lost; a warning closed, or turned into a real dispute."""
    dispute = shop.find("dispute", id)
    before = dispute["status"]
    if status not in NEXT.get(before, set()):
        raise Refusal(400, f"Dispute {id} is {before} and cannot become {status}.")
    dispute["status"] = status
    withdrawn, reinstated = status in TAKEN and before not in TAKEN, status == "won"
    if withdrawn:
        _withdraw(dispute)
    if reinstated:
        _reinstate(dispute)
    if status in CLOSED:
        dispute["evidence_details"]["due_by"] = None
        shop.emit("charge.dispute.closed", dispute, previous={"status": before})
    else:
        shop.emit("charge.dispute.updated", dispute, previous={"status": before})
    if withdrawn:
        shop.emit("charge.dispute.funds_withdrawn", dispute)
    if reinstated:
        shop.emit("charge.dispute.funds_reinstated", dispute)
    return dispute


def _withdraw(dispute: Json) -> None:
    dispute["is_charge_refundable"] = False
    dispute["balance_transactions"].append(money_objects.dispute_balance(dispute, -dispute["amount"]))


def _reinstate(dispute: Json) -> None:
    dispute["balance_transactions"].append(money_objects.dispute_balance(dispute, dispute["amount"]))
