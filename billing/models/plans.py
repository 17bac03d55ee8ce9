"""Who pays again and again: customers as Stripe knows them, plans and subscriptions to them, automatic top-ups."""

import calendar
import uuid
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Self

from django.conf import settings
from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from billing.credits import to_credits, to_microcredits
from billing.currencies import CODE, is_a_code
from billing.models.shop import Pack

# Stripe's shortest is 30 minutes. Short enough that a price that has changed is not sold for a day.
CHECKOUT_LASTS = timedelta(hours=1)


class Customer(models.Model):
    """A person as Stripe knows them. The row outlives the person: what Stripe tells of the customer is still ours."""

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="stripe_customer"
    )
    stripe_id = models.CharField(max_length=255, unique=True)
    email = models.EmailField("e-mail address at Stripe", blank=True)
    is_forgotten = models.BooleanField(
        default=False, help_text="Whether Stripe has deleted it: the next payment makes another."
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    def __str__(self) -> str:
        return self.stripe_id


class Plan(models.Model):
    """Credits for each period that is paid.

    What people have subscribed to stays what it was: once Stripe knows its price, PostgreSQL refuses to change
    credits, price, currency, period or expiry (migration 0006_customers_and_plans). A new offer is a new plan.
    """

    class Interval(models.TextChoices):
        MONTH = "month"
        YEAR = "year"

    class Last(models.TextChoices):
        PERIOD = "period", "until the period ends"
        FOREVER = "forever", "until they are used"

    name = models.CharField(max_length=60)
    credits = models.DecimalField(
        max_digits=15,
        decimal_places=6,
        validators=[MinValueValidator(Decimal(1))],
        help_text="Credits for each period.",
    )
    price_cents = models.PositiveIntegerField(
        validators=[MinValueValidator(50)],
        help_text="For each period, in the currency's smallest unit. Stripe takes no less than 50.",
    )
    currency = models.CharField(
        max_length=3, default="usd", validators=[is_a_code], help_text="ISO 4217 code, lower case"
    )
    interval = models.CharField("period", max_length=5, choices=Interval.choices, default=Interval.MONTH)
    credits_last = models.CharField(max_length=7, choices=Last.choices, default=Last.PERIOD)
    on_sale = models.BooleanField(default=True)
    position = models.PositiveSmallIntegerField(default=0, help_text="Plans are shown in this order.")
    # Null until the plan is first chosen. Such a price never changes at Stripe, nor does the plan from then on.
    stripe_price = models.CharField(max_length=255, unique=True, null=True, editable=False)  # noqa: DJ001

    class Meta:
        ordering = ["position", "price_cents"]
        constraints = [
            models.CheckConstraint(
                condition=Q(credits__gt=0, price_cents__gt=0), name="plan_sells_something"
            ),
            models.CheckConstraint(condition=Q(currency__regex=CODE), name="plan_has_a_currency"),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def credits_microcredits(self) -> int:
        return to_microcredits(self.credits)

    def period_from(self, begins: datetime) -> datetime:
        """When a period ends that begins then: on the same day of a later month, or else on that month's last."""
        months = begins.year * 12 + begins.month - 1 + (12 if self.interval == self.Interval.YEAR else 1)
        year, month = months // 12, months % 12 + 1
        return begins.replace(
            year=year, month=month, day=min(begins.day, calendar.monthrange(year, month)[1])
        )

    @property
    def is_fixed(self) -> bool:
        """Whether somebody may have subscribed to it, so that its terms can no longer change."""
        return self.stripe_price is not None


class PlanCheckout(models.Model):
    """A visit to Stripe's page to subscribe. A person has one at a time, so nobody subscribes twice in two tabs."""

    class State(models.TextChoices):
        OPEN = "open"
        COMPLETE = "complete"
        EXPIRED = "expired"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="plan_checkouts"
    )
    plan = models.ForeignKey(Plan, models.PROTECT, related_name="checkouts")
    state = models.CharField(max_length=8, choices=State.choices, default=State.OPEN)
    # Null and not blank while Stripe has not answered.
    stripe_session = models.CharField(max_length=255, unique=True, null=True)  # noqa: DJ001
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                "user", condition=Q(state="open"), name="one_open_plan_checkout_per_person"
            ),
        ]

    def __str__(self) -> str:
        return f"Checkout of plan {self.plan_id} {self.id}"


class SubscriptionQuerySet(models.QuerySet["Subscription"]):
    def live(self) -> Self:
        """Those that may still take money."""
        return self.exclude(status__in=Subscription.ENDED)


class Subscription(models.Model):
    """A person's subscription, as Stripe had it at `as_of`."""

    class Status(models.TextChoices):
        INCOMPLETE = "incomplete", "waiting for its first payment"
        INCOMPLETE_EXPIRED = "incomplete_expired", "never paid"
        TRIALING = "trialing", "on trial"
        ACTIVE = "active"
        PAST_DUE = "past_due", "past due"
        UNPAID = "unpaid"
        PAUSED = "paused"
        CANCELED = "canceled"

    ENDED = (Status.CANCELED, Status.INCOMPLETE_EXPIRED)
    PAID_UP = (Status.TRIALING, Status.ACTIVE)
    UNPAID = (Status.INCOMPLETE, Status.PAST_DUE, Status.UNPAID)

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="subscriptions"
    )
    plan = models.ForeignKey(Plan, models.PROTECT, related_name="subscriptions")
    stripe_id = models.CharField(max_length=255, unique=True)
    stripe_item = models.CharField(max_length=255, help_text="Stripe's id of the line that holds the plan.")
    status = models.CharField(max_length=18, choices=Status.choices)
    current_period_end = models.DateTimeField()
    cancel_at_period_end = models.BooleanField(default=False)
    as_of = models.DateTimeField(help_text="When Stripe was asked for what stands here.")
    told_of = models.CharField(
        max_length=255, blank=True, help_text="The failed attempt to pay that the person was told of last."
    )
    refused_changes = models.PositiveIntegerField(
        default=0, help_text="How often the bank refused to pay for another plan."
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    objects = SubscriptionQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return self.stripe_id

    @property
    def is_unpaid(self) -> bool:
        """Whether an invoice waits for the person."""
        return self.status in self.UNPAID


class AutoTopUpQuerySet(models.QuerySet["AutoTopUp"]):
    def running(self) -> Self:
        """Those that buy when their owner, who may sign in, runs low."""
        running = self.filter(enabled=True, paused_because="", user__is_active=True)
        return running.exclude(payment_method="")


class AutoTopUp(models.Model):
    """A person's standing order: below a threshold, buy so much, with the card that they let Stripe keep for it.

    What is bought is `pack`, or else credits for `amount_cents` at par. Only dollars, so that the cap of a
    calendar month (UTC) is one sum.
    """

    class Pause(models.TextChoices):
        NO_CARD = "no_card", "no card is kept for it"
        AUTHENTICATION_REQUIRED = "authentication_required", "the bank wants the payment confirmed"
        REFUSED = "refused", "the bank refused the payment"
        NOTHING_TO_BUY = "nothing_to_buy", "its pack is no longer on sale"
        REVERSED = "reversed", "a payment was refunded or disputed"

    user = models.OneToOneField(settings.AUTH_USER_MODEL, models.CASCADE, related_name="auto_topup")
    enabled = models.BooleanField(default=False)
    threshold_microcredits = models.BigIntegerField()
    pack = models.ForeignKey(Pack, models.SET_NULL, null=True, blank=True, related_name="auto_topups")
    amount_cents = models.PositiveIntegerField(null=True, blank=True, help_text="US cents")
    monthly_cap_cents = models.PositiveIntegerField(help_text="US cents in a calendar month, UTC")
    payment_method = models.CharField(max_length=255, blank=True, help_text="Stripe's id of the card.")
    card = models.CharField(max_length=60, blank=True, help_text="As its owner knows it, such as Visa 4242.")
    paused_because = models.CharField(max_length=24, choices=Pause.choices, blank=True)
    changed_at = models.DateTimeField(auto_now=True)

    objects = AutoTopUpQuerySet.as_manager()

    class Meta:
        verbose_name = "automatic top-up"
        constraints = [
            models.CheckConstraint(
                condition=Q(threshold_microcredits__gte=0, monthly_cap_cents__gt=0)
                & (Q(amount_cents=None) | Q(amount_cents__gt=0)),
                name="auto_topup_is_within_reason",
            ),
            models.CheckConstraint(
                condition=Q(pack=None) | Q(amount_cents=None), name="auto_topup_buys_one_thing"
            ),
        ]

    def __str__(self) -> str:
        return f"Automatic top-up of {self.user}"

    @property
    def threshold(self) -> Decimal:
        """In credits."""
        return to_credits(self.threshold_microcredits)

    @property
    def monthly_cap(self) -> Decimal:
        """In dollars."""
        return Decimal(self.monthly_cap_cents).scaleb(-2)

    @property
    def waits_for_payment(self) -> bool:
        """Whether a payment by its owner in person sets it going again."""
        return self.enabled and self.paused_because in {
            self.Pause.NO_CARD,
            self.Pause.AUTHENTICATION_REQUIRED,
            self.Pause.REFUSED,
            self.Pause.REVERSED,
        }
