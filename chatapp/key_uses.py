"""When API keys were used last: written a moment later, for all of them at once, so that no call waits for it."""

import asyncio
import contextvars
from weakref import WeakKeyDictionary

import structlog

from accounts.models import ApiKey
from billing.away import DATABASE_AWAY
from chatapp.db import in_db

log = structlog.get_logger(__name__)

WRITTEN_AFTER_SECONDS = 1.0

# What each event loop has still to write: a web process has one, a test may have several.
_noted: WeakKeyDictionary[asyncio.AbstractEventLoop, set[str]] = WeakKeyDictionary()
_writing: set[asyncio.Task[None]] = set()


def note(key: str) -> None:
    """Have it written that the key of this public part is being used. A process that is killed may forget it."""
    loop = asyncio.get_running_loop()
    keys = _noted.get(loop)
    if keys is None:
        keys = _noted[loop] = set()
        # Not in the context of the call, which has ended by then.
        loop.call_later(WRITTEN_AFTER_SECONDS, _begin_to_write, context=contextvars.Context())
    keys.add(key)


def _begin_to_write() -> None:
    task = asyncio.get_running_loop().create_task(write())
    _writing.add(task)
    task.add_done_callback(_writing.discard)


async def write() -> None:
    """Write what this event loop has noted; left for the next call with each key if the database is away."""
    keys = _noted.pop(asyncio.get_running_loop(), None)
    if not keys:
        return
    try:
        await in_db(ApiKey.objects.note_use, keys)
    except DATABASE_AWAY as error:
        log.warning("last use of API keys not noted", keys=len(keys), error=type(error).__name__)
