"""The API's products, prices, subscriptions and invoices."""

from chatapp.local.demo_stripe import billing_objects, subscriptions
from chatapp.local.demo_stripe.lists import matching, page
from chatapp.local.demo_stripe.objects import Json
from chatapp.local.demo_stripe.params import Params
from chatapp.local.demo_stripe.refusals import Refusal, invalid, missing
from chatapp.local.demo_stripe.shop import Shop

INTERVALS = ("day", "week", "month", "year")


# --- Products and prices ---------------------------------------------------------------------------------


def create_product(shop: Shop, id: str, asked: Params) -> Json:
    wanted = asked.text("id")
    if wanted and wanted in shop.records.products:
        raise Refusal(400, f"Product already exists: {wanted}", code="resource_already_exists", param="id")
    made = billing_objects.product(
        id=wanted,
        name=asked.required("name"),
        description=asked.text("description"),
        active=asked.flag("active", default=True) is True,
        metadata=asked.metadata(),
    )
    asked.no_more()
    return _made(shop, shop.records.products, "product", made)


def update_product(shop: Shop, id: str, asked: Params) -> Json:
    product = shop.find("product", id)
    changes = {name: value for name in ("name", "description") if (value := asked.text(name)) is not None}
    return _changed(shop, "product", product, changes, asked)


def retrieve_product(shop: Shop, id: str, asked: Params) -> Json:
    asked.no_more()
    return shop.find("product", id)


def create_price(shop: Shop, id: str, asked: Params) -> Json:
    currency, amount = asked.required("currency").lower(), asked.integer("unit_amount")
    if amount is None:
        raise missing("unit_amount")
    if amount < 0:
        raise invalid("unit_amount", "Invalid non-negative integer")
    nickname, active = asked.text("nickname"), asked.flag("active", default=True) is True
    metadata = asked.metadata()
    recurring, lookup_key = _recurring(asked), _lookup_key(shop, asked)
    product, described = asked.text("product"), asked.hash("product_data")
    if described:
        name, product_metadata = described.required("name"), described.metadata()
        described.no_more()
    asked.no_more()
    if product:
        shop.find("product", product, param="product")
    elif described:
        made = billing_objects.product(
            id=None, name=name, description=None, active=True, metadata=product_metadata
        )
        product = _made(shop, shop.records.products, "product", made)["id"]
    else:
        raise missing("product")
    _free(shop, lookup_key)
    price = billing_objects.price(
        product=product,
        currency=currency,
        unit_amount=amount,
        recurring=recurring,
        lookup_key=lookup_key,
        nickname=nickname,
        active=active,
        metadata=metadata,
    )
    return _made(shop, shop.records.prices, "price", price)


def update_price(shop: Shop, id: str, asked: Params) -> Json:
    price = shop.find("price", id)
    changes = {"lookup_key": _lookup_key(shop, asked, of=id), "nickname": asked.text("nickname")}
    _free(shop, changes["lookup_key"])
    given = {name: value for name, value in changes.items() if value is not None}
    return _changed(shop, "price", price, given, asked)


def retrieve_price(shop: Shop, id: str, asked: Params) -> Json:
    asked.no_more()
    return shop.find("price", id)


def list_prices(shop: Shop, id: str, asked: Params) -> Json:
    keys, active = asked.strings("lookup_keys"), asked.flag("active")
    rows = [
        price
        for price in matching(asked, shop.records.prices.values(), "product", "type")
        if (not keys or price["lookup_key"] in keys) and active in {None, price["active"]}
    ]
    return page(asked, rows, url="/v1/prices")


def _recurring(asked: Params) -> Json | None:
    recurring = asked.hash("recurring")
    if recurring is None:
        return None
    interval, count = recurring.required("interval"), recurring.integer("interval_count")
    recurring.no_more()
    if interval not in INTERVALS:
        raise invalid(recurring.name("interval"), f"Invalid interval: must be one of {', '.join(INTERVALS)}")
    if count is not None and count < 1:
        raise invalid(recurring.name("interval_count"), "Invalid positive integer")
    return {
        "interval": interval,
        "interval_count": count or 1,
        "meter": None,
        "trial_period_days": None,
        "usage_type": "licensed",
    }


def _lookup_key(shop: Shop, asked: Params, *, of: str | None = None) -> str | None:
    """A key that no other price has, unless it is to be taken from that one (`transfer_lookup_key`)."""
    key, transfer = asked.text("lookup_key", longest=200), asked.boolean("transfer_lookup_key")
    for price in shop.records.prices.values():
        if key and price["lookup_key"] == key and price["id"] != of and not transfer:
            raise invalid("lookup_key", f"A price (`{price['id']}`) already uses that lookup key.")
    return key


def _free(shop: Shop, lookup_key: str | None) -> None:
    """The key will be another price's."""
    for id, price in shop.records.prices.items():
        if lookup_key and price["lookup_key"] == lookup_key:
            shop.find("price", id)["lookup_key"] = None


def _made(shop: Shop, rows: dict[str, Json], kind: str, made: Json) -> Json:
    rows[made["id"]] = made
    shop.emit(f"{kind}.created", made)
    return made


def _changed(shop: Shop, kind: str, row: Json, changes: Json, asked: Params) -> Json:
    active, metadata = asked.flag("active"), asked.metadata()
    asked.no_more()
    before = dict(row)
    row.update(changes)
    if active is not None:
        row["active"] = active
    row["metadata"] = {name: value for name, value in {**row["metadata"], **metadata}.items() if value}
    previous = {name: value for name, value in before.items() if value != row[name]}
    shop.emit(f"{kind}.updated", row, previous=previous)
    return row


# --- Subscriptions ---------------------------------------------------------------------------------------


def retrieve_subscription(shop: Shop, id: str, asked: Params) -> Json:
    asked.no_more()
    return shop.find("subscription", id)


def list_subscriptions(shop: Shop, id: str, asked: Params) -> Json:
    status, price = asked.text("status"), asked.text("price")
    rows = []
    for row in matching(asked, shop.records.subscriptions.values(), "customer"):
        fits = row["status"] != "canceled" if status is None else status in {"all", row["status"]}
        if fits and (price is None or any(item["price"]["id"] == price for item in row["items"]["data"])):
            rows.append(row)
    return page(asked, rows, url="/v1/subscriptions")


def update_subscription(shop: Shop, id: str, asked: Params) -> Json:
    subscription = subscriptions.living(shop, id)
    prices = dict(_new_price(shop, subscription, item) for item in asked.hashes("items"))
    anchor, proration = asked.text("billing_cycle_anchor"), asked.text("proration_behavior")
    behavior = asked.text("payment_behavior") or "allow_incomplete"
    ending, metadata = asked.flag("cancel_at_period_end"), asked.metadata()
    method = asked.text("default_payment_method")
    asked.boolean("off_session")
    asked.no_more()
    if anchor not in {None, "now", "unchanged"}:
        raise invalid("billing_cycle_anchor", "billing_cycle_anchor must be one of now, unchanged")
    if behavior not in {"allow_incomplete", "error_if_incomplete"}:
        raise invalid("payment_behavior", "Demo Stripe has allow_incomplete and error_if_incomplete only.")
    if proration not in {None, "none"} or ((prices or anchor == "now") and proration is None):
        raise invalid("proration_behavior", "Demo Stripe has no prorations: proration_behavior must be none.")
    return subscriptions.change(
        shop,
        id,
        prices=prices,
        now_anchored=anchor == "now",
        metadata=metadata,
        cancel_at_period_end=ending,
        default_payment_method=method,
        fail_whole=behavior == "error_if_incomplete",
    )


def _new_price(shop: Shop, subscription: Json, asked: Params) -> tuple[str, Json]:
    item = asked.required("id")
    price = shop.find("price", asked.required("price"), param=asked.name("price"))
    asked.no_more()
    if item not in {row["id"] for row in subscription["items"]["data"]}:
        raise Refusal(404, f"No such subscription_item: '{item}'", param=asked.name("id"))
    if price["recurring"] is None:
        raise invalid(asked.name("price"), "The price specified is set to `type=one_time`.")
    return item, price


def cancel_subscription(shop: Shop, id: str, asked: Params) -> Json:
    asked.boolean("invoice_now")
    asked.boolean("prorate")
    asked.no_more()
    return subscriptions.end(shop, id)


# --- Invoices --------------------------------------------------------------------------------------------


def retrieve_invoice(shop: Shop, id: str, asked: Params) -> Json:
    asked.no_more()
    return shop.find("invoice", id)


def list_invoices(shop: Shop, id: str, asked: Params) -> Json:
    subscription = asked.text("subscription")
    rows = [
        invoice
        for invoice in matching(asked, shop.records.invoices.values(), "customer", "status")
        if subscription is None or _subscription_of(invoice) == subscription
    ]
    return page(asked, rows, url="/v1/invoices")


def _subscription_of(invoice: Json) -> str | None:
    return invoice["parent"] and invoice["parent"]["subscription_details"]["subscription"]


def list_invoice_payments(shop: Shop, id: str, asked: Params) -> Json:
    rows = matching(asked, shop.records.invoice_payments.values(), "invoice", "status")
    payment = asked.hash("payment")
    if payment:
        if payment.required("type") != "payment_intent":
            raise invalid(payment.name("type"), "Demo Stripe only has payment_intent.")
        intent = payment.required("payment_intent")
        payment.no_more()
        rows = [row for row in rows if row["payment"]["payment_intent"] == intent]
    return page(asked, rows, url="/v1/invoice_payments")


def retrieve_invoice_payment(shop: Shop, id: str, asked: Params) -> Json:
    asked.no_more()
    return shop.find("invoice_payment", id)


CALLS = [
    ("POST", "/v1/products", create_product),
    ("GET", "/v1/products/{id}", retrieve_product),
    ("POST", "/v1/products/{id}", update_product),
    ("POST", "/v1/prices", create_price),
    ("GET", "/v1/prices", list_prices),
    ("GET", "/v1/prices/{id}", retrieve_price),
    ("POST", "/v1/prices/{id}", update_price),
    ("GET", "/v1/subscriptions", list_subscriptions),
    ("GET", "/v1/subscriptions/{id}", retrieve_subscription),
    ("POST", "/v1/subscriptions/{id}", update_subscription),
    ("DELETE", "/v1/subscriptions/{id}", cancel_subscription),
    ("GET", "/v1/invoices", list_invoices),
    ("GET", "/v1/invoices/{id}", retrieve_invoice),
    ("GET", "/v1/invoice_payments", list_invoice_payments),
    ("GET", "/v1/invoice_payments/{id}", retrieve_invoice_payment),
]
