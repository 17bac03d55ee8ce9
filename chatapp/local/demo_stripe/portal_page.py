"""The customer portal: a customer's card, subscriptions and invoices, with what can be done about them."""

from html import escape

from aiohttp import web

from chatapp.local.demo_stripe import cards, subscriptions
from chatapp.local.demo_stripe.objects import Json
from chatapp.local.demo_stripe.pages import day, html, money, not_here, see, template
from chatapp.local.demo_stripe.refusals import Refusal
from chatapp.local.demo_stripe.shop import Shop

PAGE = template("portal.html")
SECOND_CARD = "5556"


def routes(shop: Shop) -> list[web.RouteDef]:
    async def show(request: web.Request) -> web.Response:
        portal = shop.records.portals.get(request.match_info["id"])
        return _page(shop, portal) if portal else not_here("portal session")

    async def act(request: web.Request) -> web.Response:
        portal = shop.records.portals.get(request.match_info["id"])
        if portal is None:
            return not_here("portal session")
        form = await request.post()
        try:
            _act(shop, portal["customer"], str(form.get("action")), str(form.get("subscription")))
        except Refusal as refusal:
            return _page(shop, portal, error=str(refusal))
        return see(request.path)

    return [web.get("/p/session/{id}", show), web.post("/p/session/{id}", act)]


def _act(shop: Shop, customer: str, action: str, subscription: str) -> None:
    if action == "card":
        card = cards.add(shop, customer, last4=SECOND_CARD)
        cards.make_default(shop, shop.find("customer", customer), card["id"])
        for row in _subscriptions(shop, customer):
            shop.find("subscription", row["id"])["default_payment_method"] = card["id"]
        shop.emit("customer.updated", shop.find("customer", customer))
    elif subscription not in {row["id"] for row in _subscriptions(shop, customer)}:
        raise Refusal(400, "There is no such subscription.")
    elif action == "cancel":
        subscriptions.cancel_at_period_end(shop, subscription, True)
    elif action == "resume":
        subscriptions.resume(shop, subscription)
    else:
        raise Refusal(400, "There is no such button.")


def _subscriptions(shop: Shop, customer: str) -> list[Json]:
    rows = shop.records.subscriptions.values()
    return [row for row in rows if row["customer"] == customer and row["status"] not in subscriptions.ENDED]


def _page(shop: Shop, portal: Json, *, error: str = "") -> web.Response:
    customer = portal["customer"]
    invoices = [row for row in shop.records.invoices.values() if row["customer"] == customer]
    main = PAGE.substitute(
        email=escape(shop.find("customer", customer)["email"] or ""),
        error=f'<p class="error" role="alert">{escape(error)}</p>' if error else "",
        subscriptions=_list(
            [_subscription(shop, row) for row in _subscriptions(shop, customer)], "No subscription."
        ),
        card=_card(shop, customer),
        invoices=_list([_invoice(row) for row in reversed(invoices)], "No invoices yet."),
        return_url=escape(portal["return_url"]),
    )
    return html(main, title="Billing")


def _list(rows: list[str], none: str) -> str:
    return f"<ul>{''.join(rows)}</ul>" if rows else f'<p class="soft">{none}</p>'


def _subscription(shop: Shop, row: Json) -> str:
    item = row["items"]["data"][0]
    name = escape(shop.find("product", item["price"]["product"])["name"])
    price = money(item["price"]["unit_amount"], row["currency"])
    ends = row["cancel_at_period_end"]
    when = f"{'Ends' if ends else 'Renews'} on {day(item['current_period_end'])}"
    if row["status"] == "paused":
        when = "Paused"
    action = "resume" if ends or row["status"] == "paused" else "cancel"
    return (
        f"<li><p>{name}{_state(row['status'])}"
        f"<small>{price} per {item['price']['recurring']['interval']} · {when}</small></p>"
        f'<form method="post"><input type="hidden" name="subscription" value="{row["id"]}">'
        f'<button name="action" value="{action}">{action.capitalize()}</button></form></li>'
    )


def _card(shop: Shop, customer: str) -> str:
    method = cards.default_of(shop, customer)
    shown = (
        f"Visa •••• {method['card']['last4']}<small>Expires 12 / 34</small>"
        if method and method["type"] == "card"
        else "No card is kept."
    )
    return (
        f'<ul><li><p>{shown}</p><form method="post">'
        '<button name="action" value="card">Use another card</button></form></li></ul>'
    )


def _invoice(row: Json) -> str:
    return (
        f'<li><p><a href="{escape(row["hosted_invoice_url"])}">{escape(row["number"])}</a>{_state(row["status"])}'
        f"<small>{day(row['created'])}</small></p><p>{money(row['total'], row['currency'])}</p></li>"
    )


def _state(status: str) -> str:
    kind = "state bad" if status in {"past_due", "open", "unpaid"} else "state"
    return f' <span class="{kind}">{escape(status.replace("_", " "))}</span>'
