"""Refunds and disputes: money that goes back to who paid it."""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from billing.models import Order
from billing.stripe_gateway.client import ask, client, our_id

# A refund that failed or was canceled gave nothing back, and a dispute that was won took nothing, for good. A dispute
# that is only an inquiry takes nothing yet. All other states do, also those that Stripe may invent.
REFUND_IS_OFF = {"failed", "canceled"}
DISPUTE_IS_OFF = {"won", "prevented", "warning_closed"}
INQUIRY = {"warning_needs_response", "warning_under_review"}


@dataclass(frozen=True, slots=True)
class Reversal:
    """A refund or a dispute as it is at Stripe now; `amount` in the smallest unit of `currency`.

    `counts`: whether the money is, or is going, back; `is_off`: that it never will. `order_id` is the one we gave the
    payment, or empty. `reason` and `made_by` are ours, of a refund that was made in our admin.
    """

    id: str
    kind: str
    amount: int
    currency: str
    counts: bool
    payment_intent: str
    charge: str
    is_off: bool = False
    order_id: str = ""
    reason: str = ""
    made_by: str = ""

    @property
    def key(self) -> str:
        """Under which the ledger has its share."""
        return f"{self.kind}:{self.id}"


@dataclass(frozen=True, slots=True)
class Paid:
    """What was paid for an order, and how much of it can still be refunded."""

    amount: int
    refunded: int
    currency: str

    @property
    def left(self) -> int:
        return self.amount - self.refunded


def retrieve_refund(refund_id: str) -> Reversal:
    """The refund as Stripe has it now; PaymentUnavailable if it cannot be had."""
    params: Any = {"expand": ["charge"]}
    return refund_in(ask(lambda: client().v1.refunds.retrieve(refund_id, params)).to_dict())


def retrieve_dispute(dispute_id: str) -> Reversal:
    """The dispute as Stripe has it now; PaymentUnavailable if it cannot be had."""
    params: Any = {"expand": ["charge"]}
    return dispute_in(ask(lambda: client().v1.disputes.retrieve(dispute_id, params)).to_dict())


def refunds_of(charge_id: str) -> list[Reversal]:
    """Every refund of a charge."""
    params: Any = {"charge": charge_id, "limit": 100, "expand": ["data.charge"]}
    rows = ask(lambda: list(client().v1.refunds.list(params).auto_paging_iter()))
    return [refund_in(row.to_dict()) for row in rows]


def reversals_of(payment_intent: str) -> list[Reversal]:
    """Every refund of a payment, and then every dispute, oldest first."""
    params: Any = {"payment_intent": payment_intent, "limit": 100, "expand": ["data.charge"]}
    refunds = ask(lambda: list(client().v1.refunds.list(params).auto_paging_iter()))
    disputes = ask(lambda: list(client().v1.disputes.list(params).auto_paging_iter()))
    return [
        *(refund_in(row.to_dict()) for row in reversed(refunds)),
        *(dispute_in(row.to_dict()) for row in reversed(disputes)),
    ]


def refunds_since(at: datetime) -> Iterator[Reversal]:
    """Every refund that was begun since then."""
    params: Any = {"created": {"gte": int(at.timestamp())}, "limit": 100, "expand": ["data.charge"]}
    rows = ask(lambda: list(client().v1.refunds.list(params).auto_paging_iter()))
    return (refund_in(row.to_dict()) for row in rows)


def disputes_since(at: datetime) -> Iterator[Reversal]:
    """Every dispute that was begun since then."""
    params: Any = {"created": {"gte": int(at.timestamp())}, "limit": 100, "expand": ["data.charge"]}
    rows = ask(lambda: list(client().v1.disputes.list(params).auto_paging_iter()))
    return (dispute_in(row.to_dict()) for row in rows)


def paid_for(order: Order) -> Paid:
    """What Stripe has of an order's payment; PaymentUnavailable if it cannot be had."""
    params: Any = {"expand": ["latest_charge"]}
    found = ask(lambda: client().v1.payment_intents.retrieve(order.stripe_payment_intent, params)).to_dict()
    charge = found.get("latest_charge") or {}
    return Paid(
        amount=charge.get("amount") or 0,
        refunded=charge.get("amount_refunded") or 0,
        currency=found.get("currency") or "",
    )


def refund(order: Order, *, amount: int, reason: str, made_by: str, key: uuid.UUID) -> Reversal:
    """Give back so much of what was paid for an order. Asked twice with a `key`, it is one refund.

    RequestRefused if Stripe does not let it: more than is left, charged back by the bank, or the key made another.
    """
    params: Any = {
        "payment_intent": order.stripe_payment_intent,
        "amount": amount,
        "reason": "requested_by_customer",
        # Whoever books it first, this process or the webhook's, finds here who did it and why.
        "metadata": {"order": str(order.pk), "reason": reason, "made_by": made_by, "key": str(key)},
    }
    made = ask(lambda: client().v1.refunds.create(params, {"idempotency_key": f"refund:{key}"}))
    return refund_in(made.to_dict())


def refund_made_with(key: uuid.UUID, order: Order) -> Reversal | None:
    """What `refund` has made with a key before. Stripe itself remembers keys for a day."""
    params: Any = {"payment_intent": order.stripe_payment_intent, "limit": 100}
    rows = ask(lambda: list(client().v1.refunds.list(params).auto_paging_iter()))
    found = (row.to_dict() for row in rows)
    return next((refund_in(row) for row in found if (row.get("metadata") or {}).get("key") == str(key)), None)


def refund_in(found: dict[str, Any]) -> Reversal:
    """A refund from its object."""
    metadata = found.get("metadata") or {}
    return Reversal(
        kind="refund",
        counts=found.get("status") not in REFUND_IS_OFF,
        is_off=found.get("status") in REFUND_IS_OFF,
        reason=str(metadata.get("reason") or "")[:300],
        made_by=str(metadata.get("made_by") or "")[:254],
        **_common(found),
    )


def dispute_in(found: dict[str, Any]) -> Reversal:
    """A dispute from its object."""
    status = found.get("status")
    return Reversal(
        kind="dispute",
        counts=status not in DISPUTE_IS_OFF | INQUIRY,
        is_off=status in DISPUTE_IS_OFF,
        **_common(found),
    )


def _common(found: dict[str, Any]) -> dict[str, Any]:
    charge, payment = found.get("charge") or {}, found.get("payment_intent") or {}
    # Where a key may not read the one that we asked to have in full, Stripe leaves its id.
    charge = {"id": charge} if isinstance(charge, str) else charge
    payment = {"id": payment} if isinstance(payment, str) else payment
    return {
        "id": str(found["id"]),
        "amount": found.get("amount") or 0,
        "currency": found.get("currency") or "",
        "charge": charge.get("id") or "",
        "payment_intent": payment.get("id") or charge.get("payment_intent") or "",
        "order_id": our_id(charge.get("metadata"), "order") or our_id(found.get("metadata"), "order"),
    }
