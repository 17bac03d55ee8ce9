"""Invoices and receipts as a buyer sees them. An open invoice can be paid here."""

from html import escape

from aiohttp import web

from chatapp.local.demo_stripe import subscriptions
from chatapp.local.demo_stripe.objects import Json
from chatapp.local.demo_stripe.pages import day, html, money, not_here, see, template
from chatapp.local.demo_stripe.refusals import Refusal
from chatapp.local.demo_stripe.shop import Shop

PAGE = template("invoice.html")
PAY = '<form method="post"><button class="pay" name="action" value="pay">Pay {amount}</button></form>'
ROW = '<tr><th scope="row">{what}<small>{when}</small></th><td>{amount}</td></tr>'


def routes(shop: Shop) -> list[web.RouteDef]:
    async def show(request: web.Request) -> web.Response:
        invoice = shop.records.invoices.get(request.match_info["id"])
        return _invoice(invoice) if invoice else not_here("invoice")

    async def pay(request: web.Request) -> web.Response:
        id = request.match_info["id"]
        try:
            subscriptions.pay_invoice(shop, id)
        except Refusal as refusal:
            invoice = shop.records.invoices.get(id)
            return _invoice(invoice, error=str(refusal)) if invoice else not_here("invoice")
        return see(request.path)

    async def receipt(request: web.Request) -> web.Response:
        charge = shop.records.charges.get(request.match_info["id"])
        return _receipt(charge) if charge else not_here("receipt")

    return [
        web.get("/i/{id}", show),
        web.post("/i/{id}", pay),
        web.get("/i/{id}/pdf", show),
        web.get("/receipts/{id}", receipt),
    ]


def _invoice(invoice: Json, *, error: str = "") -> web.Response:
    currency = invoice["currency"]
    discount = invoice["subtotal"] - invoice["total"]
    main = PAGE.substitute(
        title=f"Invoice {escape(invoice['number'])}",
        about=f"{escape(invoice['customer_email'] or '')} · {day(invoice['created'])} · {invoice['status']}",
        error=f'<p class="error" role="alert">{escape(error)}</p>' if error else "",
        lines="".join(_line(line) for line in invoice["lines"]["data"]),
        discount=ROW.format(what="Discount", when="", amount=f"−{money(discount, currency)}")
        if discount
        else "",
        total=money(invoice["total"], currency),
        action=PAY.format(amount=money(invoice["amount_remaining"], currency))
        if invoice["status"] == "open"
        else "",
    )
    return html(main, title=f"Invoice {invoice['number']}")


def _line(line: Json) -> str:
    period = line["period"]
    when = "" if period["start"] == period["end"] else f"{day(period['start'])} – {day(period['end'])}"
    return ROW.format(
        what=escape(line["description"]), when=when, amount=money(line["subtotal"], line["currency"])
    )


def _receipt(charge: Json) -> web.Response:
    currency, back = charge["currency"], charge["amount_refunded"]
    main = PAGE.substitute(
        title="Receipt",
        about=day(charge["created"]),
        error="",
        lines=ROW.format(
            what=escape(charge["description"] or "Payment"), when="", amount=money(charge["amount"], currency)
        ),
        discount=ROW.format(what="Refunded", when="", amount=f"−{money(back, currency)}") if back else "",
        total=money(charge["amount"] - back, currency),
        action="",
    )
    return html(main, title="Receipt")
