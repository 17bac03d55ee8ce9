"""Moving windows: how often somebody may do something within any sixty seconds.

Counted in Valkey, for all processes together. While that is away each process counts for itself: nobody is refused or
kept waiting for it, but for the one who finds out, and that for WAIT_SECONDS at most.
"""

import functools
import math
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

from chatapp.absence import Absence

log = structlog.get_logger(__name__)

WAIT_SECONDS = 0.25
# After Valkey went away, one call in so many seconds asks it again.
RETRY_SECONDS = 5.0
MINUTE = 60

_absence = Absence(RETRY_SECONDS)


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
    if windows and _absence.lets_try():
        try:
            full = _take_in_valkey(windows)
        except (RedisError, OSError) as error:
            _absence.begins()
            log.warning("limits count in this process only", error=type(error).__name__)
        else:
            _absence.ends()
            return full
    return _take_in_this_process(windows)


# Each window is a list of the moments in which its places were taken, the newest first. With its last place taken less
# than a minute ago it is full: the answer are its number, and the seconds until it is not. Valkey's clock decides, as
# those of the hosts may differ.
TAKE = """
local time = redis.call('TIME')
local now, seconds = tonumber(time[1]) + tonumber(time[2]) / 1000000, tonumber(ARGV[1])
for number, window in ipairs(KEYS) do
    local last = tonumber(redis.call('LINDEX', window, tonumber(ARGV[1 + number]) - 1) or 0)
    if last >= now - seconds then
        return {number, string.format('%.6f', last + seconds - now)}
    end
end
for number, window in ipairs(KEYS) do
    redis.call('LPUSH', window, string.format('%.6f', now))
    redis.call('LTRIM', window, 0, tonumber(ARGV[1 + number]) - 1)
    redis.call('EXPIRE', window, seconds)
end
return false
"""


def _take_in_valkey(windows: Sequence[Window]) -> tuple[Window, int] | None:
    # With the places in its name: another number of them, and it is another window.
    keys = [f"chatapp:limits:{window.name}/{window.who}/{window.per_minute}" for window in windows]
    full = _in_valkey()(keys, [MINUTE, *(window.per_minute for window in windows)])
    if not full:
        return None
    number, wait = full
    return windows[number - 1], _whole(float(wait))


def _take_in_this_process(windows: Sequence[Window]) -> tuple[Window, int] | None:
    limiter = _in_this_process()
    for window in windows:
        item = RateLimitItemPerMinute(window.per_minute)
        if not limiter.hit(item, window.name, window.who):
            free_at = limiter.get_window_stats(item, window.name, window.who).reset_time
            return window, _whole(free_at - time.time())
    return None


def _whole(seconds: float) -> int:
    # A clock may have been set, and a place may have come free in between.
    return min(MINUTE, max(1, math.ceil(seconds)))


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
