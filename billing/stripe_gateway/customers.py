"""People as Stripe knows them, and the pages on which they look after their cards and invoices."""

import uuid
from typing import Any

from billing.stripe_gateway.client import ask, client


def create_customer(user_id: uuid.UUID, *, after: str = "") -> str:
    """Stripe's id of a new customer; the same for the same person, also after a lost answer.

    `after` is the one before, if Stripe has deleted it: for a day it would answer with that again. Nothing else is
    sent, so that asking again is the same question whatever has changed about the person meanwhile.
    """
    params: Any = {"metadata": {"user": str(user_id)}}
    key = f"customer:{user_id}:{after}" if after else f"customer:{user_id}"
    return ask(lambda: client().v1.customers.create(params, {"idempotency_key": key})).id


def update_email(customer_id: str, email: str) -> None:
    """Where receipts and invoices go from now on."""
    ask(lambda: client().v1.customers.update(customer_id, {"email": email}))


def open_portal(customer_id: str, *, return_url: str) -> str:
    """The URL of a customer's own pages at Stripe, which is good for a few minutes."""
    params: Any = {"customer": customer_id, "return_url": return_url}
    return ask(lambda: client().v1.billing_portal.sessions.create(params)).url


def owner_of(payment_method_id: str) -> str:
    """The customer that Stripe keeps a card for, or empty."""
    found = ask(lambda: client().v1.payment_methods.retrieve(payment_method_id)).to_dict()
    return found.get("customer") or ""
