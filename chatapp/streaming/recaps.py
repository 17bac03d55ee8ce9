"""Summaries of what is no longer sent: written in the worker before a conversation outgrows its budget.

Each is built on the one before and what was said since, so nothing is read twice. Should none come in time, the
conversation is cut without one (see `history`).
"""

from dataclasses import dataclass

import structlog
from django.conf import settings
from django.db import transaction

from accounts.notify import notify
from chatapp.conversations.models import Message, Recap, Turn
from chatapp.streaming import history, house, prompts
from chatapp.streaming.history import History
from chatapp.streaming.models import HouseUsage
from chatapp.streaming.providers.base import ProviderError

log = structlog.get_logger(__name__)

# Of the budget, in percent: from here on a summary is written, and so much is still sent as it was said. Far apart,
# because after each summary the provider reads everything anew.
DUE_PERCENT, KEPT_PERCENT = 70, 35

# The summary itself, at most, whatever the budget; and its share of a small one.
MOST_TOKENS, SHARE = 2_000, 10
MOST_CHARACTERS = 12_000

# The question and the answer before what comes next.
LAST_EXCHANGE = 2


@dataclass(frozen=True, slots=True)
class Part:
    """What is to be summed up, and the first history that begins after it."""

    older: History
    rest: History


def may_be_due(turn: Turn) -> bool:
    """Whether the conversation was so long at this turn that a summary is worth looking into."""
    if turn.conversation_id is None:
        return False
    tokens = turn.usage.prompt_tokens + turn.output_tokens
    return tokens * 100 >= history.budget(turn.model) * DUE_PERCENT


def write(turn: Turn) -> None:
    """Sum up the older part of the branch that this turn ended, if it is due and a model can be asked.

    Once per place however often it is called. What the provider refuses is said in a line and left: the next turn
    asks again.
    """
    by = house.writer(settings.SUMMARY_MODEL)
    if by is None or turn.conversation_id is None:
        return
    with house.alone(HouseUsage.Purpose.SUMMARY, turn.conversation_id) as alone:
        part = _due(turn) if alone else None
        if part is None:
            return
        try:
            recap = _keep(part.rest, _summary(by, turn, part.older))
        except ProviderError as error:
            log.warning("summary not written", turn=str(turn.pk), code=error.code, reported=str(error))
            return
    if recap is not None and turn.user_id is not None:
        notify(turn.user_id, "mark", **recap.notice)


def _due(turn: Turn) -> Part | None:
    if turn.assistant_message is None:
        return None
    conversation = turn.assistant_message.conversation
    # As if the person said something next.
    following = Message(
        conversation=conversation, parent_id=turn.assistant_message_id, role=Message.Role.USER
    )
    sent, scale = history.read(following)
    instructions = turn.user.instructions if turn.user else ""
    system = prompts.system(person=instructions, conversation=conversation.instructions)
    beside_bytes = len(system.encode())
    most = history.budget(turn.model)
    if scale.tokens_in(sent.size_bytes + beside_bytes) * 100 < most * DUE_PERCENT:
        return None
    rest = sent.cut_to(scale.bytes_in(most * KEPT_PERCENT // 100) - beside_bytes)
    if rest is not None and len(rest.lines) <= LAST_EXCHANGE:
        rest = sent.ending_with(LAST_EXCHANGE + 1)
    if rest is None:
        return None
    # What was cut away without a summary is summed up now.
    unsummed, _ = history.read(following, since=(Recap.Kind.SUMMARY,))
    return Part(History(unsummed.earlier, unsummed.lines[: -len(rest.lines)]), rest)


def _summary(by: house.Writer, turn: Turn, older: History) -> str:
    """The text of a summary; ProviderError if there is none."""
    # About four bytes are a token; of what would be too long for the writer, the newer part counts.
    room_bytes = 4 * history.budget(by.model) * 9 // 10
    readable = older if older.size_bytes <= room_bytes else older.cut_to(room_bytes) or older
    text = house.ask(
        by,
        turn,
        HouseUsage.Purpose.SUMMARY,
        system=prompts.SUMMARIZE,
        text=prompts.transcript(older.earlier, [(line.role, line.text) for line in readable.lines]),
        max_tokens=min(MOST_TOKENS, max(256, history.budget(turn.model) // SHARE)),
    )
    if not text:
        raise ProviderError("provider_cut", reported="an empty summary")
    return text[:MOST_CHARACTERS]


def _keep(rest: History, text: str) -> Recap | None:
    """Let the summary stand for all that comes before `rest`; None if there is one already, or nothing any more."""
    with transaction.atomic():
        through = Message.objects.select_for_update().filter(pk=rest.through).first()
        if through is None or Recap.objects.filter(through=through, kind=Recap.Kind.SUMMARY).exists():
            return None
        recap, _ = Recap.objects.update_or_create(
            through=through,
            defaults={"kind": Recap.Kind.SUMMARY, "text": text},
            create_defaults={
                "conversation_id": through.conversation_id,
                "kind": Recap.Kind.SUMMARY,
                "text": text,
            },
        )
    return recap
