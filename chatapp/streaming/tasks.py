"""What happens after a stream, in the worker: usage is recorded, and dead processes' turns are swept.

Whatever is not done because the database is away is done by a later run of a periodic task.
"""

import time
from datetime import timedelta
from uuid import UUID

import structlog
from celery import shared_task
from django.db.models import Func, Q, QuerySet
from django.db.models.functions import Greatest, Now

from accounts.notify import notify
from billing import notices
from billing.away import later_if_the_database_is_away
from billing.jobs import hand_over
from billing.tasks import look_after_wallet
from chatapp.conversations.models import Turn
from chatapp.streaming import journal, recaps, titles, turns
from chatapp.streaming.models import UsageRecord

log = structlog.get_logger(__name__)

# A heartbeat is late; whose connection to Valkey has broken as well, and who has neither COMES_BACK_SECONDS later, has
# died. So who loses Valkey and is slow at that moment has six seconds from when a heartbeat was due.
LATE_AFTER = timedelta(seconds=5)
# So many heartbeats missed: dead, whatever else is known; found by the next sweep, within a minute of the last one.
DEAD_AFTER = timedelta(seconds=30)
# A process that lost its connection to Valkey has another one by then.
COMES_BACK_SECONDS = 3
# The worker is told of every turn within a moment of its end; what is still missing by then, it never heard of.
UNRECORDED_AFTER = timedelta(minutes=1)
BATCH = 500

COPIED = [
    *("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens"),
    *("user_id", "conversation_id", "provider", "state", "cost", "charged", "first_token_ms"),
    "ended_at",
]


@shared_task
@later_if_the_database_is_away
def record_usage(*turn_ids: str) -> None:
    """Record what ended turns used, once however often it is called."""
    _record(Turn.objects.filter(pk__in=map(UUID, turn_ids), ended_at__isnull=False))


@shared_task
@later_if_the_database_is_away
def write_recap(turn_id: str) -> None:
    """Sum up the older part of the conversation that this turn belongs to, if it has become long."""
    ended = Turn.objects.filter(pk=UUID(turn_id), ended_at__isnull=False, assistant_message__isnull=False)
    turn = ended.select_related("model", "user", "assistant_message__conversation").first()
    if turn is not None:
        recaps.write(turn)


@shared_task
@later_if_the_database_is_away
def name_conversation(turn_id: str) -> None:
    """Give the conversation that this turn belongs to a title, if it has none but its first words."""
    ended = Turn.objects.filter(pk=UUID(turn_id), ended_at__isnull=False)
    turn = ended.select_related("conversation").first()
    if turn is not None and titles.may_be_due(turn):
        titles.give(turn)


@shared_task
@later_if_the_database_is_away
def record_missing_usage() -> None:
    """Record the turns that ended while the broker was away."""
    forgotten = Turn.objects.filter(usage_record=None, ended_at__lt=Now() - UNRECORDED_AFTER)
    while recorded := _record(forgotten.order_by("ended_at")[:BATCH]):
        log.info("usage recorded late", turns=recorded)


@shared_task
@later_if_the_database_is_away
def sweep() -> None:
    """End the turns of processes that died: what text is known is kept, the hold is released.

    The database's clock decides whose heartbeat is late, so hosts may disagree about the time.
    """
    # No heartbeat could come while the database was away.
    silent_since = Greatest("heartbeat_at", Func(function="pg_postmaster_start_time"))
    running = Turn.objects.running().alias(silent_since=silent_since)
    late = running.filter(silent_since__lt=Now() - LATE_AFTER)
    dead = late.filter(Q(silent_since__lt=Now() - DEAD_AFTER) | Q(writer__in=_gone(late)))
    found = dead.values_list("pk", "user_id", "conversation_id", "heartbeat_at")[:BATCH]
    for turn_id, user_id, conversation_id, heartbeat in found:
        thinking, text = journal.rescue(turn_id)
        ending = turns.interrupt(turn_id, thinking=thinking, text=text, heartbeat=heartbeat)
        if ending is None:
            journal.give_back(turn_id)
            continue
        log.warning("turn swept", turn=str(turn_id), kept_characters=len(text))
        journal.tell_swept(turn_id)
        if user_id is not None:
            conversation = conversation_id and str(conversation_id)  # None: it was deleted meanwhile
            notify(user_id, "turn", turn=str(turn_id), conversation=conversation, state="interrupted")
        # Recorded here and now: another job could only do the same later.
        _record(Turn.objects.filter(pk=turn_id))


def _gone(late: QuerySet[Turn]) -> set[UUID]:
    """Those of the processes that write these turns which have no connection to Valkey."""
    writers = {writer for writer in late.values_list("writer", flat=True) if writer is not None}
    gone = writers - journal.alive(writers)
    if not gone:
        return gone
    # A Valkey that has just come back knows nobody yet.
    time.sleep(COMES_BACK_SECONDS)
    return gone - journal.alive(gone)


def _record(ended: QuerySet[Turn]) -> int:
    """Record them, and have looked after the wallets they were paid from and after their conversations.

    The answer is how many there were.
    """
    turns_ended = list(ended.select_related("model", "conversation"))
    UsageRecord.objects.bulk_create(
        [
            UsageRecord(
                turn_id=turn.pk,
                duration_ms=turn.duration_ms or 0,
                model_id=turn.served_by_id or turn.model_id,
                **{name: getattr(turn, name) for name in COPIED},
            )
            for turn in turns_ended
        ],
        ignore_conflicts=True,
    )
    for user_id in notices.worth_a_look({turn.user_id for turn in turns_ended if turn.user_id is not None}):
        hand_over(look_after_wallet.name, str(user_id))
    for turn in turns_ended:
        if recaps.may_be_due(turn):
            hand_over(write_recap.name, str(turn.pk), last=True)
        if titles.may_be_due(turn):
            hand_over(name_conversation.name, str(turn.pk), last=True)
    return len(turns_ended)
