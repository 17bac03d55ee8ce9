"""Events: which of the calls of the webhook are Stripe's own."""

import json
import re
import time
from dataclasses import dataclass
from typing import Any

import stripe
import structlog
from django.conf import settings

from billing.errors import EventRejected

log = structlog.get_logger(__name__)

LARGEST_EVENT_BYTES = 256 * 1024
SIGNATURE_TOLERANCE_SECONDS = 300
# Not the end of an escaped backslash that u0000 follows as text.
ESCAPED_NUL = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")


@dataclass(frozen=True, slots=True)
class Event:
    """A genuine event: signed by Stripe for us, recent, and of the API version that we understand."""

    id: str
    type: str
    object_id: str
    payload: dict[str, Any]


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
