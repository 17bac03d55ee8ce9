"""Moving windows: how often somebody may do something within any sixty seconds.

Counted in Valkey, for all processes together. While that is away each process counts for itself: nobody is refused or
kept waiting for it, but for the one who finds out, and that for WAIT_SECONDS at most.
"""

import functools
import math
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import redis
import structlog
from django.conf import settings
from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
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


class Window(NamedTuple):
    """What is counted (`name`), for whom, and how many places there are in a minute."""

    name: str
    who: str
    per_minute: int


def take(window: str, who: str, *, per_minute: int) -> int:
    """Take a place in the window of `who`: 0, or the whole seconds until one is free if all are taken.

    Blocks for as long as Valkey takes to answer: call it from a thread, never in the event loop.
    """
    full = take_all(Window(window, who, per_minute))
    return full[1] if full else 0


def take_all(*windows: Window) -> tuple[Window, int] | None:
    """`take` a place in each of these windows, in one round trip; None if there was one in all of them.

    Otherwise the first that is full, and the whole seconds until it has a place again: then none was taken in any of
    them; while Valkey is away, those before it have lost a place.
    """
    if windows and _may_ask_valkey():
        try:
            full = _take_in_valkey(windows)
        except (RedisError, OSError) as error:
            _note_away(error)
        else:
            _note_back()
            return full
    return _take_in_this_process(windows)


# Each window is a list of the moments in which its places were taken, the newest first. With its last place taken less
# than a minute ago it is full.
TAKE = """
local now, seconds = tonumber(ARGV[1]), tonumber(ARGV[2])
for number, window in ipairs(KEYS) do
    local last = redis.call('LINDEX', window, tonumber(ARGV[2 + number]) - 1)
    if last and tonumber(last) >= now - seconds then
        return {number, last}
    end
end
for number, window in ipairs(KEYS) do
    redis.call('LPUSH', window, ARGV[1])
    redis.call('LTRIM', window, 0, tonumber(ARGV[2 + number]) - 1)
    redis.call('EXPIRE', window, seconds)
end
return false
"""


def _take_in_valkey(windows: Sequence[Window]) -> tuple[Window, int] | None:
    # With the places in its name: another number of them, and it is another window.
    keys = [f"chatapp:limits:{window.name}/{window.who}/{window.per_minute}" for window in windows]
    full = _in_valkey()(keys, [time.time(), MINUTE, *(window.per_minute for window in windows)])
    if not full:
        return None
    number, last = full
    return windows[number - 1], _seconds_until(float(last) + MINUTE)


def _take_in_this_process(windows: Sequence[Window]) -> tuple[Window, int] | None:
    limiter = _in_this_process()
    for window in windows:
        item = RateLimitItemPerMinute(window.per_minute)
        if not limiter.hit(item, window.name, window.who):
            return window, _seconds_until(limiter.get_window_stats(item, window.name, window.who).reset_time)
    return None


def _seconds_until(free_at: float) -> int:
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
def _in_valkey() -> Callable[[Sequence[str], Sequence[float]], Any]:
    pool = redis.ConnectionPool.from_url(
        settings.REDIS_URL,
        socket_timeout=WAIT_SECONDS,
        socket_connect_timeout=WAIT_SECONDS,
        retry=Retry(NoBackoff(), 0),
    )
    return redis.Redis(connection_pool=pool).register_script(TAKE)


@functools.cache
def _in_this_process() -> MovingWindowRateLimiter:
    return MovingWindowRateLimiter(MemoryStorage())
