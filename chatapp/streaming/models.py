"""What each answer used, and what the house asked for itself, kept apart from the conversations they belong to."""

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models.functions import Now

from billing.models import LanguageModel, Price
from chatapp.conversations.models import Turn


class UsageRecord(models.Model):
    """Tokens, money and time of one ended turn; written by Celery after the stream, once per turn."""

    turn = models.OneToOneField(Turn, models.CASCADE, primary_key=True, related_name="usage_record")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+")
    conversation_id = models.UUIDField(null=True)
    model = models.ForeignKey(LanguageModel, models.PROTECT, related_name="+")
    provider = models.CharField(max_length=20)
    state = models.CharField(max_length=11, choices=Turn.State.choices)
    input_tokens = models.PositiveIntegerField()
    output_tokens = models.PositiveIntegerField()
    cache_read_tokens = models.PositiveIntegerField()
    cache_write_5m_tokens = models.PositiveIntegerField()
    cache_write_1h_tokens = models.PositiveIntegerField()
    cost = models.BigIntegerField(help_text="Microcredits asked by the provider")
    charged = models.BigIntegerField(help_text="Microcredits paid by the person")
    duration_ms = models.PositiveIntegerField()
    first_token_ms = models.PositiveIntegerField(null=True)
    ended_at = models.DateTimeField()
    recorded_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering = ["-ended_at"]
        indexes = [
            models.Index(fields=["ended_at"], name="usage_by_time"),
            models.Index(fields=["user", "ended_at"], name="usage_of_user_by_time"),
        ]

    def __str__(self) -> str:
        return f"usage of turn {self.turn_id}"


class GuardFinding(models.Model):
    """A message that broke rules of the prompt guard, and what came of it. Its text is not kept, only how long it was
    and a hash by which it can be recognized. Rows are added and never changed.
    """

    class Policy(models.TextChoices):
        FLAG = "flag", "flagged"
        REFUSE = "refuse", "refused"

    found_at = models.DateTimeField(db_default=Now(), editable=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+")
    # No foreign key: the turn of a message that was refused was never opened.
    turn_id = models.UUIDField()
    rules = ArrayField(models.CharField(max_length=40))
    policy = models.CharField(max_length=6, choices=Policy.choices, help_text="In force when it was found")
    text_length = models.PositiveIntegerField(help_text="Characters")
    text_sha256 = models.CharField(max_length=64)

    class Meta:
        ordering = ["-found_at"]
        verbose_name = "guard finding"
        indexes = [
            models.Index(fields=["-found_at"], name="findings_by_time"),
            models.Index(fields=["turn_id"], name="findings_of_turn"),
        ]

    def __str__(self) -> str:
        return f"message of {self.text_length} characters, {self.get_policy_display()}"


class HouseUsage(models.Model):
    """Tokens and cost of one answer that the house asked for by itself, and pays: on nobody's statement.

    Also of one that broke off, as far as they are known.
    """

    class Purpose(models.TextChoices):
        SUMMARY = "summary"
        TITLE = "title"

    purpose = models.CharField(max_length=7, choices=Purpose.choices)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+")
    conversation_id = models.UUIDField(null=True)
    model = models.ForeignKey(LanguageModel, models.PROTECT, related_name="+")
    price = models.ForeignKey(Price, models.PROTECT, related_name="+")
    provider_request = models.CharField(max_length=100, blank=True, help_text="The provider's request id")
    input_tokens = models.PositiveIntegerField()
    output_tokens = models.PositiveIntegerField()
    cache_read_tokens = models.PositiveIntegerField()
    cache_write_5m_tokens = models.PositiveIntegerField()
    cache_write_1h_tokens = models.PositiveIntegerField()
    cost = models.BigIntegerField(help_text="Microcredits asked by the provider")
    ended_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        verbose_name_plural = "house usage"
        ordering = ["-ended_at"]
        indexes = [models.Index(fields=["ended_at"], name="house_usage_by_time")]

    def __str__(self) -> str:
        return f"{self.purpose} of conversation {self.conversation_id}"
