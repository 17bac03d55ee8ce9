"""Time limits for others that do not count what our own event loop was late."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

# Waiting goes by in so many steps at least, none of them longer than this. However late the loop comes to the end of
# one, no more than the step is counted.
STEPS = 4
LONGEST_STEP_SECONDS = 0.1


@asynccontextmanager
async def within(seconds: float | None) -> AsyncIterator[None]:
    """`asyncio.timeout` that counts no more than a step of each round of the loop, however long that took; no limit for
    None. It never ends early, and on an idle loop at most a step late.

    A process with too much to do looks late at what has arrived long since: that is no reason to give somebody up,
    which would only make for more to do.
    """
    loop = asyncio.get_running_loop()
    timer: asyncio.TimerHandle | None = None
    step = 0.0 if seconds is None else min(seconds / STEPS, LONGEST_STEP_SECONDS)

    def wait(left: float) -> None:
        nonlocal timer
        if left > 0:
            timer = loop.call_later(step, wait, left - step)
        else:
            limit.reschedule(loop.time())

    async with asyncio.timeout(None) as limit:
        if seconds is not None:
            wait(seconds)
        try:
            yield
        finally:
            if timer is not None:
                timer.cancel()
