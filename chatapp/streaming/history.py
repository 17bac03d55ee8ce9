"""What of a conversation is sent with a message: all of it while it is short, then its newer part.

A conversation that outgrows its budget is cut to about half of it at once, and the place is kept (a `Recap`): what
later turns send then begins alike, so the provider reads it from its cache. Were it cut anew each time, by a message
or two, no turn would find anything there.
"""

import uuid
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

from django.db import transaction
from django.db.models import F

from billing.models import LanguageModel
from chatapp.conversations import tree
from chatapp.conversations.models import Message, Recap, Turn
from chatapp.streaming import prompts

# What an estimate may be wrong by, as a share of the context.
MARGIN_SHARE = 20

# The newest answers are looked at for what the provider counted; one that failed was not counted.
LOOKED_AT = 10


@dataclass(frozen=True, slots=True)
class Line:
    """One message as it is sent, and the message that it follows."""

    role: str
    text: str
    after: uuid.UUID | None

    @property
    def size_bytes(self) -> int:
        return len(self.text.encode())


@dataclass(frozen=True, slots=True)
class History:
    """What is sent of one branch: `lines`, which begin and end with what the person said.

    `earlier` sums up what came before them; it is empty where there is nothing to say of that.
    """

    earlier: str
    lines: tuple[Line, ...]

    @property
    def messages(self) -> tuple[tuple[str, str], ...]:
        """As (role, text). What sums up the rest is said by the person, as it is.

        Not in the system prompt: what was once quoted in a conversation must not come back as an order of ours. And
        so the system prompt stays the same beginning for all conversations of a person, which a cache can read.
        """
        said = tuple((line.role, line.text) for line in self.lines)
        return (("user", prompts.earlier(self.earlier)), *said) if self.earlier else said

    @property
    def size_bytes(self) -> int:
        return sum(len(text.encode()) for _, text in self.messages)

    @property
    def through(self) -> uuid.UUID:
        """The message up to which nothing is sent, of one that was cut."""
        through = self.lines[0].after
        if through is None:
            raise ValueError("nothing was said before")
        return through

    def cut_to(self, most_bytes: int) -> "History | None":
        """Its longest end of at most so many bytes, at the least the question alone; None if that is all of it."""
        size = self.size_bytes
        for place, line in enumerate(self.lines):
            if place and line.role == Message.Role.USER and size <= most_bytes:
                break
            if place < len(self.lines) - 1:
                size -= line.size_bytes
        return replace(self, lines=self.lines[place:]) if place else None

    def ending_with(self, lines: int) -> "History | None":
        """Its last so many lines, if that leaves something out and the first of them is the person's."""
        rest = self.lines[-lines:]
        fits = len(rest) < len(self.lines) and rest[0].role == Message.Role.USER
        return replace(self, lines=rest) if fits else None

    def ever_shorter(self) -> Iterator["History"]:
        """Half of it, a quarter, the question alone: what to try when it was too long after all."""
        before, size = self, self.size_bytes
        for most_bytes in (size // 2, size // 4, 0):
            shorter = self.cut_to(most_bytes)
            if most_bytes == 0:
                shorter = History("", self.lines[-1:])
            if shorter is not None and shorter.size_bytes < before.size_bytes:
                yield (before := shorter)


@dataclass(frozen=True, slots=True)
class Scale:
    """How many tokens some bytes are, by what the provider counted last, or four bytes each where nobody has."""

    tokens: int = 1
    bytes: int = 4

    def tokens_in(self, size_bytes: int) -> int:
        return -(-size_bytes * self.tokens // self.bytes)

    def bytes_in(self, tokens: int) -> int:
        return tokens * self.bytes // self.tokens

    @classmethod
    def counted(cls, tokens: int, size_bytes: int) -> "Scale":
        """Never beyond what a text can be: a token is a byte at least, and eight on an average at most."""
        return cls(min(max(tokens, size_bytes // 8, 1), max(size_bytes, 1)), max(size_bytes, 1))


def budget(model: LanguageModel) -> int:
    """How many tokens may be sent to this model, all in all."""
    room = model.context_tokens - model.answer_tokens - model.context_tokens // MARGIN_SHARE
    return room if model.history_tokens is None else min(room, model.history_tokens)


def read(question: Message, *, since: Collection[str] = tuple(Recap.Kind)) -> tuple[History, Scale]:
    """What is sent with `question`, which may not be stored yet: all messages since the last recap on its branch.

    `since` are the kinds of recap that count.
    """
    asked = Line(question.role, question.text, question.parent_id)
    if question.parent_id is None:
        return History("", (asked,)), Scale()
    kept = Recap.objects.filter(conversation=question.conversation_id, kind__in=since)
    recaps = {recap.through_id: recap for recap in kept}
    said = tree.branch(question.parent_id, below=recaps)
    begins_after = said[0].parent_id if said else question.parent_id
    recap = recaps.get(begins_after) if begins_after else None
    dropped = _refused(said)
    lines = [
        Line(message.role, message.text, message.parent_id)
        for message in said
        if message.pk not in dropped and message.text.strip()
    ]
    return History(recap.text if recap else "", (*lines, asked)), _scale(said)


def within(history: History, most_tokens: int, by: Scale, *, beside_bytes: int) -> History:
    """`history` if it fits, with `beside_bytes` of system prompt; else what is left of it when it is cut to half."""
    if by.tokens_in(history.size_bytes + beside_bytes) <= most_tokens:
        return history
    return history.cut_to(by.bytes_in(most_tokens // 2) - beside_bytes) or history


def keep_cut(history: History) -> Recap | None:
    """Let later turns begin where `history` does. None if that place has a recap, or is no more."""
    with transaction.atomic():
        # Whoever deletes the conversation at this moment waits, or is waited for.
        through = Message.objects.select_for_update().filter(pk=history.through).first()
        if through is None:
            return None
        recap, made = Recap.objects.get_or_create(
            through=through,
            defaults={
                "conversation_id": through.conversation_id,
                "kind": Recap.Kind.CUT,
                "text": history.earlier,
            },
        )
    return recap if made else None


def _refused(said: list[Message]) -> set[uuid.UUID]:
    """The questions that the provider refused to answer, and what it said instead."""
    pairs = Turn.objects.filter(
        assistant_message__in=[message.pk for message in said], error_code="refused"
    ).values_list("user_message", "assistant_message")
    return {message for pair in pairs for message in pair}


def _scale(said: list[Message]) -> Scale:
    """By the provider's last count among these."""
    answers = [message.pk for message in said[-2 * LOOKED_AT :] if message.role == Message.Role.ASSISTANT]
    counted = (
        Turn.objects.filter(assistant_message__in=answers, prompt_bytes__gt=0)
        .annotate(
            prompt_tokens=F("input_tokens")
            + F("cache_read_tokens")
            + F("cache_write_5m_tokens")
            + F("cache_write_1h_tokens")
        )
        .filter(prompt_tokens__gt=0)
        .order_by("-created_at")
        .values_list("prompt_tokens", "prompt_bytes")
        .first()
    )
    tokens, size_bytes = counted or (None, None)
    return Scale.counted(tokens, size_bytes) if tokens and size_bytes else Scale()
