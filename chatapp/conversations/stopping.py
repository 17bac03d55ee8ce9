"""Asking that answers which are being written be stopped, whichever process writes them.

The request stands in the database, where that process finds it by its next heartbeat; Valkey carries it there at once.
"""

import functools
from uuid import UUID

import redis
import structlog
from django.conf import settings
from django.db import transaction
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from chatapp.conversations.models import TurnQuerySet

log = structlog.get_logger(__name__)

# The channel that each process which writes answers listens to.
STOPS = "chatapp:turns:stop"
PATIENCE_SECONDS = 1


@transaction.atomic
def ask_to_stop(turns: TurnQuerySet) -> None:
    """Have those of `turns` that are running stopped as soon as the transaction that this is part of is committed."""
    running = list(turns.running().values_list("pk", flat=True))
    if running:
        turns.model.objects.running().filter(pk__in=running).update(stop_requested=True)
        transaction.on_commit(functools.partial(_tell, running))


def _tell(turn_ids: list[UUID]) -> None:
    try:
        with _valkey().pipeline(transaction=False) as pipe:
            for turn_id in turn_ids:
                pipe.publish(STOPS, str(turn_id))
            pipe.execute()
    except (RedisError, OSError) as error:
        log.warning("stop not announced", turns=len(turn_ids), error=type(error).__name__)


@functools.cache
def _valkey() -> redis.Redis:
    return redis.Redis.from_url(
        settings.REDIS_URL,
        socket_timeout=PATIENCE_SECONDS,
        socket_connect_timeout=PATIENCE_SECONDS,
        retry=Retry(NoBackoff(), 0),
    )
