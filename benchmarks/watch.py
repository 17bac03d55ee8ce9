"""What a program uses while it works: processor time and memory, with all that it started."""

import threading
import time
from bisect import bisect_left
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import psutil

EVERY_SECONDS = 0.1
# The kernel counts processor time in ticks: what took less took no longer than one.
TICK_SECONDS = 0.01


@dataclass(frozen=True, slots=True)
class Use:
    """At a moment of the machine's monotonic clock: processor seconds since it began, and resident bytes."""

    at: float
    cpu: float
    memory: int


class Watch:
    """Looks at a process and all below it every EVERY_SECONDS, as a context."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look_again, daemon=True)
        self.uses: list[Use] = []

    def __enter__(self) -> Self:
        self._look()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        self._look()

    def cpu_between(self, begin: float, end: float) -> float:
        """Processor seconds used in that time, at least a tick."""
        return max(TICK_SECONDS, self._cpu_at(end) - self._cpu_at(begin))

    @property
    def cpu(self) -> float:
        """Processor seconds used from beginning to end, at least a tick."""
        return self.cpu_between(self.uses[0].at, self.uses[-1].at)

    @property
    def growth(self) -> int:
        """By how many bytes it was larger at its largest than when the watch began."""
        return max(use.memory for use in self.uses) - self.uses[0].memory

    def _cpu_at(self, moment: float) -> float:
        """In a straight line between the two looks around `moment`."""
        after = min(max(1, bisect_left(self.uses, moment, key=lambda use: use.at)), len(self.uses) - 1)
        one, other = self.uses[after - 1], self.uses[after]
        return one.cpu + (other.cpu - one.cpu) * (moment - one.at) / (other.at - one.at)

    def _look_again(self) -> None:
        while not self._ended.wait(EVERY_SECONDS):
            self._look()

    def _look(self) -> None:
        at, cpu, memory = time.monotonic(), 0.0, 0
        for process in [self._process, *self._process.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess), process.oneshot():  # a child may end at any moment
                times = process.cpu_times()
                cpu += times.user + times.system
                memory += process.memory_info().rss
        self.uses.append(Use(at, cpu, memory))
