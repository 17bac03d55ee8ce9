"""Each person is one customer at Stripe: their cards, invoices and subscriptions hang on it."""

from accounts.models import User
from billing.models import AutoTopUp, Customer
from billing.stripe_gateway import customers
from billing.stripe_gateway.customers import open_portal


def customer_of(user: User) -> Customer:
    """The person's customer, made at the first call, with their present e-mail address.

    PaymentUnavailable when Stripe cannot be asked. However often and from wherever it is called, and whatever answer
    is lost, there is one customer.
    """
    customer = Customer.objects.filter(user=user).first() or _made(user)
    if customer.email != user.email:
        customers.update_email(customer.stripe_id, user.email)
        Customer.objects.filter(pk=customer.pk).update(email=user.email)
    return customer


def _made(user: User) -> Customer:
    stripe_id = customers.create_customer(user.pk)
    Customer.objects.bulk_create([Customer(user=user, stripe_id=stripe_id)], ignore_conflicts=True)
    return Customer.objects.get(user=user)


def portal_url(user: User, *, return_url: str) -> str:
    """Where a person looks after their cards, invoices and subscription at Stripe."""
    return open_portal(customer_of(user).stripe_id, return_url=return_url)


def card_is_gone(payment_method: str) -> bool:
    """Stop the automatic top-ups that were to be paid with it; whether there were any."""
    rules = AutoTopUp.objects.filter(payment_method=payment_method)
    return bool(rules.update(payment_method="", card="", paused_because=AutoTopUp.Pause.NO_CARD))
