"""What people are told of their credits by e-mail: what they want to hear, and the mails on their way."""

from decimal import Decimal
from typing import Self

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from billing.credits import MICROCREDITS_PER_CREDIT, to_credits
from billing.models.ledger import Transfer
from billing.models.shop import Order

DEFAULT_THRESHOLD = 20 * MICROCREDITS_PER_CREDIT


class LowBalanceNotice(models.Model):
    """Below which balance a person wants to hear of it. Whoever has no row wants the default.

    Whether they were told since the balance was last above it can be read from the ledger, which forgets nothing.
    """

    user = models.OneToOneField(settings.AUTH_USER_MODEL, models.CASCADE, related_name="low_balance_notice")
    threshold = models.BigIntegerField(default=DEFAULT_THRESHOLD, help_text="Microcredits; 0 for never.")
    told_at = models.ForeignKey(
        Transfer,
        models.PROTECT,
        null=True,
        related_name="+",
        help_text="The last movement before the person was told, or knew.",
    )

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(threshold__gte=0), name="low_balance_is_not_negative"),
        ]

    def __str__(self) -> str:
        return f"Notice below {self.threshold_credits} credits"

    @property
    def threshold_credits(self) -> Decimal:
        return to_credits(self.threshold)


class MailQuerySet(models.QuerySet["Mail"]):
    def waiting(self) -> Self:
        """Those to be sent now."""
        return self.filter(sent_at=None, given_up_at=None, due_at__lte=Now())


class Mail(models.Model):
    """A mail that somebody is owed. Stored with what it tells of, so that neither is ever without the other.

    `key` says what it is about and keeps it from being sent twice. `facts` is what was so when it was written.
    """

    class Kind(models.TextChoices):
        RECEIPT = "receipt"
        LOW_BALANCE = "low_balance"
        TOPUP_FAILED = "topup_failed"
        TOPUP_STOPPED = "topup_stopped"
        PLAN_UNPAID = "plan_unpaid"
        DEBT = "debt"
        DISCREPANCIES = "discrepancies"

    key = models.CharField(max_length=200, unique=True)
    kind = models.CharField(max_length=16, choices=Kind.choices)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="+")
    order = models.ForeignKey(Order, models.PROTECT, null=True, related_name="+")
    facts = models.JSONField(default=dict)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    due_at = models.DateTimeField(db_default=Now())
    tries = models.PositiveSmallIntegerField(default=0)
    sent_at = models.DateTimeField(null=True)
    given_up_at = models.DateTimeField(null=True)

    objects = MailQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]
        indexes = [
            models.Index(
                fields=["due_at"], condition=Q(sent_at=None, given_up_at=None), name="mails_on_their_way"
            ),
        ]
        constraints = [
            models.CheckConstraint(
                condition=Q(sent_at=None) | Q(given_up_at=None),
                name="a_mail_is_sent_or_given_up",
            ),
        ]

    def __str__(self) -> str:
        return self.key
