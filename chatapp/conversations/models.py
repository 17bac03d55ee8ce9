"""Conversations as trees of messages, and the turns that grow them."""

import math
import uuid
from datetime import timedelta
from typing import Any, Self

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

from accounts.models import INSTRUCTIONS_LENGTH, User
from billing.models import LanguageModel, Price
from billing.pricing import Usage
from chatapp.conversations import search


class ConversationQuerySet(models.QuerySet["Conversation"]):
    def of(self, user: User) -> Self:
        """The only way to a conversation: through the person whose it is."""
        return self.filter(user=user)

    def matching(self, text: str) -> Self:
        """Those with all words of `text` in their title, or in one message, whatever their order, case and accents.

        Words in quotes stand as they are written there.
        """
        wanted = search.patterns(text)
        titled = Q(*(Q(title__regex=pattern) for pattern in wanted))
        said = Message.objects.filter(
            *(Q(text__regex=pattern) for pattern in wanted), conversation=models.OuterRef("pk")
        )
        return self.filter(titled | models.Exists(said)) if wanted else self

    def with_running_turn(self) -> Self:
        running = Turn.objects.filter(conversation=models.OuterRef("pk"), state=Turn.State.RUNNING)
        return self.annotate(running_turn=models.Subquery(running.values("id")[:1]))


class Conversation(models.Model):
    """A tree of messages of which one branch, the one ending at `tip`, is shown."""

    class TitledBy(models.TextChoices):
        WORDS = "words", "its first words"
        MODEL = "model", "a model"
        PERSON = "person", "the person"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="conversations")
    title = models.CharField(max_length=200, blank=True)
    titled_by = models.CharField(
        max_length=6, choices=TitledBy.choices, default=TitledBy.WORDS, db_default=TitledBy.WORDS
    )
    model = models.ForeignKey(LanguageModel, models.SET_NULL, null=True, related_name="+")
    instructions = models.TextField(
        blank=True,
        default="",
        db_default="",
        max_length=INSTRUCTIONS_LENGTH,
        help_text="What the model is told before this conversation, after the person's own instructions.",
    )
    pinned = models.BooleanField(default=False)
    archived = models.BooleanField(default=False)
    tip = models.ForeignKey("Message", models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    updated_at = models.DateTimeField(db_default=Now(), editable=False)

    objects = ConversationQuerySet.as_manager()

    class Meta:
        ordering = ["-pinned", "-updated_at", "-id"]
        indexes = [
            models.Index(
                fields=["user", "archived", "-pinned", "-updated_at", "-id"], name="conversations_listed"
            ),
        ]
        permissions = [("read_messages", "Can read what people wrote")]

    def __str__(self) -> str:
        return self.title or "New chat"


class Message(models.Model):
    """What one side said, in answer to its parent; siblings are alternatives to each other."""

    class Role(models.TextChoices):
        USER = "user"
        ASSISTANT = "assistant"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    conversation = models.ForeignKey(Conversation, models.CASCADE, related_name="messages")
    parent = models.ForeignKey("self", models.CASCADE, null=True, related_name="children")
    role = models.CharField(max_length=9, choices=Role.choices)
    text = models.TextField(blank=True)
    thinking = models.TextField(blank=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        indexes = [
            models.Index(fields=["parent", "created_at"], name="siblings_in_order"),
            models.Index(
                fields=["conversation", "created_at"],
                condition=Q(parent=None),
                name="first_messages_in_order",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.role} message {self.id}"


class Recap(models.Model):
    """Where a conversation begins for the model: nothing up to `through` is sent any more, `text` stands for it.

    It holds for every branch that contains `through`; of several on a branch, for the last. A place once chosen stays,
    because each new one makes the provider read everything after it anew.
    """

    class Kind(models.TextChoices):
        SUMMARY = "summary"
        CUT = "cut"

    through = models.OneToOneField(Message, models.CASCADE, primary_key=True, related_name="recap")
    conversation = models.ForeignKey(Conversation, models.CASCADE, related_name="recaps")
    kind = models.CharField(max_length=7, choices=Kind.choices)
    text = models.TextField(
        blank=True, help_text="The summary; at a cut, the one that stood for what came earlier, if any."
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    def __str__(self) -> str:
        return f"{self.kind} through {self.through_id}"

    @property
    def mark(self) -> dict[str, Any]:
        """What clients are told of it; `bytes` is how much is sent in its stead."""
        return {"kind": self.kind, "bytes": len(self.text.encode())}

    @property
    def notice(self) -> dict[str, Any]:
        """What a page that shows the conversation is told when there is a new one."""
        return {
            "conversation": str(self.conversation_id),
            "message": str(self.through_id),
            "mark": self.mark,
        }


class TurnQuerySet(models.QuerySet["Turn"]):
    def of(self, user: User) -> Self:
        """The only way to a turn: through the person whose it is."""
        return self.filter(user=user)

    def running(self) -> Self:
        return self.filter(state=Turn.State.RUNNING)

    def with_retry_wait(self) -> Self:
        """With `retry_wait`: by the database's clock, whatever ours says."""
        return self.annotate(retry_wait=F("retry_at") - Now())


class Turn(models.Model):
    """One message and its one answer: made, held for, streamed, ended and charged under one id.

    The id comes from the client and is the idempotency key; `fingerprint` tells a repeat from a conflict. Its hold
    on the person's wallet has the same id. The row outlives the conversation and the person: it is what the books
    point to. Once it has ended PostgreSQL keeps it as it is (migration 0007_turns_that_ended_are_fixed).
    """

    class State(models.TextChoices):
        RUNNING = "running"
        COMPLETED = "completed"
        STOPPED = "stopped"
        ABANDONED = "abandoned"
        FAILED = "failed"
        INTERRUPTED = "interrupted"

    id = models.UUIDField(primary_key=True, editable=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="turns")
    conversation = models.ForeignKey(Conversation, models.SET_NULL, null=True, related_name="turns")
    user_message = models.ForeignKey(Message, models.SET_NULL, null=True, related_name="asked_in")
    assistant_message = models.OneToOneField(Message, models.SET_NULL, null=True, related_name="turn")
    fingerprint = models.CharField(max_length=64, editable=False)
    model = models.ForeignKey(LanguageModel, models.PROTECT, related_name="turns")
    price = models.ForeignKey(Price, models.PROTECT, related_name="turns")
    fallback_price = models.ForeignKey(
        Price,
        models.PROTECT,
        null=True,
        related_name="fallback_turns",
        help_text="At what another provider's model answers, should this one not begin.",
    )

    state = models.CharField(max_length=11, choices=State.choices, default=State.RUNNING)
    max_tokens = models.PositiveIntegerField()
    limited_by_balance = models.BooleanField(default=False)
    held = models.BigIntegerField(help_text="Microcredits held when it was opened")
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    heartbeat_at = models.DateTimeField(db_default=Now(), editable=False)
    stop_requested = models.BooleanField(default=False)
    writer = models.UUIDField(
        null=True,
        editable=False,
        help_text="The process that writes the answer, by the name it listens under",
    )

    ended_at = models.DateTimeField(null=True)
    first_token_ms = models.PositiveIntegerField(null=True)
    served_by = models.ForeignKey(
        LanguageModel,
        models.PROTECT,
        null=True,
        related_name="+",
        help_text="The model that was asked last; the one it was priced as.",
    )
    provider = models.CharField(max_length=20, blank=True)
    provider_request = models.CharField(max_length=100, blank=True, help_text="The provider's request id")
    stop_reason = models.CharField(max_length=40, blank=True)
    input_tokens = models.PositiveIntegerField(default=0)
    output_tokens = models.PositiveIntegerField(default=0)
    cache_read_tokens = models.PositiveIntegerField(default=0)
    cache_write_5m_tokens = models.PositiveIntegerField(default=0)
    cache_write_1h_tokens = models.PositiveIntegerField(default=0)
    prompt_bytes = models.PositiveIntegerField(
        null=True, help_text="Bytes of the prompt whose tokens the provider counted"
    )
    estimated = models.BooleanField(default=False, help_text="Output was counted from the text sent")
    charged = models.BigIntegerField(default=0, help_text="Microcredits paid by the person")
    cost = models.BigIntegerField(default=0, help_text="Microcredits asked by the provider")
    overrun = models.BigIntegerField(default=0, help_text="Microcredits above the hold, borne by the house")
    error_code = models.CharField(max_length=40, blank=True)
    error_message = models.CharField(max_length=300, blank=True)
    retry_at = models.DateTimeField(null=True, help_text="Before that the provider wants no other request")

    # Not a column: from `with_retry_wait()`, or known to whoever ended the turn. Negative once it is over.
    retry_wait: timedelta | None

    objects = TurnQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                "conversation", condition=Q(state="running"), name="one_running_turn_per_conversation"
            ),
            models.CheckConstraint(
                condition=Q(state="running", ended_at=None)
                | (~Q(state="running") & Q(ended_at__isnull=False)),
                name="turn_has_ended_unless_running",
            ),
        ]
        indexes = [
            models.Index(fields=["user", "-created_at"], name="turns_of_user"),
            models.Index(
                fields=["heartbeat_at"], condition=Q(state="running"), name="running_turns_by_heartbeat"
            ),
            models.Index(fields=["ended_at"], name="turns_by_end"),
        ]

    def __str__(self) -> str:
        return f"{self.state} turn {self.id}"

    @property
    def retry_after(self) -> int | None:
        """Whole seconds for which the provider still wants no other request; `retry_wait` must be known."""
        wait = self.retry_wait
        return math.ceil(wait.total_seconds()) if wait is not None and wait > timedelta(0) else None

    def price_of(self, model_id: str) -> Price:
        """The row at which an answer of this model is charged."""
        other = self.fallback_price
        return other if other is not None and other.model_id == model_id else self.price

    @property
    def usage(self) -> Usage:
        return Usage(
            input_tokens=self.input_tokens,
            output_tokens=self.output_tokens,
            cache_read_tokens=self.cache_read_tokens,
            cache_write_5m_tokens=self.cache_write_5m_tokens,
            cache_write_1h_tokens=self.cache_write_1h_tokens,
        )

    @property
    def usage_told(self) -> dict[str, int]:
        """Tokens under the names that clients know from the provider."""
        return {
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "cache_read_input_tokens": self.cache_read_tokens,
            "cache_creation_input_tokens": self.cache_write_5m_tokens + self.cache_write_1h_tokens,
        }

    @staticmethod
    def usage_columns(usage: Usage) -> dict[str, Any]:
        """`usage` as the columns that keep it, for one UPDATE."""
        return {name: getattr(usage, name) for name in Usage.__dataclass_fields__}

    @property
    def duration_ms(self) -> int | None:
        """From its first row to its last, if it has ended; 0 should the database's clock have been set back."""
        if self.ended_at is None:
            return None
        return max(0, round((self.ended_at - self.created_at).total_seconds() * 1000))
