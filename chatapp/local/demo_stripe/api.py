"""api.stripe.com/v1 as far as this product uses it: who asks, what is asked, and the form of every answer."""

import hashlib
import json
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qsl

from aiohttp import web

from chatapp.local.demo_stripe import api_billing, api_checkout, api_customers, api_payments, objects, params
from chatapp.local.demo_stripe.expansion import expanded
from chatapp.local.demo_stripe.lists import page
from chatapp.local.demo_stripe.objects import API_VERSION, Json
from chatapp.local.demo_stripe.params import Params
from chatapp.local.demo_stripe.refusals import Refusal
from chatapp.local.demo_stripe.shop import Shop

Handler = Callable[[Shop, str, Params], Json]
"""Does what one call asks for: it is given the id in the path, if there is one, and the parameters."""


def routes(shop: Shop) -> list[web.RouteDef]:
    def served(handler: Handler) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def serve(request: web.Request) -> web.StreamResponse:
            return await _answer(shop, handler, request)

        return serve

    calls: list[tuple[str, str, Handler]] = [
        *api_customers.CALLS,
        *api_checkout.CALLS,
        *api_payments.CALLS,
        *api_billing.CALLS,
        ("GET", "/v1/events", list_events),
        ("GET", "/v1/events/{id}", retrieve_event),
    ]

    async def unrecognized(request: web.Request) -> web.StreamResponse:
        def refuse(shop: Shop, id: str, asked: Params) -> Json:
            raise Refusal(404, f"Unrecognized request URL ({request.method}: {request.path}).")

        return await _answer(shop, refuse, request)

    return [
        *(web.route(method, path, served(handler)) for method, path, handler in calls),
        web.route("*", "/v1/{rest:.*}", unrecognized),
    ]


def retrieve_event(shop: Shop, id: str, asked: Params) -> Json:
    asked.no_more()
    return shop.find("event", id)


def list_events(shop: Shop, id: str, asked: Params) -> Json:
    type, types = asked.text("type"), asked.strings("types")
    wanted = {type} if type else set(types)
    fits = [event for event in shop.records.events.values() if not wanted or event["type"] in wanted]
    return page(asked, fits, url="/v1/events")


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
            status, body = _do(shop, handler, request, given, request_id)
            return web.json_response(body, status=status, headers=headers)
        headers["Idempotency-Key"] = key
        fingerprint = hashlib.sha256(
            f"{request.path} {json.dumps(given, sort_keys=True)}".encode()
        ).hexdigest()
        before = shop.records.answers.get(key)
        if before is None:
            status, body = _do(shop, handler, request, given, request_id)
            shop.records.answers[key] = {
                "fingerprint": fingerprint,
                "status": status,
                "body": json.dumps(body),
                "by": request_id,
            }
            return web.json_response(body, status=status, headers=headers)
        if before["fingerprint"] != fingerprint:
            raise Refusal(
                400,
                "Keys for idempotent requests can only be used with the same parameters they were first used "
                f"with. Try using a key other than '{key}' if you meant to execute a different request.",
                type="idempotency_error",
            )
        headers |= {"Idempotent-Replayed": "true", "Original-Request": before["by"]}
        return web.Response(
            text=before["body"], status=before["status"], content_type="application/json", headers=headers
        )
    except Refusal as refusal:
        return web.json_response(refusal.body(request_id), status=refusal.status, headers=headers)


def _do(
    shop: Shop, handler: Handler, request: web.Request, given: dict[str, Any], request_id: str
) -> tuple[int, Json]:
    """The status and body of an answer that an idempotency key stands for from now on.

    A card that is refused is such an answer too; a request that was not understood is none.
    """
    asked = Params(given)
    expand = asked.strings("expand")
    try:
        return 200, expanded(shop, handler(shop, request.match_info.get("id", ""), asked), expand)
    except Refusal as refusal:
        if refusal.status != 402:
            raise
        return refusal.status, refusal.body(request_id)


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
