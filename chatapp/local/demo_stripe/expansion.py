"""`expand`: whole objects in place of their ids, and the parts that are only given to those who ask."""

from collections.abc import Callable

from chatapp.local.demo_stripe import invoices, promotions
from chatapp.local.demo_stripe.lists import whole
from chatapp.local.demo_stripe.objects import Json
from chatapp.local.demo_stripe.refusals import Refusal
from chatapp.local.demo_stripe.shop import Shop

# What an id begins with tells what it is of.
KINDS = {
    "ch": "charge",
    "cus": "customer",
    "dp": "dispute",
    "in": "invoice",
    "pi": "payment_intent",
    "pm": "payment_method",
    "price": "price",
    "prod": "product",
    "re": "refund",
    "sub": "subscription",
}


def _line_items(shop: Shop, session: Json) -> Json:
    url = f"/v1/checkout/sessions/{session['id']}/line_items"
    return whole(shop.records.line_items[session["id"]], url=url)


def _payments(shop: Shop, invoice: Json) -> Json:
    url = f"/v1/invoice_payments?invoice={invoice['id']}"
    return whole(invoices.payments_of(shop, invoice["id"]), url=url)


def _refunds(shop: Shop, charge: Json) -> Json:
    rows = [refund for refund in shop.records.refunds.values() if refund["charge"] == charge["id"]]
    return whole(rows[::-1], url=f"/v1/charges/{charge['id']}/refunds")


_ON_REQUEST: dict[tuple[str, str], Callable[[Shop, Json], Json]] = {
    ("checkout.session", "line_items"): _line_items,
    ("invoice", "payments"): _payments,
    ("charge", "refunds"): _refunds,
}


def expanded(shop: Shop, given: Json, paths: list[str]) -> Json:
    """A copy of an object, or of a list (`data.…`), with what the dotted `paths` name put in place."""
    for path in paths:
        given = _put_in_place(shop, given, path.split("."), path)
    return given


def _put_in_place(shop: Shop, node: Json, parts: list[str], path: str) -> Json:
    name, rest = parts[0], parts[1:]
    on_request = _ON_REQUEST.get((node.get("object", ""), name))
    if name not in node and on_request:
        value = on_request(shop, node)
    elif name in node:
        value = node[name]
    else:
        raise _cannot(path)
    if isinstance(value, str):
        value = _object(shop, value, path)
    elif not rest and not on_request and value is not None:
        raise _cannot(path)
    if rest and isinstance(value, dict):
        value = _put_in_place(shop, value, rest, path)
    elif rest and isinstance(value, list):
        value = [_put_in_place(shop, row, rest, path) for row in value]
    return {**node, name: value}


def _object(shop: Shop, id: str, path: str) -> Json:
    if id in promotions.PROMOTION_CODES:
        return promotions.PROMOTION_CODES[id]
    kind = KINDS.get(id.partition("_")[0])
    if kind is None:
        raise _cannot(path)
    return shop.find(kind, id)


def _cannot(path: str) -> Refusal:
    return Refusal(400, f"This property cannot be expanded ({path}).", param="expand")
