"""What each answer used, kept for analysis apart from the conversation it belongs to."""

from django.conf import settings
from django.db import models
from django.db.models.functions import Now

from billing.models import LanguageModel
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
