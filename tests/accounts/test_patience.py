"""Limits of time that count what a provider takes, and not what we do meanwhile."""

import asyncio
import time

import pytest

from accounts.patience import LONGEST_STEP_SECONDS, within


async def test_who_never_answers_is_waited_for_so_long_and_no_longer() -> None:
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        async with within(LONGEST_STEP_SECONDS * 2.5):
            await asyncio.Event().wait()
    assert time.monotonic() - began >= LONGEST_STEP_SECONDS * 2.5


async def test_what_came_while_the_loop_was_busy_came_in_time() -> None:
    arrived = asyncio.Event()
    async with within(LONGEST_STEP_SECONDS):
        for _ in range(3):
            # Other turns have their words passed on: the loop comes late to everything.
            asyncio.get_running_loop().call_soon(time.sleep, LONGEST_STEP_SECONDS / 2)
            await asyncio.sleep(0)
        arrived.set()
        await arrived.wait()


async def test_without_a_limit_it_waits_as_long_as_it_takes() -> None:
    async with within(None):
        await asyncio.sleep(0)


async def test_the_limit_ends_with_what_it_was_for() -> None:
    complaints: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: complaints.append(context))
    async with within(LONGEST_STEP_SECONDS / 10):
        pass
    await asyncio.sleep(LONGEST_STEP_SECONDS / 5)
    assert not complaints
