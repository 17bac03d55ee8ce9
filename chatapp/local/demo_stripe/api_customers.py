"""The API's customers, the payment methods they keep, and their way into the portal."""

from chatapp.local.demo_stripe import billing_objects, cards, objects, subscriptions
from chatapp.local.demo_stripe.lists import matching, page
from chatapp.local.demo_stripe.objects import Json
from chatapp.local.demo_stripe.params import Params
from chatapp.local.demo_stripe.refusals import missing
from chatapp.local.demo_stripe.shop import Shop


def create_customer(shop: Shop, id: str, asked: Params) -> Json:
    made = objects.customer(email=asked.text("email"), name=asked.text("name"), metadata=asked.metadata())
    asked.no_more()
    shop.records.customers[made["id"]] = made
    shop.emit("customer.created", made)
    return made


def retrieve_customer(shop: Shop, id: str, asked: Params) -> Json:
    asked.no_more()
    return shop.find("customer", id)


def update_customer(shop: Shop, id: str, asked: Params) -> Json:
    customer = shop.find("customer", id)
    changes = {
        name: value for name in ("email", "name", "description") if (value := asked.text(name)) is not None
    }
    metadata = asked.metadata()
    settings = asked.hash("invoice_settings")
    method = settings.text("default_payment_method") if settings else None
    if settings:
        settings.no_more()
    asked.no_more()
    before = {**customer, "invoice_settings": dict(customer["invoice_settings"])}
    if method:
        cards.make_default(shop, customer, method)
    customer.update(changes)
    # Stripe adds to metadata; an empty value takes a key away.
    customer["metadata"] = {
        name: value for name, value in {**customer["metadata"], **metadata}.items() if value
    }
    previous = {name: before[name] for name in customer if before[name] != customer[name]}
    shop.emit("customer.updated", customer, previous=previous)
    return customer


def delete_customer(shop: Shop, id: str, asked: Params) -> Json:
    """As from the dashboard too: what it subscribed to ends at once, and its cards are gone."""
    asked.no_more()
    customer = shop.find("customer", id)
    for row in list(shop.records.subscriptions.values()):
        if row["customer"] == id and row["status"] not in subscriptions.ENDED:
            subscriptions.end(shop, row["id"])
    for method in cards.of(shop, id):
        cards.detach(shop, shop.find("payment_method", method["id"]))
    del shop.records.customers[id]
    shop.emit("customer.deleted", customer)
    return {"id": id, "object": "customer", "deleted": True}


def list_customers(shop: Shop, id: str, asked: Params) -> Json:
    return page(asked, matching(asked, shop.records.customers.values(), "email"), url="/v1/customers")


def list_methods_of_customer(shop: Shop, id: str, asked: Params) -> Json:
    customer = shop.find("customer", id)["id"]
    rows = matching(asked, cards.of(shop, customer), "type")
    return page(asked, rows, url=f"/v1/customers/{customer}/payment_methods")


def list_methods(shop: Shop, id: str, asked: Params) -> Json:
    rows = cards.of(shop, shop.find("customer", asked.required("customer"), param="customer")["id"])
    return page(asked, matching(asked, rows, "type"), url="/v1/payment_methods")


def retrieve_method(shop: Shop, id: str, asked: Params) -> Json:
    asked.no_more()
    return shop.find("payment_method", id)


def detach_method(shop: Shop, id: str, asked: Params) -> Json:
    asked.no_more()
    return cards.detach(shop, shop.find("payment_method", id))


def open_portal(shop: Shop, id: str, asked: Params) -> Json:
    customer = asked.required("customer")
    return_url, locale = asked.url("return_url"), asked.text("locale")
    asked.no_more()
    if not return_url:
        # With Stripe it may be left to the portal's settings; there are none here.
        raise missing("return_url")
    made = billing_objects.portal_session(
        public_url=shop.public_url,
        customer=shop.find("customer", customer, param="customer")["id"],
        return_url=return_url,
        locale=locale,
    )
    shop.records.portals[made["id"]] = made
    return made


CALLS = [
    ("POST", "/v1/customers", create_customer),
    ("GET", "/v1/customers", list_customers),
    ("GET", "/v1/customers/{id}", retrieve_customer),
    ("POST", "/v1/customers/{id}", update_customer),
    ("DELETE", "/v1/customers/{id}", delete_customer),
    ("GET", "/v1/customers/{id}/payment_methods", list_methods_of_customer),
    ("GET", "/v1/payment_methods", list_methods),
    ("GET", "/v1/payment_methods/{id}", retrieve_method),
    ("POST", "/v1/payment_methods/{id}/detach", detach_method),
    ("POST", "/v1/billing_portal/sessions", open_portal),
]
