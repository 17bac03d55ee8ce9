"""The page that a buyer is sent to: it looks like a checkout, and says that it is none."""

from decimal import Decimal
from html import escape
from pathlib import Path
from string import Template

from aiohttp import web

from chatapp.local.demo_stripe.objects import Json
from chatapp.local.demo_stripe.refusals import Refusal
from chatapp.local.demo_stripe.shop import Shop

PAGE = Template((Path(__file__).parent / "checkout.html").read_text())
WITHOUT_CENTS = {"clp", "jpy", "krw", "vnd"}

PAYING = Template("""
<p class="soft">$email</p>
$error
<h2>Card</h2>
<div class="card"><span>4242 4242 4242 4242</span><span>12 / 34 · 123</span></div>
<form method="post">
  <button class="pay" name="action" value="pay">Pay $amount</button>
  <button name="action" value="decline">Pay with a card that is declined</button>
  <h2>Bank account</h2>
  <p class="soft">The bank answers $bank_seconds seconds later; you need not wait here.</p>
  <button name="action" value="bank">Pay by bank</button>
  <button name="action" value="bank_failing">Pay by bank, and the bank refuses</button>
  $cancel
</form>""")
CANCEL = '<button class="link" name="action" value="cancel">Cancel and go back</button>'


def routes(shop: Shop) -> list[web.RouteDef]:
    async def show(request: web.Request) -> web.Response:
        return _page(shop, request.match_info["id"])

    async def act(request: web.Request) -> web.Response:
        return await _act(shop, request)

    return [web.get("/c/pay/{id}", show), web.post("/c/pay/{id}", act)]


async def _act(shop: Shop, request: web.Request) -> web.Response:
    id = request.match_info["id"]
    action = (await request.post()).get("action")
    try:
        if action == "pay":
            return _see(_success(shop.pay(id)))
        if action in {"bank", "bank_failing"}:
            outcome = "succeeded" if action == "bank" else "failed"
            return _see(_success(shop.pay_by_bank(id, outcome=outcome)))
        if action == "decline":
            return _page(shop, id, error=shop.decline(id))
        cancel_url = shop.session(id)["cancel_url"]
        return _see(cancel_url) if action == "cancel" and cancel_url else _page(shop, id, status=400)
    except Refusal:
        # Paid or expired meanwhile, in another tab perhaps: the page tells which.
        return _page(shop, id)


def _see(url: str) -> web.Response:
    return web.Response(status=303, headers={"Location": url})


def _success(session: Json) -> str:
    return str(session["success_url"]).replace("{CHECKOUT_SESSION_ID}", session["id"])


def _page(shop: Shop, id: str, *, error: str = "", status: int = 200) -> web.Response:
    session = shop.records.sessions.get(id)
    if session is None:
        return _html(
            404, title="not found", heading="There is no such checkout", body="", amount="", items=""
        )
    amount = _money(session["amount_total"], session["currency"])
    rows = [
        f'<tr><th scope="row">{escape(item["description"])}<small>Qty {item["quantity"]}</small></th>'
        f"<td>{_money(item['amount_total'], item['currency'])}</td></tr>"
        for item in shop.records.line_items[id]
    ]
    if session["status"] == "complete":
        heading, body = "You're all done here", '<p class="soft">This checkout has been completed.</p>'
    elif session["status"] == "expired":
        heading, body = "This checkout has expired", '<p class="soft">Go back to the site to start again.</p>'
    else:
        email = session["customer_email"]
        if session["customer"]:
            email = shop.customer(session["customer"])["email"]
        heading = "Pay"
        body = PAYING.substitute(
            email=escape(email or ""),
            error=f'<p class="error" role="alert">{escape(error)}</p>' if error else "",
            amount=amount,
            bank_seconds=f"{shop.bank_seconds:g}",
            cancel=CANCEL if session["cancel_url"] else "",
        )
    return _html(status, title=heading, heading=heading, body=body, amount=amount, items="".join(rows))


def _html(status: int, **parts: str) -> web.Response:
    return web.Response(
        text=PAGE.substitute(parts),
        status=status,
        content_type="text/html",
        headers={
            "Cache-Control": "no-store",
            "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
            "frame-ancestors 'none'; base-uri 'none'",
        },
    )


def _money(amount: int, currency: str) -> str:
    value = Decimal(amount) if currency in WITHOUT_CENTS else Decimal(amount).scaleb(-2)
    return f"${value:,}" if currency == "usd" else f"{value:,} {escape(currency.upper())}"
