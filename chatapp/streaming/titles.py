"""Titles of conversations: their first words, until a model has named them in the worker, or the person has.

What the person typed stays. If no model names them, the first words do.
"""

import re
import unicodedata
from uuid import UUID

import structlog
from django.conf import settings
from django.utils.text import Truncator

from accounts.notify import notify
from chatapp.conversations.models import Conversation, Message, Turn
from chatapp.streaming import house, prompts
from chatapp.streaming.models import HouseUsage
from chatapp.streaming.providers.base import ProviderError

log = structlog.get_logger(__name__)

LONGEST_CHARACTERS = 60
# Of the question and of its answer; a title needs no more of them.
QUOTED_CHARACTERS = 2_000
# Far more than a title has: some models think before they write.
MOST_TOKENS = 256
PATIENCE_SECONDS = 20

_LINK = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")
_LEAD = re.compile(r"^(?:(?:#{1,6}|[-*+>])\s+)?(?:\W{0,3}title\W{0,3}:\W{0,3}\s)?", re.IGNORECASE)
_EMPHASIS = re.compile(r"(?<!\w)(\*{1,3}|_{1,3}|~~|`+)(?=\S)(.+?)(?<=\S)\1(?!\w)")
_QUOTES = ('""', "''", "“”", "„“", "‘’", "‚‘", "«»", "»«", "‹›", "「」", "『』")
# Turn the text around for whatever is shown behind it.
_DIRECTIONS = {*"\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"}


def may_be_due(turn: Turn) -> bool:
    """Whether the turn's conversation has no title but its first words, and models may name conversations."""
    conversation = turn.conversation
    if conversation is None or settings.TITLE_MODEL == "off":
        return False
    return conversation.titled_by == Conversation.TitledBy.WORDS


def give(turn: Turn) -> None:
    """Have TITLE_MODEL name the turn's conversation by how it began, and tell its pages.

    Once however often it is called, and not at all once the person has. What the provider refuses is said in a line and
    left: the next turn asks again.
    """
    by = house.writer(settings.TITLE_MODEL)
    if by is None or turn.conversation_id is None:
        return
    with house.alone(HouseUsage.Purpose.TITLE, turn.conversation_id) as alone:
        unnamed = Conversation.objects.filter(pk=turn.conversation_id, titled_by=Conversation.TitledBy.WORDS)
        opening = _opening(turn.conversation_id) if alone and unnamed.exists() else None
        if opening is None:
            return
        try:
            written = house.ask(
                by,
                turn,
                HouseUsage.Purpose.TITLE,
                system=prompts.NAME,
                text=opening,
                max_tokens=MOST_TOKENS,
                patience_seconds=PATIENCE_SECONDS,
            )
        except ProviderError as error:
            log.warning("title not written", turn=str(turn.pk), code=error.code, reported=str(error))
            return
        title = cleaned(written)
        # Whoever named it meanwhile is not overruled.
        kept = bool(title) and unnamed.update(title=title, titled_by=Conversation.TitledBy.MODEL)
    if kept and turn.user_id is not None:
        notify(turn.user_id, "conversation", conversation=str(turn.conversation_id), title=title)


def cleaned(written: str) -> str:
    """What a model wrote, as one short line without Markdown and quotation marks; empty if nothing is left."""
    line = next((line for line in map(_plain, written.splitlines()) if line), "")
    return Truncator(line).chars(LONGEST_CHARACTERS)


def _plain(line: str) -> str:
    shown = (
        " " if unicodedata.category(character) in {"Cc", "Zl", "Zp"} else character
        for character in line
        if character not in _DIRECTIONS
    )
    text = _LEAD.sub("", " ".join("".join(shown).split()))
    text = _LINK.sub(r"\1", text)
    before = None
    while text != before:
        before = text
        text = _EMPHASIS.sub(r"\2", text).strip().rstrip(".:;, ")
        if len(text) > 1 and text[0] + text[-1] in _QUOTES:
            text = text[1:-1].strip()
    return text if any(character.isalnum() for character in text) else ""


def _opening(conversation_id: UUID) -> str | None:
    """How the conversation began, to be named; None without an answer."""
    first = Message.objects.filter(conversation=conversation_id, parent=None).order_by("created_at").first()
    answer = first and first.children.exclude(text="").order_by("created_at").first()
    if first is None or answer is None:
        return None
    return prompts.opening(first.text[:QUOTED_CHARACTERS], answer.text[:QUOTED_CHARACTERS])
