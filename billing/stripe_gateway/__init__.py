"""Stripe, and the only modules that import its SDK.

What comes out are small frozen dataclasses of ours and errors of ours: nothing above knows the SDK's objects or
exceptions. Amounts are in the currency's smallest unit, as Stripe has them. Each function is one call of the API, and
every call that makes something carries an idempotency key: asking again after a lost answer makes nothing twice.
"""

from billing.stripe_gateway.checkout import Session, create_checkout, retrieve_session
from billing.stripe_gateway.events import LARGEST_EVENT_BYTES, Event, construct_event

__all__ = [
    "LARGEST_EVENT_BYTES",
    "Event",
    "Session",
    "construct_event",
    "create_checkout",
    "retrieve_session",
]
