"""Moving windows: how often somebody may do something within any sixty seconds.

Counted in Valkey, for all processes together. While that is away each process counts for itself: nobody is refused or
kept waiting for it, but for the one who finds out, and that for WAIT_SECONDS at most.
"""

import functools
import math
import threading
import time

import redis
import structlog
from django.conf import settings
from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage, RedisStorage
from limits.strategies import MovingWindowRateLimiter
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

log = structlog.get_logger(__name__)

WAIT_SECONDS = 0.25
# After Valkey went away, one call in so many seconds asks it again.
RETRY_SECONDS = 5.0
MINUTE = 60

_lock = threading.Lock()
_away_until = 0.0


def take(window: str, who: str, *, per_minute: int) -> int:
    """Take a place in the window of `who`: 0, or the whole seconds until one is free if all are taken.

    Blocks for as long as Valkey takes to answer: call it from a thread, never in the event loop.
    """
    item = RateLimitItemPerMinute(per_minute)
    if _may_ask_valkey():
        try:
            seconds = _take(_in_valkey(), item, window, who)
        except (RedisError, OSError) as error:
            _note_away(error)
        else:
            _note_back()
            return seconds
    return _take(_in_this_process(), item, window, who)


def _take(limiter: MovingWindowRateLimiter, item: RateLimitItemPerMinute, window: str, who: str) -> int:
    if limiter.hit(item, window, who):
        return 0
    free_at = limiter.get_window_stats(item, window, who).reset_time
    # Other hosts' clocks have their say in it, and a place may have come free in between.
    return min(MINUTE, max(1, math.ceil(free_at - time.time())))


def _may_ask_valkey() -> bool:
    """Whether Valkey is there, as far as we know; if not, true for one caller every RETRY_SECONDS."""
    global _away_until
    if not _away_until:
        return True
    with _lock:
        now = time.monotonic()
        if now < _away_until:
            return False
        _away_until = now + RETRY_SECONDS
        return True


def _note_away(error: Exception) -> None:
    global _away_until
    _away_until = time.monotonic() + RETRY_SECONDS
    log.warning("limits count in this process only", error=type(error).__name__)


def _note_back() -> None:
    global _away_until
    if _away_until:
        _away_until = 0.0


@functools.cache
def _in_valkey() -> MovingWindowRateLimiter:
    pool = redis.ConnectionPool.from_url(
        settings.REDIS_URL,
        socket_timeout=WAIT_SECONDS,
        socket_connect_timeout=WAIT_SECONDS,
        retry=Retry(NoBackoff(), 0),
    )
    return MovingWindowRateLimiter(
        RedisStorage(settings.REDIS_URL, connection_pool=pool, key_prefix="chatapp:limits")
    )


@functools.cache
def _in_this_process() -> MovingWindowRateLimiter:
    return MovingWindowRateLimiter(MemoryStorage())
