"""What credits are sold for: packs, the orders for them, and what Stripe told us of their payment."""

import uuid
from decimal import Decimal

from django.conf import settings
from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import Q
from django.db.models.fields.json import KT
from django.db.models.functions import Now

from billing.credits import to_credits
from billing.currencies import CODE, is_a_code


class Pack(models.Model):
    """A bundle of credits at a price."""

    name = models.CharField(max_length=60)
    credits = models.DecimalField(
        max_digits=15,
        decimal_places=6,
        validators=[MinValueValidator(Decimal(1))],
        help_text="Credits a buyer gets.",
    )
    price_cents = models.PositiveIntegerField(
        validators=[MinValueValidator(50)],
        help_text="In the currency's smallest unit. Stripe takes no less than 50.",
    )
    currency = models.CharField(
        max_length=3, default="usd", validators=[is_a_code], help_text="ISO 4217 code, lower case"
    )
    on_sale = models.BooleanField(default=True)
    position = models.PositiveSmallIntegerField(default=0, help_text="Packs are shown in this order.")

    class Meta:
        ordering = ["position", "price_cents"]
        constraints = [
            models.CheckConstraint(
                condition=Q(credits__gt=0, price_cents__gt=0), name="pack_sells_something"
            ),
            models.CheckConstraint(condition=Q(currency__regex=CODE), name="pack_has_a_currency"),
        ]

    def __str__(self) -> str:
        return self.name


class Order(models.Model):
    """What a person chose to buy, stored before it is paid: credits come from here, never from a payment event.

    PostgreSQL keeps what was ordered as it is, and all of an order once it is paid (migration 0020_what_was_is_fixed).
    """

    class Source(models.TextChoices):
        CHECKOUT = "checkout", "bought by hand"
        AUTO_TOPUP = "auto_topup", "topped up automatically"
        SUBSCRIPTION = "subscription", "a subscription's period"

    class State(models.TextChoices):
        OPEN = "open"
        PENDING = "pending", "waiting for the bank"
        PAID = "paid"
        FAILED = "failed"
        EXPIRED = "expired"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="orders")
    source = models.CharField(max_length=12, choices=Source.choices, default=Source.CHECKOUT)
    pack = models.ForeignKey(
        Pack, models.SET_NULL, null=True, related_name="orders", help_text="Empty for an amount of choice."
    )
    plan = models.ForeignKey("billing.Plan", models.PROTECT, null=True, related_name="orders")
    subscription = models.ForeignKey("billing.Subscription", models.PROTECT, null=True, related_name="orders")
    credits_microcredits = models.BigIntegerField()
    credits_expire_at = models.DateTimeField(null=True)
    amount_cents = models.PositiveIntegerField(help_text="The price; a promotion code may take from it.")
    paid_cents = models.PositiveIntegerField(null=True, help_text="What was really paid.")
    currency = models.CharField(max_length=3)
    state = models.CharField(max_length=8, choices=State.choices, default=State.OPEN)
    # Null and not blank while Stripe has not answered: each session belongs to one order.
    stripe_session = models.CharField(max_length=255, unique=True, null=True)  # noqa: DJ001
    stripe_payment_intent = models.CharField(max_length=255, blank=True)
    stripe_payment_method = models.CharField(
        max_length=255, blank=True, help_text="What an automatic top-up is paid with."
    )
    keeps_card = models.BooleanField(
        default=False, help_text="Whether the buyer lets Stripe keep the card for automatic top-ups."
    )
    stripe_invoice = models.CharField(max_length=255, unique=True, null=True)  # noqa: DJ001
    failure = models.CharField(max_length=60, blank=True, help_text="Stripe's word for why it was not paid.")
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    paid_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.CheckConstraint(
                condition=Q(credits_microcredits__gt=0, amount_cents__gt=0), name="order_is_for_something"
            ),
            models.CheckConstraint(
                condition=Q(state="paid", paid_at__isnull=False, paid_cents__isnull=False)
                | (~Q(state="paid") & Q(paid_at=None, paid_cents=None)),
                name="order_is_paid_at_a_time",
            ),
            models.CheckConstraint(
                condition=~Q(state="paid")
                | Q(stripe_session__isnull=False)
                | Q(stripe_invoice__isnull=False)
                | ~Q(stripe_payment_intent=""),
                name="a_paid_order_names_its_payment",
            ),
            models.CheckConstraint(
                condition=Q(source="subscription", plan__isnull=False, subscription__isnull=False)
                | (~Q(source="subscription") & Q(plan=None, subscription=None)),
                name="order_has_a_plan_if_it_is_of_a_subscription",
            ),
            models.UniqueConstraint(
                "user",
                condition=Q(source="auto_topup", state__in=["open", "pending"]),
                name="one_open_auto_topup_per_person",
            ),
        ]
        indexes = [
            models.Index(fields=["user", "-created_at"], name="orders_of_user"),
            models.Index(
                fields=["stripe_payment_intent"],
                condition=~Q(stripe_payment_intent=""),
                name="orders_by_payment_intent",
            ),
        ]
        permissions = [("refund_orders", "Can refund what people paid")]

    def __str__(self) -> str:
        return f"Order {self.id}"

    @property
    def credits(self) -> Decimal:
        return to_credits(self.credits_microcredits)


class MoneyBack(models.Model):
    """Money of a payment that went back by a refund or dispute; below zero, that it is ours again after all.

    The ledger has what became of the credits, which can be less. All rows of a reversal together are what of the money
    is back now. They are appended under the order's lock, and PostgreSQL refuses to change them (migration
    0019_money_back).
    """

    order = models.ForeignKey(Order, models.PROTECT, related_name="money_back", editable=False)
    reversal = models.CharField(
        max_length=300, editable=False, help_text="As in the ledger's keys: refund:… or dispute:…"
    )
    cents = models.BigIntegerField(editable=False, help_text="In the smallest unit of the order's currency.")
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=~Q(cents=0), name="money_back_is_some"),
        ]
        indexes = [models.Index(fields=["created_at"], name="money_back_by_time")]

    def __str__(self) -> str:
        return f"{self.cents} of {self.reversal}"


class StripeEvent(models.Model):
    """An event as Stripe sent it, and what became of it. A row exists once per event id, and stays as it came."""

    class Outcome(models.TextChoices):
        HANDLED = "handled"
        IGNORED = "ignored"
        FAILED = "failed"

    id = models.CharField(max_length=255, primary_key=True)
    type = models.CharField(max_length=100)
    payload = models.JSONField()
    about = models.GeneratedField(
        expression=KT("payload__data__object__id"),
        output_field=models.TextField(),
        db_persist=True,
        help_text="Stripe's id of what it tells of.",
    )
    outcome = models.CharField(max_length=8, choices=Outcome.choices)
    error = models.TextField(blank=True)
    received_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering = ["-received_at"]
        indexes = [models.Index(fields=["about"], name="events_about_something")]
        permissions = [("replay_events", "Can have events handled again")]

    def __str__(self) -> str:
        return f"{self.type} {self.id}"
