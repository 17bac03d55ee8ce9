"""The part of `/demo/…` that moves money: what happens in Stripe's dashboard, at banks, and as time goes by."""

from collections.abc import Awaitable, Callable

from aiohttp import web

from chatapp.local.demo_stripe import cards, checkout, disputes, payments, refunds, subscriptions
from chatapp.local.demo_stripe.objects import Json
from chatapp.local.demo_stripe.refusals import Refusal
from chatapp.local.demo_stripe.shop import Shop

Act = Callable[[Shop, str, Json], Json]
"""What one call does with the id in its path and its JSON; only known names may be in that."""


def settle_session(shop: Shop, id: str, asked: Json) -> Json:
    return checkout.settle(shop, id, outcome=_taken(asked, "outcome")["outcome"])


def refund_payment(shop: Shop, id: str, asked: Json) -> Json:
    given = _taken(asked, "amount", "status", "reason", "metadata")
    return refunds.create(
        shop,
        payments.charge_of(shop, shop.find("payment_intent", id)),
        amount=given.get("amount"),
        reason=given.get("reason"),
        metadata=given.get("metadata") or {},
        status=given.get("status"),
    )


def move_refund(shop: Shop, id: str, asked: Json) -> Json:
    return refunds.settle(shop, id, **_taken(asked, "status", "failure_reason"))


def set_refunds(shop: Shop, id: str, asked: Json) -> Json:
    status = _taken(asked, "status").get("status", "succeeded")
    if status not in refunds.STATUSES:
        raise Refusal(400, f"status is one of {', '.join(refunds.STATUSES)}")
    shop.refund_status = status
    return {}


def dispute_payment(shop: Shop, id: str, asked: Json) -> Json:
    given = _taken(asked, "amount", "status", "reason")
    return disputes.start(
        shop,
        payments.charge_of(shop, shop.find("payment_intent", id)),
        amount=given.get("amount"),
        status=given.get("status") or "needs_response",
        reason=given.get("reason") or "fraudulent",
    )


def move_dispute(shop: Shop, id: str, asked: Json) -> Json:
    return disputes.move(shop, id, **_taken(asked, "status"))


def set_cards(shop: Shop, id: str, asked: Json) -> Json:
    outcome = _taken(asked, "off_session").get("off_session", "succeeded")
    if outcome != "succeeded" and outcome not in payments.DECLINED:
        raise Refusal(400, f"off_session is succeeded or one of {', '.join(payments.DECLINED)}")
    shop.off_session = outcome
    return {}


def set_periods(shop: Shop, id: str, asked: Json) -> Json:
    seconds = _taken(asked, "seconds").get("seconds")
    shop.period_seconds = None if seconds is None else int(seconds)
    return {}


def add_card(shop: Shop, id: str, asked: Json) -> Json:
    default = _taken(asked, "default").get("default", False)
    card = cards.add(shop, id)
    if default:
        cards.make_default(shop, shop.find("customer", id), card["id"])
    return card


def renew_subscription(shop: Shop, id: str, asked: Json) -> Json:
    return subscriptions.renew(shop, id, **_taken(asked, "outcome"))


def cancel_subscription(shop: Shop, id: str, asked: Json) -> Json:
    given = _taken(asked, "at_period_end", "reason")
    if given.get("at_period_end"):
        return subscriptions.cancel_at_period_end(shop, id, True)
    return subscriptions.end(shop, id, reason=given.get("reason") or "cancellation_requested")


def resume_subscription(shop: Shop, id: str, asked: Json) -> Json:
    _taken(asked)
    return subscriptions.resume(shop, id)


def pause_subscription(shop: Shop, id: str, asked: Json) -> Json:
    _taken(asked)
    return subscriptions.pause(shop, id)


def change_subscription(shop: Shop, id: str, asked: Json) -> Json:
    given = _taken(asked, "price", "now")
    item = subscriptions.living(shop, id)["items"]["data"][0]["id"]
    price = shop.find("price", given["price"])
    return subscriptions.change(
        shop, id, prices={item: price}, now_anchored=given.get("now", True), metadata={}
    )


def pay_invoice(shop: Shop, id: str, asked: Json) -> Json:
    return subscriptions.pay_invoice(shop, id, **_taken(asked, "outcome"))


def _taken(asked: Json, *names: str) -> Json:
    unknown = asked.keys() - set(names)
    if unknown:
        raise Refusal(400, f"Unknown: {', '.join(sorted(unknown))}")
    return {name: value for name, value in asked.items() if value is not None}


CALLS: list[tuple[str, str, Act]] = [
    ("POST", "/demo/sessions/{id}/settle", settle_session),
    ("POST", "/demo/payments/{id}/refund", refund_payment),
    ("PUT", "/demo/refunds", set_refunds),
    ("POST", "/demo/refunds/{id}", move_refund),
    ("POST", "/demo/payments/{id}/dispute", dispute_payment),
    ("POST", "/demo/disputes/{id}", move_dispute),
    ("PUT", "/demo/cards", set_cards),
    ("PUT", "/demo/periods", set_periods),
    ("POST", "/demo/customers/{id}/cards", add_card),
    ("POST", "/demo/subscriptions/{id}/renew", renew_subscription),
    ("POST", "/demo/subscriptions/{id}/cancel", cancel_subscription),
    ("POST", "/demo/subscriptions/{id}/resume", resume_subscription),
    ("POST", "/demo/subscriptions/{id}/pause", pause_subscription),
    ("POST", "/demo/subscriptions/{id}/change", change_subscription),
    ("POST", "/demo/invoices/{id}/pay", pay_invoice),
]


def routes(shop: Shop) -> list[web.RouteDef]:
    def served(act: Act) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def serve(request: web.Request) -> web.StreamResponse:
            asked = await request.json()
            return web.json_response(act(shop, request.match_info.get("id", ""), asked))

        return serve

    return [web.route(method, path, served(act)) for method, path, act in CALLS]
