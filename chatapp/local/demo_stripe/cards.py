"""Payment methods that a customer keeps for later."""

from chatapp.local.demo_stripe import money_objects
from chatapp.local.demo_stripe.objects import Json
from chatapp.local.demo_stripe.refusals import Refusal
from chatapp.local.demo_stripe.shop import Shop


def add(shop: Shop, customer: str, *, last4: str = "4242") -> Json:
    """A new card of this customer."""
    email = shop.find("customer", customer)["email"]
    method = money_objects.payment_method(type="card", email=email, last4=last4)
    shop.records.payment_methods[method["id"]] = method
    attach(shop, method, customer)
    return method


def attach(shop: Shop, method: Json, customer: str) -> None:
    method["customer"] = customer
    shop.emit("payment_method.attached", method)


def detach(shop: Shop, method: Json) -> Json:
    if method["customer"] is None:
        raise Refusal(400, "The payment method you provided is not attached to a customer.")
    customer, method["customer"] = shop.find("customer", method["customer"]), None
    if customer["invoice_settings"]["default_payment_method"] == method["id"]:
        customer["invoice_settings"]["default_payment_method"] = None
    shop.emit("payment_method.detached", method, previous={"customer": customer["id"]})
    return method


def make_default(shop: Shop, customer: Json, method: str) -> None:
    """What invoices of this customer are paid with; Refusal if it is not the customer's."""
    owned(shop, method, customer["id"], param="invoice_settings[default_payment_method]")
    customer["invoice_settings"]["default_payment_method"] = method


def owned(shop: Shop, id: str, customer: str, *, param: str) -> Json:
    """The payment method, which must be this customer's."""
    method = shop.find("payment_method", id, param=param)
    if method["customer"] != customer:
        raise Refusal(
            400, f"The payment method {id} does not belong to the Customer {customer}.", param=param
        )
    return method


def of(shop: Shop, customer: str) -> list[Json]:
    return [method for method in shop.records.payment_methods.values() if method["customer"] == customer]


def default_of(shop: Shop, customer: str) -> Json | None:
    """What is charged when nobody says with what."""
    named = shop.find("customer", customer)["invoice_settings"]["default_payment_method"]
    kept = of(shop, customer)
    return shop.find("payment_method", named) if named else kept[-1] if kept else None
