"""Stripe, and the only module that imports its SDK.

What comes out are small frozen dataclasses of ours and two errors of ours: nothing above knows the SDK's
objects or exceptions. Amounts are in the currency's smallest unit, as Stripe has them.
"""

import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

import stripe
import structlog
from django.conf import settings
from django.db import connection

from billing.credits import to_credits
from billing.errors import EventRejected, PaymentUnavailable
from billing.models import Order

log = structlog.get_logger(__name__)

T = TypeVar("T")

# A person waits for the answer: connect and read, for each of the attempts.
TIMEOUT_SECONDS = (3.0, 8.0)
RETRIES = 3

# Stripe's shortest is 30 minutes. Short enough that a price that has changed is not sold for a day.
CHECKOUT_SECONDS = 60 * 60

LARGEST_EVENT_BYTES = 256 * 1024
SIGNATURE_TOLERANCE_SECONDS = 300
# Not the end of an escaped backslash that u0000 follows as text.
ESCAPED_NUL = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")


@dataclass(frozen=True, slots=True)
class Session:
    """A Checkout session as it is at Stripe now.

    `status` is open, complete or expired; `payment_status` is paid, unpaid or no_payment_required. `order_id`
    is the one that we gave it, or empty: a session that we did not open, as of a Payment Link, has none.
    """

    id: str
    status: str
    payment_status: str
    order_id: str
    payment_intent: str
    amount_total: int
    currency: str

    @property
    def is_paid(self) -> bool:
        # A promotion code can take the whole price away: then nothing is owed and the goods are still due.
        return self.payment_status in {"paid", "no_payment_required"}


@dataclass(frozen=True, slots=True)
class Event:
    """A genuine event: signed by Stripe for us, recent, and of the API version that we understand."""

    id: str
    type: str
    object_id: str
    payload: dict[str, Any]


def create_checkout(order: Order, *, email: str, success_url: str, cancel_url: str) -> tuple[str, str]:
    """Open a hosted payment page for a stored order: (session id, its URL). PaymentUnavailable if that fails.

    Asking again for the same order, at once or after a lost answer, gives the same session. `success_url` is
    sent with `{CHECKOUT_SESSION_ID}` in it, which Stripe fills in.
    """
    order_id = str(order.id)
    params: Any = {
        "mode": "payment",
        "client_reference_id": order_id,
        "customer_email": email,
        "metadata": {"order": order_id},
        # Refunds and disputes are told of payments, not of sessions: this leads them back to the order.
        "payment_intent_data": {"metadata": {"order": order_id}},
        "invoice_creation": {"enabled": True},
        "line_items": [
            {
                "quantity": 1,
                "price_data": {
                    "currency": order.currency,
                    "unit_amount": order.amount_cents,
                    "product_data": {
                        "name": f"{to_credits(order.credits_microcredits).normalize():,f} credits"
                    },
                },
            }
        ],
        "success_url": success_url,
        "cancel_url": cancel_url,
        "expires_at": int(order.created_at.timestamp()) + CHECKOUT_SECONDS,
    }
    made = _ask(
        lambda: _client().v1.checkout.sessions.create(params, {"idempotency_key": f"checkout:{order_id}"})
    )
    if not made.url:
        raise PaymentUnavailable("This checkout is over. Choose the pack once more.")
    return made.id, made.url


def retrieve_session(session_id: str) -> Session:
    """The session as Stripe has it now; PaymentUnavailable if it cannot be had."""
    if not session_id:
        raise PaymentUnavailable("Stripe did not say which checkout this is.")
    found = _ask(lambda: _client().v1.checkout.sessions.retrieve(session_id)).to_dict()
    if found.get("id") != session_id:
        raise PaymentUnavailable("Stripe answered with another checkout than was asked for.")
    return Session(
        id=session_id,
        status=found.get("status") or "",
        payment_status=found.get("payment_status") or "",
        order_id=_order_id(found),
        payment_intent=found.get("payment_intent") or "",
        amount_total=found.get("amount_total") or 0,
        currency=found.get("currency") or "",
    )


def _order_id(session: dict[str, Any]) -> str:
    # Whoever follows a Payment Link can set its client_reference_id in the URL, and so name an order while
    # paying for something cheaper. Metadata only we can set.
    named = (session.get("metadata") or {}).get("order") or ""
    return named if named == session.get("client_reference_id") else ""


def construct_event(payload: bytes, signature: str) -> Event:
    """The event that a webhook call brings, or EventRejected with the reason: then nothing of it is believed.

    The SDK checks the signature and that it is not old. Ours to check: an empty secret, a timestamp from the
    future, a body that is no text, and the API version, whose fields are the ones we read.
    """
    secret = settings.STRIPE_WEBHOOK_SECRET
    if not secret:
        raise EventRejected("STRIPE_WEBHOOK_SECRET is not set: no event can be verified.")
    if len(payload) > LARGEST_EVENT_BYTES:
        raise EventRejected("The body is larger than any event.")
    try:
        stripe.WebhookSignature.verify_header(payload, signature, secret, SIGNATURE_TOLERANCE_SECONDS)
    except stripe.SignatureVerificationError as error:
        raise EventRejected(str(error.user_message or "The signature is not valid.")) from error
    except UnicodeDecodeError as error:
        raise EventRejected("The body is not UTF-8.") from error
    except TypeError as error:  # hmac compares only ASCII
        raise EventRejected("The signature is not ASCII.") from error
    if _signed_at(signature) > time.time() + SIGNATURE_TOLERANCE_SECONDS:
        raise EventRejected("The timestamp is in the future.")
    return _event(payload)


def _signed_at(signature: str) -> int:
    """The timestamp of a header that has been verified."""
    parts = (part.partition("=") for part in signature.split(","))
    return next(int(value) for name, _, value in parts if name == "t")


def _event(payload: bytes) -> Event:
    try:
        # The event is kept as jsonb, which has no NUL; what a person typed at Stripe must not lose a payment.
        found = json.loads(ESCAPED_NUL.sub("\\1\N{REPLACEMENT CHARACTER}", payload.decode()))
        # It has no NaN and no lone surrogates either: JSON with those is not Stripe's.
        json.dumps(found, ensure_ascii=False, allow_nan=False).encode()
        kind, version = found["object"], found["api_version"]
        event_id, event_type = str(found["id"]), str(found["type"])
        about = found["data"]["object"]
        object_id = str(about.get("id") or "")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise EventRejected("The body is not an event.") from error
    if kind != "event" or not 0 < len(event_id) <= 255 or not 0 < len(event_type) <= 100:
        raise EventRejected("The body is not an event.")
    if version != stripe.api_version:
        log.error("stripe event of another API version", event_id=event_id, version=str(version)[:40])
        raise EventRejected(
            f"The event has API version {str(version)[:40]} and this site understands {stripe.api_version}: "
            "set that on the endpoint in Stripe's dashboard."
        )
    return Event(id=event_id, type=event_type, object_id=object_id, payload=found)


def _client() -> stripe.StripeClient:
    if not settings.STRIPE_SECRET_KEY:
        raise PaymentUnavailable("Buying credits is switched off on this site.")
    return _client_for(settings.STRIPE_SECRET_KEY, settings.STRIPE_API_BASE, TIMEOUT_SECONDS)


@lru_cache(maxsize=4)
def _client_for(key: str, base: str, timeout: tuple[float, float]) -> stripe.StripeClient:
    return stripe.StripeClient(
        key,
        base_addresses={"api": base},
        max_network_retries=RETRIES,
        http_client=stripe.RequestsClient(timeout=timeout),
    )


def _ask(call: Callable[[], T]) -> T:
    """Make one call of the API; whatever goes wrong is PaymentUnavailable, with a sentence for the person."""
    # It may take half a minute: meanwhile somebody else can use this thread's database connection.
    if not connection.in_atomic_block:
        connection.close()
    try:
        return call()
    except stripe.StripeError as error:
        log.error(
            "stripe call failed",
            error=type(error).__name__,
            status=error.http_status,
            code=error.code,
            stripe_request=error.request_id,
        )
        away = isinstance(error, stripe.APIConnectionError | stripe.APIError | stripe.RateLimitError)
        raise PaymentUnavailable(
            "Stripe, which takes the payments, cannot be reached now. Nothing was charged; try again soon."
            if away
            else "Stripe, which takes the payments, did not accept this. Nothing was charged."
        ) from error
