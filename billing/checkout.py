"""From the offers on a page to Stripe's payment page."""

import uuid
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

from django.db.models.functions import Now

from accounts.models import User
from billing.credits import CREDITS_PER_USD, to_microcredits
from billing.customers import customer_of, forget
from billing.errors import CustomerForgotten, RequestRefused
from billing.models import Customer, Order, Pack
from billing.stripe_gateway import create_checkout

# Two clicks on one button are this close together; later the same button is another purchase.
SAME_CLICK = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Purchase:
    """What somebody chose: so many microcredits for so much, as a pack or as an amount of their choice."""

    pack: Pack | None
    credits_microcredits: int
    amount_cents: int
    currency: str

    @classmethod
    def of_pack(cls, pack: Pack) -> "Purchase":
        return cls(
            pack=pack,
            credits_microcredits=to_microcredits(pack.credits),
            amount_cents=pack.price_cents,
            currency=pack.currency,
        )

    @classmethod
    def of_amount(cls, amount_cents: int) -> "Purchase":
        """Credits at par for US cents."""
        return cls(
            pack=None,
            credits_microcredits=to_microcredits(Decimal(amount_cents * CREDITS_PER_USD) / 100),
            amount_cents=amount_cents,
            currency="usd",
        )

    @property
    def dollars(self) -> str:
        """The price as it is typed, such as "12.50"."""
        return f"{Decimal(self.amount_cents).scaleb(-2):.2f}"


@dataclass(frozen=True, slots=True)
class Offer:
    """A pack as one button of one page: `order` is what pressing it makes, `extra` the credits on top."""

    pack: Pack
    order: uuid.UUID
    extra: Decimal


def offer(pack: Pack) -> Offer:
    at_par = Decimal(pack.price_cents * CREDITS_PER_USD) / 100 if pack.currency == "usd" else pack.credits
    return Offer(pack=pack, order=uuid.uuid4(), extra=pack.credits - at_par)


def open_checkout(
    *,
    user: User,
    purchase: Purchase,
    order_id: uuid.UUID | None,
    keeps_card: bool = False,
    success_url: str,
    cancel_url: str,
) -> str:
    """The URL at which `user` pays for `purchase`; PaymentUnavailable when Stripe cannot open one.

    The order is stored before Stripe hears of it: what it says is what will be credited. `order_id` comes
    with the button, so that a double click opens one checkout and not two. `keeps_card`: the buyer lets Stripe keep
    what they pay with for automatic top-ups.
    """
    order = _order(user, purchase, order_id, keeps_card)

    def create(customer: Customer | None) -> tuple[str, str]:
        return create_checkout(
            order, customer=customer, email=user.email, success_url=success_url, cancel_url=cancel_url
        )

    customer = _customer(user, keeps_card)
    try:
        session_id, url = create(customer)
    except CustomerForgotten:
        if customer is not None:
            forget(customer.stripe_id)
        session_id, url = create(_customer(user, keeps_card))
    Order.objects.filter(pk=order.pk, stripe_session=None).update(stripe_session=session_id)
    return url


def _customer(user: User, keeps_card: bool) -> Customer | None:
    """Whoever pays; None where the key may not make customers, without whom only cards cannot be kept."""
    try:
        return customer_of(user)
    except RequestRefused:
        if keeps_card:
            raise
        return None


def _order(user: User, purchase: Purchase, order_id: uuid.UUID | None, keeps_card: bool) -> Order:
    """The order of this button if it was just pressed, or a new one."""
    facts = {
        "user": user,
        "pack": purchase.pack,
        "credits_microcredits": purchase.credits_microcredits,
        "amount_cents": purchase.amount_cents,
        "currency": purchase.currency,
        "keeps_card": keeps_card,
    }
    if order_id is not None:
        order, made = Order.objects.get_or_create(id=order_id, defaults=facts)
        again = Order.objects.filter(
            pk=order.pk, state=Order.State.OPEN, created_at__gt=Now() - SAME_CLICK, **facts
        )
        if made or again.exists():
            return order
    return Order.objects.create(**facts)
