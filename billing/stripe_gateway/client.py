"""How the API is asked, and what its refusals mean here."""

import uuid
from collections.abc import Callable
from functools import lru_cache
from http import HTTPStatus
from typing import Any, TypeVar

import stripe
import structlog
from django.conf import settings
from django.db import connection

from billing.errors import (
    CustomerForgotten,
    NotThere,
    PaymentRefused,
    PaymentUnavailable,
    PermissionRefused,
    RequestRefused,
)

log = structlog.get_logger(__name__)

T = TypeVar("T")

REFUSALS: dict[int | None, type[RequestRefused]] = {
    HTTPStatus.FORBIDDEN: PermissionRefused,
    HTTPStatus.NOT_FOUND: NotThere,
}

# A person waits for the answer: connect and read, for each of the attempts.
TIMEOUT_SECONDS = (3.0, 8.0)
RETRIES = 3


def client() -> stripe.StripeClient:
    """The account that the settings name; PaymentUnavailable if they name none."""
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


def ask(call: Callable[[], T]) -> T:
    """Make one call of the API. Errors have a sentence for the person.

    PaymentRefused: a bank said no. RequestRefused: Stripe did, and would again; PermissionRefused: because our key may
    not ask for it; NotThere: because it has no such thing; CustomerForgotten: because it has deleted the customer.
    Otherwise PaymentUnavailable: what was asked for may have been done all the same.
    """
    # It may take half a minute: meanwhile somebody else can use this thread's database connection.
    if not connection.in_atomic_block:
        connection.close()
    try:
        return call()
    except stripe.CardError as error:
        log.info("payment refused", code=error.code, stripe_request=error.request_id)
        raise PaymentRefused(reason=error.code or "card_declined", payment=_payment_in(error)) from error
    except stripe.StripeError as error:
        # What is not there is an answer like another: who asked says what it means.
        write = log.info if error.http_status == HTTPStatus.NOT_FOUND else log.error
        write(
            "stripe call failed",
            error=type(error).__name__,
            status=error.http_status,
            code=error.code,
            stripe_request=error.request_id,
        )
        away = isinstance(error, stripe.APIConnectionError | stripe.APIError | stripe.RateLimitError)
        # A conflict: somebody else is asking for the same at this moment.
        if away or error.http_status == HTTPStatus.CONFLICT:
            raise PaymentUnavailable(
                "Stripe, which takes the payments, cannot be reached now. Nothing was charged; try again soon."
            ) from error
        refused = REFUSALS.get(error.http_status, RequestRefused)
        refused = CustomerForgotten if _is_of_customer(error) else refused
        raise refused(
            "Stripe, which takes the payments, did not accept this. Nothing was charged."
        ) from error


def our_id(metadata: object, kind: str) -> str:
    """The UUID that we put into an object's metadata as its `kind`; empty if we did not, whoever else did."""
    named = metadata.get(kind) if isinstance(metadata, dict) else None
    try:
        return str(uuid.UUID(named)) if isinstance(named, str) else ""
    except ValueError:
        return ""


def _is_of_customer(error: stripe.StripeError) -> bool:
    """Whether what Stripe does not have is the customer that we named."""
    return error.code == "resource_missing" and "No such customer" in str(error.user_message)


def _payment_in(error: stripe.CardError) -> str:
    """The id of the payment that was refused, or empty."""
    body: dict[str, Any] = error.json_body if isinstance(error.json_body, dict) else {}
    payment = (body.get("error") or {}).get("payment_intent") or {}
    return str(payment.get("id") or "")
