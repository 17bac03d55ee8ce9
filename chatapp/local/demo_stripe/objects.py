"""Stripe's objects, as JSON, with the fields of the API version that the SDK pins."""

import secrets
import string
import time
from typing import Any

API_VERSION = "2026-10-28.endive"
ALPHABET = string.ascii_letters + string.digits

Json = dict[str, Any]


def new_id(prefix: str, length: int = 24) -> str:
    return prefix + "".join(secrets.choice(ALPHABET) for _ in range(length))


def now() -> int:
    return int(time.time())


def customer(*, email: str | None, name: str | None, metadata: dict[str, str]) -> Json:
    return {
        "id": new_id("cus_", 14),
        "object": "customer",
        "address": None,
        "balance": 0,
        "created": now(),
        "currency": None,
        "default_source": None,
        "delinquent": False,
        "description": None,
        "email": email,
        "invoice_prefix": new_id("", 8).upper(),
        "invoice_settings": {
            "custom_fields": None,
            "default_payment_method": None,
            "footer": None,
            "rendering_options": None,
        },
        "livemode": False,
        "metadata": metadata,
        "name": name,
        "phone": None,
        "preferred_locales": [],
        "shipping": None,
        "tax_exempt": "none",
    }


def checkout_session(
    *,
    id: str,
    url: str,
    mode: str,
    amount: int,
    currency: str,
    success_url: str,
    cancel_url: str | None,
    client_reference_id: str | None,
    customer: str | None,
    customer_email: str | None,
    expires_at: int,
    invoice: bool,
    customer_creation: str,
    allow_promotion_codes: bool,
    metadata: dict[str, str],
) -> Json:
    return {
        "id": id,
        "object": "checkout.session",
        "adaptive_pricing": {"enabled": False},
        "after_expiration": None,
        "allow_promotion_codes": allow_promotion_codes or None,
        "amount_subtotal": amount,
        "amount_total": amount,
        "automatic_tax": {"enabled": False, "liability": None, "provider": None, "status": None},
        "billing_address_collection": None,
        "cancel_url": cancel_url,
        "client_reference_id": client_reference_id,
        "client_secret": None,
        "consent": None,
        "created": now(),
        "currency": currency,
        "custom_fields": [],
        "customer": customer,
        "customer_creation": customer_creation if mode == "payment" and not customer else None,
        "customer_details": None,
        "customer_email": customer_email,
        "discounts": [],
        "expires_at": expires_at,
        "invoice": None,
        "invoice_creation": (
            {"enabled": invoice, "invoice_data": {"metadata": {}}} if mode == "payment" else None
        ),
        "livemode": False,
        "locale": None,
        "metadata": metadata,
        "mode": mode,
        "payment_intent": None,
        "payment_link": None,
        "payment_method_collection": "if_required",
        "payment_method_types": ["card", "us_bank_account"] if mode == "payment" else ["card"],
        "payment_status": "unpaid",
        "recovered_from": None,
        "shipping_options": [],
        "status": "open",
        "submit_type": None,
        "subscription": None,
        "success_url": success_url,
        "total_details": {"amount_discount": 0, "amount_shipping": 0, "amount_tax": 0},
        "ui_mode": "hosted_page",
        "url": url,
    }


def line_item(*, name: str, price: Json, quantity: int) -> Json:
    amount = price["unit_amount"] * quantity
    return {
        "id": new_id("li_"),
        "object": "item",
        "amount_discount": 0,
        "amount_subtotal": amount,
        "amount_tax": 0,
        "amount_total": amount,
        "currency": price["currency"],
        "description": name,
        "discounts": [],
        "metadata": {},
        "price": price,
        "quantity": quantity,
    }


def payment_intent(
    *,
    amount: int,
    currency: str,
    customer: str | None,
    metadata: dict[str, str],
    payment_method: Json,
    description: str | None = None,
    setup_future_usage: str | None = None,
) -> Json:
    id = new_id("pi_")
    return {
        "id": id,
        "object": "payment_intent",
        "amount": amount,
        "amount_capturable": 0,
        "amount_received": 0,
        "automatic_payment_methods": None,
        "canceled_at": None,
        "cancellation_reason": None,
        "capture_method": "automatic_async",
        "client_secret": f"{id}_secret_{new_id('', 25)}",
        "confirmation_method": "automatic",
        "created": now(),
        "currency": currency,
        "customer": customer,
        "description": description,
        "last_payment_error": None,
        "latest_charge": None,
        "livemode": False,
        "metadata": metadata,
        "next_action": None,
        "payment_method": payment_method["id"],
        "payment_method_types": [payment_method["type"]],
        "processing": None,
        "receipt_email": None,
        "setup_future_usage": setup_future_usage,
        "shipping": None,
        "statement_descriptor": None,
        "statement_descriptor_suffix": None,
        "status": "requires_payment_method",
        "transfer_data": None,
        "transfer_group": None,
    }


def payment_error(code: str, decline_code: str | None, message: str) -> Json:
    return {"type": "card_error", "code": code, "decline_code": decline_code, "message": message}


def event(type: str, object: Json, *, api_version: str = API_VERSION) -> Json:
    return {
        "id": new_id("evt_"),
        "object": "event",
        "api_version": api_version,
        "created": now(),
        "data": {"object": object},
        "livemode": False,
        "pending_webhooks": 1,
        "request": {"id": None, "idempotency_key": None},
        "type": type,
    }
