"""The API's Checkout sessions."""

from chatapp.local.demo_stripe import billing_objects, checkout, objects
from chatapp.local.demo_stripe.lists import matching, page
from chatapp.local.demo_stripe.objects import Json, now
from chatapp.local.demo_stripe.params import Params
from chatapp.local.demo_stripe.refusals import Refusal, invalid, missing
from chatapp.local.demo_stripe.shop import Shop

SHORTEST_SECONDS, LONGEST_SECONDS = 30 * 60, 24 * 60 * 60
LEAST_AMOUNT = 50
# Settings of the hosted page that change nothing here: taken, so that only real mistakes are refused.
COSMETIC = ("locale", "submit_type", "billing_address_collection", "ui_mode", "payment_method_collection")


def create_session(shop: Shop, id: str, asked: Params) -> Json:
    mode = asked.required("mode")
    if mode not in {"payment", "subscription"}:
        raise invalid("mode", "Demo Stripe only has mode=payment and mode=subscription.")
    items = [_line_item(shop, item) for item in asked.hashes("line_items")]
    _check_items(items, mode)
    expires_at = asked.integer("expires_at")
    if expires_at is not None and not SHORTEST_SECONDS <= expires_at - now() + 1 <= LONGEST_SECONDS + 1:
        raise invalid(
            "expires_at",
            "The `expires_at` timestamp must be between 30 minutes and 24 hours from now.",
        )
    plan = _payment_plan(asked) if mode == "payment" else _subscription_plan(asked)
    invoice = asked.hash("invoice_creation") if mode == "payment" else None
    enabled = invoice is not None and invoice.boolean("enabled")
    creation = asked.text("customer_creation") if mode == "payment" else None
    if creation not in {None, "always", "if_required"}:
        raise invalid("customer_creation", "customer_creation must be one of always, if_required")
    customer, email = asked.text("customer"), asked.text("customer_email", longest=512)
    if customer and email:
        raise Refusal(400, "You may only specify one of these parameters: customer, customer_email.")
    if customer:
        shop.find("customer", customer, param="customer")
    if email and ("@" not in email or " " in email):
        raise Refusal(400, f"Invalid email address: {email}", code="email_invalid", param="customer_email")
    facts = {
        "success_url": asked.url("success_url"),
        "cancel_url": asked.url("cancel_url"),
        "client_reference_id": asked.text("client_reference_id", longest=200),
        "metadata": asked.metadata(),
        "customer": customer,
        "customer_email": email,
        "customer_creation": creation or "if_required",
        "invoice": enabled,
        "allow_promotion_codes": asked.boolean("allow_promotion_codes"),
    }
    for name in COSMETIC:
        asked.text(name)
    asked.no_more()
    if not facts["success_url"]:
        raise missing("success_url")
    return checkout.open_session(
        shop, mode=mode, items=items, plan=plan, expires_at=expires_at or now() + LONGEST_SECONDS, **facts
    )


def _check_items(items: list[Json], mode: str) -> None:
    if not items:
        raise missing("line_items")
    if len({item["currency"] for item in items}) > 1:
        raise invalid("line_items", "All line items must have the same currency.")
    recurring = [item["price"]["recurring"] is not None for item in items]
    if mode == "payment" and any(recurring):
        raise invalid(
            "line_items", "You specified `payment` mode but passed a recurring price. Use `subscription`."
        )
    if mode == "subscription" and not all(recurring):
        raise invalid("line_items", "Demo Stripe takes only recurring prices in `subscription` mode.")
    if sum(item["amount_total"] for item in items) < LEAST_AMOUNT:
        raise Refusal(
            400,
            "The Checkout Session's total amount must convert to at least 50 cents.",
            code="amount_too_small",
        )


def _payment_plan(asked: Params) -> Json:
    """What the payment intent will be made with."""
    intent = asked.hash("payment_intent_data")
    if not intent:
        return {"metadata": {}}
    plan: Json = {"metadata": intent.metadata(), "description": intent.text("description")}
    plan["setup_future_usage"] = intent.text("setup_future_usage")
    if plan["setup_future_usage"] not in {None, "off_session", "on_session"}:
        raise invalid(intent.name("setup_future_usage"), "Invalid setup_future_usage")
    for name in ("receipt_email", "statement_descriptor_suffix"):
        intent.text(name)
    intent.no_more()
    return plan


def _subscription_plan(asked: Params) -> Json:
    """What the subscription will be made with."""
    subscription = asked.hash("subscription_data")
    if not subscription:
        return {"metadata": {}, "description": None}
    plan: Json = {"metadata": subscription.metadata(), "description": subscription.text("description")}
    subscription.no_more()
    return plan


def _line_item(shop: Shop, asked: Params) -> Json:
    quantity = asked.integer("quantity") or 1
    if quantity < 1:
        raise invalid(asked.name("quantity"), "Invalid non-negative integer")
    price_id = asked.text("price")
    if price_id:
        asked.no_more()
        price = shop.find("price", price_id, param=asked.name("price"))
        if not price["active"]:
            raise invalid(asked.name("price"), "The price specified is inactive.")
        product = shop.find("product", price["product"])
        return objects.line_item(name=product["name"], price=price, quantity=quantity)
    data = asked.hash("price_data")
    if data is None:
        raise missing(asked.name("price_data"))
    currency, amount = data.required("currency").lower(), data.integer("unit_amount")
    if len(currency) != 3:
        raise invalid(data.name("currency"), f"Invalid currency: {currency}")
    if amount is None:
        raise missing(data.name("unit_amount"))
    if amount < 0:
        raise invalid(data.name("unit_amount"), "Invalid non-negative integer")
    described = data.hash("product_data")
    if described is None:
        raise missing(data.name("product_data"))
    name = described.required("name")
    made = billing_objects.product(
        id=None,
        name=name,
        description=described.text("description"),
        active=False,
        metadata=described.metadata(),
    )
    for part in (described, data, asked):
        part.no_more()
    # As with Stripe, what is described on the spot cannot be bought again.
    price = billing_objects.price(product=made["id"], currency=currency, unit_amount=amount, active=False)
    return objects.line_item(name=name, price=price, quantity=quantity)


def retrieve_session(shop: Shop, id: str, asked: Params) -> Json:
    asked.no_more()
    return shop.find("session", id)


def list_sessions(shop: Shop, id: str, asked: Params) -> Json:
    names = ("status", "payment_intent", "customer", "subscription")
    rows = matching(asked, shop.records.sessions.values(), *names)
    return page(asked, rows, url="/v1/checkout/sessions")


def list_line_items(shop: Shop, id: str, asked: Params) -> Json:
    id = shop.find("session", id)["id"]
    return page(asked, shop.records.line_items[id], url=f"/v1/checkout/sessions/{id}/line_items")


def expire_session(shop: Shop, id: str, asked: Params) -> Json:
    asked.no_more()
    return checkout.expire(shop, id)


CALLS = [
    ("POST", "/v1/checkout/sessions", create_session),
    ("GET", "/v1/checkout/sessions", list_sessions),
    ("GET", "/v1/checkout/sessions/{id}", retrieve_session),
    ("GET", "/v1/checkout/sessions/{id}/line_items", list_line_items),
    ("POST", "/v1/checkout/sessions/{id}/expire", expire_session),
]
