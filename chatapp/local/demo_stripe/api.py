"""api.stripe.com/v1 as far as this product uses it: customers, Checkout sessions, payment intents, events."""

import hashlib
import json
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qsl

from aiohttp import web

from chatapp.local.demo_stripe import objects, params
from chatapp.local.demo_stripe.objects import API_VERSION, Json, now
from chatapp.local.demo_stripe.params import Params
from chatapp.local.demo_stripe.refusals import Refusal, invalid, missing, no_such
from chatapp.local.demo_stripe.shop import Shop

SHORTEST_SECONDS, LONGEST_SECONDS = 30 * 60, 24 * 60 * 60
LEAST_AMOUNT = 50
# Settings of the hosted page that change nothing here: taken, so that only real mistakes are refused.
COSMETIC = ("locale", "submit_type", "billing_address_collection", "customer_creation", "ui_mode")

Handler = Callable[[Shop, web.Request, dict[str, Any]], Json]


def routes(shop: Shop) -> list[web.RouteDef]:
    def served(handler: Handler) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def serve(request: web.Request) -> web.StreamResponse:
            return await _answer(shop, handler, request)

        return serve

    sessions = "/v1/checkout/sessions"
    return [
        web.post("/v1/customers", served(create_customer)),
        web.get("/v1/customers/{id}", served(retrieve_customer)),
        web.post(sessions, served(create_session)),
        web.get(sessions, served(list_sessions)),
        web.get(f"{sessions}/{{id}}", served(retrieve_session)),
        web.get(f"{sessions}/{{id}}/line_items", served(list_line_items)),
        web.post(f"{sessions}/{{id}}/expire", served(expire_session)),
        web.get("/v1/payment_intents/{id}", served(retrieve_payment_intent)),
        web.get("/v1/events", served(list_events)),
        web.get("/v1/events/{id}", served(retrieve_event)),
        web.route("*", "/v1/{rest:.*}", served(unrecognized)),
    ]


# --- Customers -------------------------------------------------------------------------------------------


def create_customer(shop: Shop, request: web.Request, given: dict[str, Any]) -> Json:
    asked = Params(given)
    facts = {"email": asked.text("email"), "name": asked.text("name"), "metadata": asked.metadata()}
    asked.no_more()
    return shop.add_customer(**facts)


def retrieve_customer(shop: Shop, request: web.Request, given: dict[str, Any]) -> Json:
    return shop.customer(request.match_info["id"])


# --- Checkout sessions -----------------------------------------------------------------------------------


def create_session(shop: Shop, request: web.Request, given: dict[str, Any]) -> Json:
    asked = Params(given)
    if asked.required("mode") != "payment":
        raise invalid("mode", "Demo Stripe only has mode=payment.")
    expand = asked.strings("expand")
    items = [_line_item(item) for item in asked.hashes("line_items")]
    if not items:
        raise missing("line_items")
    if len({item["currency"] for item in items}) > 1:
        raise invalid("line_items", "All line items must have the same currency.")
    if sum(item["amount_total"] for item in items) < LEAST_AMOUNT:
        raise Refusal(
            400,
            "The Checkout Session's total amount must convert to at least 50 cents.",
            code="amount_too_small",
        )
    expires_at = asked.integer("expires_at")
    if expires_at is not None and not SHORTEST_SECONDS <= expires_at - now() + 1 <= LONGEST_SECONDS + 1:
        raise invalid(
            "expires_at",
            "The `expires_at` timestamp must be between 30 minutes and 24 hours from now.",
        )
    intent = asked.hash("payment_intent_data")
    intent_metadata: dict[str, str] = {}
    if intent:
        intent_metadata = intent.metadata()
        for name in ("description", "receipt_email", "statement_descriptor_suffix"):
            intent.text(name)
        intent.no_more()
    invoice = asked.hash("invoice_creation")
    enabled = invoice is not None and invoice.boolean("enabled")
    customer, email = asked.text("customer"), asked.text("customer_email", longest=512)
    if customer and email:
        raise Refusal(400, "You may only specify one of these parameters: customer, customer_email.")
    if customer and customer not in shop.records.customers:
        raise no_such("customer", customer, param="customer")
    if email and ("@" not in email or " " in email):
        raise Refusal(400, f"Invalid email address: {email}", code="email_invalid", param="customer_email")
    facts = {
        "success_url": asked.url("success_url"),
        "cancel_url": asked.url("cancel_url"),
        "client_reference_id": asked.text("client_reference_id", longest=200),
        "metadata": asked.metadata(),
        "customer": customer,
        "customer_email": email,
        "invoice": enabled,
    }
    for name in COSMETIC:
        asked.text(name)
    asked.no_more()
    if not facts["success_url"]:
        raise missing("success_url")
    session = shop.open_session(
        items=items,
        intent_metadata=intent_metadata,
        expires_at=expires_at or now() + LONGEST_SECONDS,
        **facts,
    )
    return _expanded(shop, session, expand)


def _line_item(asked: Params) -> Json:
    quantity = asked.integer("quantity") or 1
    price = asked.hash("price_data")
    if price is None:
        raise missing(asked.name("price_data"))
    currency, amount = price.required("currency").lower(), price.integer("unit_amount")
    if len(currency) != 3:
        raise invalid(price.name("currency"), f"Invalid currency: {currency}")
    if amount is None:
        raise missing(price.name("unit_amount"))
    if amount < 0 or quantity < 1:
        raise invalid(price.name("unit_amount"), "Invalid non-negative integer")
    product = price.hash("product_data")
    if product is None:
        raise missing(price.name("product_data"))
    name = product.required("name")
    product.text("description")
    product.metadata()
    for part in (product, price, asked):
        part.no_more()
    return objects.line_item(name=name, currency=currency, unit_amount=amount, quantity=quantity)


def retrieve_session(shop: Shop, request: web.Request, given: dict[str, Any]) -> Json:
    asked = Params(given)
    expand = asked.strings("expand")
    asked.no_more()
    return _expanded(shop, shop.session(request.match_info["id"]), expand)


def list_sessions(shop: Shop, request: web.Request, given: dict[str, Any]) -> Json:
    asked = Params(given)
    wanted = {name: asked.text(name) for name in ("status", "payment_intent", "customer")}
    fits = [
        session
        for session in shop.records.sessions.values()
        if all(value is None or session[name] == value for name, value in wanted.items())
    ]
    return _page(asked, fits, url="/v1/checkout/sessions")


def list_line_items(shop: Shop, request: web.Request, given: dict[str, Any]) -> Json:
    id = shop.session(request.match_info["id"])["id"]
    return _page(Params(given), shop.records.line_items[id], url=f"/v1/checkout/sessions/{id}/line_items")


def expire_session(shop: Shop, request: web.Request, given: dict[str, Any]) -> Json:
    return shop.expire(request.match_info["id"])


def _expanded(shop: Shop, session: Json, names: list[str]) -> Json:
    """The session with what `expand` names put in place of its id."""
    whole = dict(session)
    for name in names:
        if name == "line_items":
            items = shop.records.line_items[session["id"]]
            url = f"/v1/checkout/sessions/{session['id']}/line_items"
            whole[name] = {"object": "list", "data": items, "has_more": False, "url": url}
        elif name == "payment_intent":
            whole[name] = session[name] and shop.payment_intent(session[name])
        elif name == "customer":
            whole[name] = session[name] and shop.customer(session[name])
        else:
            raise invalid("expand", f"This property cannot be expanded ({name}).")
    return whole


# --- Payment intents, events -----------------------------------------------------------------------------


def retrieve_payment_intent(shop: Shop, request: web.Request, given: dict[str, Any]) -> Json:
    return shop.payment_intent(request.match_info["id"])


def retrieve_event(shop: Shop, request: web.Request, given: dict[str, Any]) -> Json:
    return shop.event(request.match_info["id"])


def list_events(shop: Shop, request: web.Request, given: dict[str, Any]) -> Json:
    asked = Params(given)
    type, types = asked.text("type"), asked.strings("types")
    wanted = {type} if type else set(types)
    fits = [event for event in shop.records.events.values() if not wanted or event["type"] in wanted]
    return _page(asked, fits, url="/v1/events")


def unrecognized(shop: Shop, request: web.Request, given: dict[str, Any]) -> Json:
    raise Refusal(404, f"Unrecognized request URL ({request.method}: {request.path}).")


# --- What all calls share --------------------------------------------------------------------------------


def _page(asked: Params, oldest_first: list[Json], *, url: str) -> Json:
    """One page of a list, newest first, with Stripe's cursors and range of `created`."""
    rows = list(reversed(oldest_first))
    limit = asked.integer("limit")
    limit = 10 if limit is None else limit
    if not 1 <= limit <= 100:
        raise invalid("limit", "limit must be between 1 and 100")
    created = asked.hash("created")
    if created:
        for name, fits in _COMPARISONS.items():
            bound = created.integer(name)
            if bound is not None:
                rows = [row for row in rows if fits(row["created"], bound)]
        created.no_more()
    after, before = asked.text("starting_after"), asked.text("ending_before")
    asked.no_more()
    ids = [row["id"] for row in rows]
    for name, cursor in (("starting_after", after), ("ending_before", before)):
        if cursor and cursor not in ids:
            raise no_such("object", cursor, param=name)
    if after:
        rows = rows[ids.index(after) + 1 :]
        page = rows[:limit]
    elif before:
        rows = rows[: ids.index(before)]
        page = rows[-limit:]
    else:
        page = rows[:limit]
    return {"object": "list", "data": page, "has_more": len(rows) > len(page), "url": url}


_COMPARISONS: dict[str, Callable[[int, int], bool]] = {
    "gt": lambda at, bound: at > bound,
    "gte": lambda at, bound: at >= bound,
    "lt": lambda at, bound: at < bound,
    "lte": lambda at, bound: at <= bound,
}


async def _answer(shop: Shop, handler: Handler, request: web.Request) -> web.StreamResponse:
    """Check who asks, decode, do it once per idempotency key, and answer in Stripe's form."""
    request_id = objects.new_id("req_", 14)
    headers = {"Request-Id": request_id, "Stripe-Version": API_VERSION}
    try:
        _check_caller(request)
        raw = await request.text() if request.method == "POST" else request.query_string
        given = params.decode(parse_qsl(raw, keep_blank_values=True))
        key = request.headers.get("Idempotency-Key") if request.method == "POST" else None
        if key is None:
            return web.json_response(handler(shop, request, given), headers=headers)
        headers["Idempotency-Key"] = key
        fingerprint = hashlib.sha256(
            f"{request.path} {json.dumps(given, sort_keys=True)}".encode()
        ).hexdigest()
        before = shop.records.answers.get(key)
        if before is None:
            body = handler(shop, request, given)
            shop.records.answers[key] = {
                "fingerprint": fingerprint,
                "body": json.dumps(body),
                "by": request_id,
            }
            shop.save()
            return web.json_response(body, headers=headers)
        if before["fingerprint"] != fingerprint:
            raise Refusal(
                400,
                "Keys for idempotent requests can only be used with the same parameters they were first used "
                f"with. Try using a key other than '{key}' if you meant to execute a different request.",
                type="idempotency_error",
            )
        headers |= {"Idempotent-Replayed": "true", "Original-Request": before["by"]}
        return web.Response(text=before["body"], content_type="application/json", headers=headers)
    except Refusal as refusal:
        return web.json_response(refusal.body(request_id), status=refusal.status, headers=headers)


def _check_caller(request: web.Request) -> None:
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    if scheme != "Bearer" or not key:
        raise Refusal(
            401, "You did not provide an API key. Provide it in the Authorization header, as a Bearer token."
        )
    if not key.startswith(("sk_", "rk_")):
        raise Refusal(401, f"Invalid API Key provided: {key[:4]}***")
    version = request.headers.get("Stripe-Version", API_VERSION)
    if version != API_VERSION:
        raise Refusal(400, f"Invalid Stripe API version: {version}. Demo Stripe speaks {API_VERSION}.")
