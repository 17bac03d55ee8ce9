"""Tells a person's open pages that something of theirs changed.

Pages ask again for what they show, so a message lost while Valkey is away costs freshness and nothing else.
"""

import uuid
from typing import Any

import structlog
from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from redis.exceptions import RedisError

from accounts.patience import within

log = structlog.get_logger(__name__)

# A Valkey that neither answers nor refuses is away as well.
PATIENCE_SECONDS = 1


def group_of(user_id: uuid.UUID) -> str:
    """The channel group that every open page of one person is in."""
    return f"user.{user_id}"


async def anotify(user_id: uuid.UUID, kind: str, **data: Any) -> None:
    """Send `{"type": kind, **data}` to each open page of a person."""
    try:
        async with within(PATIENCE_SECONDS):
            message = {"type": "page.message", "kind": kind, **data}
            await get_channel_layer().group_send(group_of(user_id), message)
    except (RedisError, OSError, TimeoutError) as error:
        log.warning("notification lost", kind=kind, error=type(error).__name__)


def notify(user_id: uuid.UUID, kind: str, **data: Any) -> None:
    """`anotify` for synchronous code."""
    async_to_sync(anotify)(user_id, kind, **data)
