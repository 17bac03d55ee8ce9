"""Payment intents, and the charges that they become."""

from typing import Any

from chatapp.local.demo_stripe import money_objects, objects
from chatapp.local.demo_stripe.objects import Json
from chatapp.local.demo_stripe.refusals import Refusal
from chatapp.local.demo_stripe.shop import Shop

DECLINED = {
    "card_declined": "Your card was declined.",
    "expired_card": "Your card has expired.",
    "authentication_required": "Your card was declined. This transaction requires authentication.",
}


def open_intent(shop: Shop, **facts: Any) -> Json:
    """A payment that nobody has paid yet."""
    intent = objects.payment_intent(**facts)
    shop.records.payment_intents[intent["id"]] = intent
    shop.emit("payment_intent.created", intent)
    return intent


def receive(shop: Shop, intent: Json) -> Json:
    """The money is there. Whoever calls tells of it, once what it paid for says so too."""
    charge = money_objects.charge(intent=intent, public_url=shop.public_url)
    shop.records.charges[charge["id"]] = charge
    intent.update(
        status="succeeded",
        amount_received=intent["amount"],
        latest_charge=charge["id"],
        last_payment_error=None,
        next_action=None,
    )
    return charge


def decline(shop: Shop, intent: Json, code: str = "card_declined") -> str:
    """The card is refused. Returns what the person is told."""
    told = DECLINED[code]
    reason = "generic_decline" if code == "card_declined" else code
    intent["status"] = "requires_payment_method"
    intent["last_payment_error"] = objects.payment_error(code, reason, told)
    shop.emit("payment_intent.payment_failed", intent)
    return told


def charge_off_session(shop: Shop, intent: Json) -> None:
    """Take the money while the buyer is away; Refusal (402, with the payment in it) if the card is refused.

    As with Stripe, the saved payment method stays with the customer and leaves a payment that it was refused for.
    """
    if shop.off_session == "succeeded":
        receive(shop, intent)
        shop.emit("payment_intent.succeeded", intent)
        return
    code, method = shop.off_session, intent["payment_method"]
    intent["payment_method"] = None
    told = decline(shop, intent, code)
    raise Refusal(
        402,
        told,
        type="card_error",
        code=code,
        about={
            "decline_code": intent["last_payment_error"]["decline_code"],
            "payment_intent": dict(intent),
            "payment_method": dict(shop.find("payment_method", method)),
        },
    )


def cancel(shop: Shop, intent: Json, reason: str | None) -> Json:
    if intent["status"] in {"succeeded", "canceled", "processing"}:
        raise Refusal(
            400,
            f"You cannot cancel this PaymentIntent because it has a status of {intent['status']}.",
            code="payment_intent_unexpected_state",
        )
    intent.update(status="canceled", canceled_at=objects.now(), cancellation_reason=reason)
    shop.emit("payment_intent.canceled", intent)
    return intent


def charge_of(shop: Shop, intent: Json) -> Json:
    """The charge that a payment has become; Refusal if it has not."""
    if intent["latest_charge"] is None:
        raise Refusal(
            400, f"This PaymentIntent ({intent['id']}) does not have a successful charge to refund."
        )
    return shop.find("charge", intent["latest_charge"])
