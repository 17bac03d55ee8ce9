"""`/demo/…`: how tests, and curious people, make it misbehave and look at what it did. All of it is JSON.

PUT  /demo/faults       {"repeat": 20, "delay_seconds": 1, "drop": true, "hold": true, "reorder": 2,
                         "forge": true, "api_version": "…", "timestamp_offset": -600, "retry_seconds": 0.1,
                         "types": ["…"]}: how webhooks go wrong from now on; {} ends it
POST /demo/release      {"last_first": true}: send what `hold` and `reorder` keep
POST /demo/events       {"type": "…", "object": {…}} or {"type": "…", "session": "cs_…", "changes": {…}}: an
                        event of any type about anything
POST /demo/events/<id>  deliver that event once more
PUT  /demo/api-faults   {"path": "/v1/…", "times": 1, "status": 500, "hang_seconds": 60,
                         "lose_answer": true}: how the API goes wrong for the next calls; {} ends it.
                        `lose_answer` does what was asked and cuts the connection instead of saying so
PUT  /demo/bank         {"seconds": 3600}: how long a bank takes to answer
POST /demo/reset        no faults, nothing held, nothing more to deliver, empty logs, good cards
GET  /demo/deliveries   every attempt to deliver, with the answer
GET  /demo/requests     every call of the API, with its idempotency key and status
GET  /demo/idle         answers as soon as nothing is being delivered or waits for another attempt

And what moves money (control_money.py); each answers the object that it changed:

POST /demo/sessions/<id>/settle   {"outcome": "succeeded" or "failed"}: the bank's word, at once
POST /demo/payments/<pi>/refund   {"amount": 100, "status": "succeeded", "reason": "duplicate", "metadata": {}}: as
                                  from the dashboard; nothing given: all that is left, and it succeeds
POST /demo/refunds/<re>           {"status": "succeeded", "failed" or "canceled", "failure_reason": "…"}: what became
                                  of a pending refund; one that succeeded can still fail
PUT  /demo/refunds                {"status": "pending"}: what refunds by card come out as; {} ends it
POST /demo/payments/<pi>/dispute  {"amount": 100, "status": "needs_response" or "warning_needs_response",
                                  "reason": "fraudulent"}
POST /demo/disputes/<dp>          {"status": "under_review", "won", "lost", "warning_closed", …}
PUT  /demo/periods                {"seconds": 20}: how long the periods of plans last that begin now; {} ends it
PUT  /demo/cards                  {"off_session": "authentication_required", "card_declined" or "expired_card"}: what
                                  payments meet while the buyer is away; {} ends it
POST /demo/customers/<cus>/cards  {"default": true}: one more saved card
POST /demo/subscriptions/<sub>/renew   {"outcome": "paid", "failed" or "action_required"}: the next period begins
POST /demo/subscriptions/<sub>/cancel  {"at_period_end": true} or {"reason": "payment_failed"}, which is at once
POST /demo/subscriptions/<sub>/resume  {}: a paused one, or one that was to end
POST /demo/subscriptions/<sub>/pause   {}
POST /demo/subscriptions/<sub>/change  {"price": "price_…", "now": true}: another plan, as from the portal; `now`
                                       begins and charges a new period, else it counts from the next one
POST /demo/invoices/<in>/pay      {"outcome": "paid"}: charge an open invoice once more
"""

import asyncio
from collections import deque
from dataclasses import dataclass, field, replace
from typing import Any

from aiohttp import web

from chatapp.local.demo_stripe import control_money
from chatapp.local.demo_stripe.deliveries import Deliveries, Faults
from chatapp.local.demo_stripe.objects import API_VERSION
from chatapp.local.demo_stripe.refusals import Refusal
from chatapp.local.demo_stripe.shop import Shop


@dataclass(frozen=True)
class ApiFaults:
    """How the API goes wrong for the next `times` calls whose path begins with `path`."""

    path: str = "/v1/"
    times: int = 0
    status: int = 0
    hang_seconds: float = 0.0
    lose_answer: bool = False


@dataclass
class Control:
    """What `/demo/…` has set, and what it can tell."""

    shop: Shop
    deliveries: Deliveries
    api_faults: ApiFaults = ApiFaults()
    requests: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=2000))

    def routes(self) -> list[web.RouteDef]:
        return [
            web.put("/demo/faults", self.set_faults),
            web.put("/demo/api-faults", self.set_api_faults),
            web.put("/demo/bank", self.set_bank),
            web.post("/demo/reset", self.reset),
            web.post("/demo/release", self.release),
            web.post("/demo/events", self.make_event),
            web.post("/demo/events/{id}", self.deliver_again),
            web.get("/demo/deliveries", self.list_deliveries),
            web.get("/demo/requests", self.list_requests),
            web.get("/demo/idle", self.idle),
            *control_money.routes(self.shop),
        ]

    def take_api_fault(self, path: str) -> ApiFaults | None:
        """The fault that this call meets, which is then one fewer."""
        faults = self.api_faults
        if faults.times < 1 or not path.startswith(faults.path):
            return None
        self.api_faults = replace(faults, times=faults.times - 1)
        return faults

    async def set_faults(self, request: web.Request) -> web.Response:
        asked = await request.json()
        self.deliveries.faults = Faults(**{**asked, "types": tuple(asked.get("types", ()))})
        return web.json_response({})

    async def set_api_faults(self, request: web.Request) -> web.Response:
        asked = await request.json()
        self.api_faults = ApiFaults(**{"times": 1, **asked} if asked else {})
        return web.json_response({})

    async def set_bank(self, request: web.Request) -> web.Response:
        self.shop.bank_seconds = float((await request.json())["seconds"])
        return web.json_response({})

    async def reset(self, request: web.Request) -> web.Response:
        await self.deliveries.reset()
        self.shop.deliver_no_more()
        self.shop.behave()
        self.api_faults = ApiFaults()
        self.requests.clear()
        return web.json_response({})

    async def release(self, request: web.Request) -> web.Response:
        asked = await request.json()
        return web.json_response(
            {"released": self.deliveries.release(last_first=bool(asked.get("last_first")))}
        )

    async def make_event(self, request: web.Request) -> web.Response:
        asked = await request.json()
        about = asked.get("object") or {
            **self.shop.find("session", asked["session"]),
            **asked.get("changes", {}),
        }
        event = self.shop.emit(asked["type"], about, api_version=asked.get("api_version", API_VERSION))
        return web.json_response(event)

    async def deliver_again(self, request: web.Request) -> web.Response:
        event = self.shop.find("event", request.match_info["id"])
        self.deliveries.send(event)
        return web.json_response(event)

    async def list_deliveries(self, request: web.Request) -> web.Response:
        return web.json_response(list(self.deliveries.log))

    async def list_requests(self, request: web.Request) -> web.Response:
        return web.json_response(list(self.requests))

    async def idle(self, request: web.Request) -> web.Response:
        await self.deliveries.idle()
        return web.json_response({})


@web.middleware
async def refusals_as_json(request: web.Request, handler: Any) -> web.StreamResponse:
    """A mistake in a `/demo/…` call is answered in one line."""
    try:
        return await _through(handler, request)
    except (Refusal, KeyError, TypeError, ValueError) as error:
        if not request.path.startswith("/demo/"):
            raise
        status = error.status if isinstance(error, Refusal) else 400
        return web.json_response({"error": f"{type(error).__name__}: {error}"}, status=status)


async def _through(handler: Any, request: web.Request) -> web.StreamResponse:
    answer: web.StreamResponse = await handler(request)
    return answer


def api_faults(control: Control) -> Any:
    """Middleware in which the API hangs, fails or loses its answer, and each call of it is written down."""

    @web.middleware
    async def meet(request: web.Request, handler: Any) -> web.StreamResponse:
        if not request.path.startswith("/v1/"):
            return await _through(handler, request)
        fault = control.take_api_fault(request.path) or ApiFaults()
        seen: dict[str, Any] = {
            "method": request.method,
            "path": request.path,
            "idempotency_key": request.headers.get("Idempotency-Key"),
            "status": None,
        }
        control.requests.append(seen)
        if fault.hang_seconds:
            await asyncio.sleep(fault.hang_seconds)
            if request.transport is None:  # the caller gave up long ago
                return web.Response(status=499)
        if fault.status:
            seen["status"] = fault.status
            body = {"error": {"type": "api_error", "message": "Demo Stripe was asked to fail."}}
            return web.json_response(body, status=fault.status, headers={"Request-Id": "req_demo_fault"})
        answer = await _through(handler, request)
        if fault.lose_answer and request.transport is not None:
            request.transport.abort()
        else:
            seen["status"] = answer.status
        return answer

    return meet
