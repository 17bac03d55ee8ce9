"""The page that a buyer is sent to: it looks like a checkout, and says that it is none."""

from html import escape
from string import Template

from aiohttp import web

from chatapp.local.demo_stripe import checkout, promotions
from chatapp.local.demo_stripe.objects import Json
from chatapp.local.demo_stripe.pages import html, money, not_here, see, template
from chatapp.local.demo_stripe.refusals import Refusal
from chatapp.local.demo_stripe.shop import Shop

PAGE = template("checkout.html")

PAYING = Template("""
<p class="soft">$email</p>
$error
<h2>Card</h2>
<div class="card"><span>4242 4242 4242 4242</span><span>12 / 34 · 123</span></div>
<form method="post">
  <button class="pay" name="action" value="pay">$pay</button>
  <button name="action" value="decline">Pay with a card that is declined</button>
  $bank
  $cancel
</form>""")
BANK = Template("""<h2>Bank account</h2>
  <p class="soft">The bank answers $bank_seconds seconds later; you need not wait here.</p>
  <button name="action" value="bank">Pay by bank</button>
  <button name="action" value="bank_failing">Pay by bank, and the bank refuses</button>""")
NOTHING_TO_PAY = Template("""
<p class="soft">$email</p>
$error
<p class="soft">The promotion code pays for all of it.</p>
<form method="post">
  <button class="pay" name="action" value="pay">Complete order</button>
  $cancel
</form>""")
CANCEL = '<button class="link" name="action" value="cancel">Cancel and go back</button>'
CODE = Template("""<form class="code" method="post">
        <label>Promotion code <input name="code" value="$applied" autocomplete="off" spellcheck="false"></label>
        <button name="action" value="code">Apply</button>
      </form>
      <p class="soft">HALF and FREE are codes here.</p>""")
DISCOUNT = Template('<tr><th scope="row">$code<small>$percent % off</small></th><td>−$amount</td></tr>')


def routes(shop: Shop) -> list[web.RouteDef]:
    async def show(request: web.Request) -> web.Response:
        return _page(shop, request.match_info["id"])

    async def act(request: web.Request) -> web.Response:
        return await _act(shop, request)

    return [web.get("/c/pay/{id}", show), web.post("/c/pay/{id}", act)]


async def _act(shop: Shop, request: web.Request) -> web.Response:
    id = request.match_info["id"]
    form = await request.post()
    action = form.get("action")
    try:
        if action == "pay":
            return see(_success(checkout.pay(shop, id)))
        if action in {"bank", "bank_failing"}:
            outcome = "succeeded" if action == "bank" else "failed"
            return see(_success(checkout.pay_by_bank(shop, id, outcome=outcome)))
        if action == "decline":
            return _page(shop, id, error=checkout.decline(shop, id))
        if action == "code":
            checkout.apply_code(shop, id, str(form.get("code", "")))
            return see(f"/c/pay/{id}")
        cancel_url = shop.find("session", id)["cancel_url"]
        return see(cancel_url) if action == "cancel" and cancel_url else _page(shop, id, status=400)
    except Refusal as refusal:
        # A code that is none; or paid or expired meanwhile, in another tab perhaps, which the page tells.
        return _page(shop, id, error=str(refusal))


def _success(session: Json) -> str:
    return str(session["success_url"]).replace("{CHECKOUT_SESSION_ID}", session["id"])


def _page(shop: Shop, id: str, *, error: str = "", status: int = 200) -> web.Response:
    session = shop.records.sessions.get(id)
    if session is None:
        return not_here("checkout")
    items = shop.records.line_items[id]
    currency = session["currency"]
    rows = [
        f'<tr><th scope="row">{escape(item["description"])}<small>Qty {item["quantity"]}</small></th>'
        f"<td>{money(item['amount_subtotal'], currency)}</td></tr>"
        for item in items
    ]
    code = ""
    if session["status"] == "complete":
        heading, body = "You're all done here", '<p class="soft">This checkout has been completed.</p>'
    elif session["status"] == "expired":
        heading, body = "This checkout has expired", '<p class="soft">Go back to the site to start again.</p>'
    else:
        heading, body = _form(shop, session, items, error)
        if session["allow_promotion_codes"]:
            code = CODE.substitute(applied=escape(promotions.applied(session) or ""))
    main = PAGE.substitute(
        heading=heading,
        body=body,
        amount=money(session["amount_total"], currency),
        items="".join(rows),
        discount=_discount(session),
        code=code,
    )
    return html(main, title=heading, status=status)


def _form(shop: Shop, session: Json, items: list[Json], error: str) -> tuple[str, str]:
    """What stands above the form, and the form."""
    email = session["customer_email"]
    if session["customer"]:
        email = shop.find("customer", session["customer"])["email"]
    shared = {
        "email": escape(email or ""),
        "error": f'<p class="error" role="alert">{escape(error)}</p>' if error else "",
        "cancel": CANCEL if session["cancel_url"] else "",
    }
    amount = money(session["amount_total"], session["currency"])
    if session["mode"] == "subscription":
        interval = items[0]["price"]["recurring"]["interval"]
        pay = f"Subscribe for {money(session['amount_subtotal'], session['currency'])} per {interval}"
        return "Subscribe", PAYING.substitute(shared, pay=pay, bank="")
    if session["amount_total"] == 0:
        return "Nothing to pay", NOTHING_TO_PAY.substitute(shared)
    bank = BANK.substitute(bank_seconds=f"{shop.bank_seconds:g}")
    return "Pay", PAYING.substitute(shared, pay=f"Pay {amount}", bank=bank)


def _discount(session: Json) -> str:
    code = promotions.applied(session)
    if code is None:
        return ""
    off = money(session["total_details"]["amount_discount"], session["currency"])
    return DISCOUNT.substitute(code=code, percent=promotions.PERCENT_OFF[code], amount=off)
