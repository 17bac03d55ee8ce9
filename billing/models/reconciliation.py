"""What came of holding our books against Stripe's."""

from typing import Self

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from billing.models.shop import Order


class ReconciliationQuerySet(models.QuerySet["Reconciliation"]):
    def complete(self) -> Self:
        """Those that looked at everything they were to look at."""
        return self.filter(ended_at__isnull=False, error="")


class Reconciliation(models.Model):
    """One comparison of our books with Stripe's, of what happened between `since` and `began_at`.

    One with an `error` looked at a part only, and the next looks at all of it again.
    """

    began_at = models.DateTimeField(db_default=Now(), editable=False)
    since = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)
    checked = models.JSONField(default=dict, help_text="How many of each kind were compared.")
    error = models.TextField(blank=True)

    objects = ReconciliationQuerySet.as_manager()

    class Meta:
        ordering = ["-began_at"]

    def __str__(self) -> str:
        return f"Reconciliation of {self.began_at:%Y-%m-%d %H:%M}"


class DiscrepancyQuerySet(models.QuerySet["Discrepancy"]):
    def open(self) -> Self:
        """Those that wait for somebody to look into them."""
        return self.filter(mended=False, resolved_at=None)


class Discrepancy(models.Model):
    """Something that Stripe's books and ours do not agree on, found once however long it stays.

    `mended`: what Stripe's event would have done was done by the reconciliation. What it could not mend stands open
    until somebody has looked into it and said what was done.
    """

    class Kind(models.TextChoices):
        NOT_CREDITED = "not_credited", "paid, not credited"
        NOT_PAID = "not_paid", "credited, not paid"
        PAID_TWICE = "paid_twice", "paid twice"
        CREDITED_TWICE = "credited_twice", "credited twice"
        AMOUNT = "amount", "another amount"
        NOT_REVERSED = "not_reversed", "refund or dispute not booked"
        REVERSED = "reversed", "taken back for nothing"
        PAID_BY_NOBODY = "paid_by_nobody", "paid after the account was deleted"

    run = models.ForeignKey(Reconciliation, models.PROTECT, related_name="discrepancies")
    kind = models.CharField(max_length=16, choices=Kind.choices)
    stripe_id = models.CharField("at Stripe", max_length=255, blank=True)
    order = models.ForeignKey(Order, models.PROTECT, null=True, related_name="discrepancies")
    says = models.CharField("what it is", max_length=300)
    expected = models.CharField(max_length=200, help_text="As Stripe's books have it.")
    found = models.CharField(max_length=200, help_text="As ours had it.")
    mended = models.BooleanField(default=False)
    resolved_at = models.DateTimeField(null=True)
    resolved_by = models.CharField(max_length=254, blank=True, help_text="The operator who looked into it.")
    note = models.CharField(max_length=300, blank=True)
    created_at = models.DateTimeField("found at", db_default=Now(), editable=False)

    objects = DiscrepancyQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "discrepancies"
        ordering = ["-created_at", "-pk"]
        constraints = [
            models.CheckConstraint(
                condition=Q(resolved_at=None, resolved_by="", note="")
                | (Q(resolved_at__isnull=False, mended=False) & ~Q(resolved_by="") & ~Q(note="")),
                name="who_resolves_says_how",
            ),
        ]
        indexes = [
            models.Index(
                fields=["created_at"],
                condition=Q(mended=False, resolved_at=None),
                name="discrepancies_that_are_open",
            ),
        ]

    def __str__(self) -> str:
        return self.says
