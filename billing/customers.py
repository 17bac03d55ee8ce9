"""Each person is one customer at Stripe: their cards, invoices and subscriptions hang on it."""

from collections.abc import Callable
from typing import TypeVar

import structlog
from django.db import transaction
from django.db.models import QuerySet

from accounts.models import User
from billing import mails
from billing.errors import CustomerForgotten
from billing.models import AutoTopUp, Customer
from billing.stripe_gateway import customers
from billing.stripe_gateway.customers import open_portal

log = structlog.get_logger(__name__)

T = TypeVar("T")


def customer_of(user: User) -> Customer:
    """The person's customer, made at the first call, with their present e-mail address.

    PaymentUnavailable when Stripe cannot be asked. However often and from wherever it is called, and whatever answer
    is lost, there is one customer; another, once Stripe has deleted it.
    """
    return with_customer(user, lambda customer: customer)


def with_customer(user: User, use: Callable[[Customer], T]) -> T:
    """What `use` makes of the person's customer; of a new one, if it turns out that Stripe has deleted theirs."""
    try:
        return use(_up_to_date(user))
    except CustomerForgotten:
        forget(Customer.objects.get(user=user).stripe_id)
        return use(_up_to_date(user))


@transaction.atomic
def forget(stripe_id: str) -> bool:
    """Do what follows from a customer being deleted at Stripe; whether it was one of ours.

    Their cards are gone with it, so automatic top-ups stop, and the person is told. The row stays, for what Stripe may
    still tell of it, until another takes its place.
    """
    rows = Customer.objects.select_for_update(of=("self",)).select_related("user")
    customer = rows.filter(stripe_id=stripe_id).first()
    if customer is None:
        return False
    if not customer.is_forgotten:
        log.warning("customer deleted at Stripe", customer=stripe_id, user=str(customer.user_id))
        Customer.objects.filter(pk=customer.pk).update(is_forgotten=True)
    if customer.user is not None:
        _stop_topups(AutoTopUp.objects.filter(user=customer.user))
    return True


def _up_to_date(user: User) -> Customer:
    customer = Customer.objects.filter(user=user).first()
    if customer is None:
        customer = _made(user)
    elif customer.is_forgotten:
        customer = _made_anew(customer, user)
    if customer.email != user.email:
        customers.update_email(customer.stripe_id, user.email)
        Customer.objects.filter(pk=customer.pk).update(email=user.email)
    return customer


def _made(user: User) -> Customer:
    stripe_id = customers.create_customer(user.pk)
    Customer.objects.bulk_create([Customer(user=user, stripe_id=stripe_id)], ignore_conflicts=True)
    return Customer.objects.get(user=user)


def _made_anew(customer: Customer, user: User) -> Customer:
    stripe_id = customers.create_customer(user.pk, after=customer.stripe_id)
    Customer.objects.filter(pk=customer.pk, stripe_id=customer.stripe_id).update(
        stripe_id=stripe_id, email="", is_forgotten=False
    )
    return Customer.objects.get(user=user)


def portal_url(user: User, *, return_url: str) -> str:
    """Where a person looks after their cards, invoices and subscription at Stripe."""
    return with_customer(user, lambda customer: open_portal(customer.stripe_id, return_url=return_url))


def card_is_gone(payment_method: str) -> bool:
    """Stop the automatic top-ups that were to be paid with it, in the caller's transaction; whether there were any."""
    return _stop_topups(AutoTopUp.objects.filter(payment_method=payment_method))


def _stop_topups(rules: QuerySet[AutoTopUp]) -> bool:
    """Stop those whose card Stripe keeps no more, and tell whose they are; whether there were any."""
    found = list(rules.exclude(payment_method="").select_for_update(of=("self",)).select_related("user"))
    for rule in found:
        if rule.enabled and not rule.paused_because:
            mails.topup_stopped(rule.user, card=rule.payment_method)
        # That money went back counts for more.
        if rule.paused_because != AutoTopUp.Pause.REVERSED:
            rule.paused_because = AutoTopUp.Pause.NO_CARD
        rule.payment_method = rule.card = ""
        rule.save()
    return bool(found)
