"""Who reads the streams, in a process of its own: says of each how it went and what the relay added.

A command is a line of JSON on standard input, the fields of `Job`; its answer, a `Report`, is one on standard output.
Both sides of a comparison are read by this same code, and their events are counted by the stand-in's moments in the
text (benchmarks/upstream.py): whether a relay sends two of them in one event or in two makes no difference.
"""

import asyncio
import json
import math
import re
import resource
import sys
import time
from array import array
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import cast

import uvloop

RECEIVED = re.compile(rb"#(\d{19}) ")
SENT = re.compile(rb"@(\d{19}) ")
# A moment may lie across two packets: so much is kept for the next.
LONGEST_PIECE = 24
BUCKET_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Job:
    """`requests` are whole HTTP requests, one stream each; `end` stands in the last event of one that was complete.

    Each begins `apart` seconds after the one before it, or, if `one_at_a_time`, after the end of that.
    """

    port: int
    requests: list[str]
    events: int
    end: str
    apart: float
    patience: float
    one_at_a_time: bool = False


@dataclass(slots=True)
class Report:
    """Times are seconds of the machine's monotonic clock; durations are milliseconds.

    `first_added` has one for each stream, `added_p50` and so on are of all events of all streams. All streams were
    running between `all_began` and `first_ended`, if that comes later; `seen` counts the events by when they came,
    in spans of BUCKET_SECONDS.
    """

    completed: int
    events: int
    failed: int
    failures: list[str]
    first_added: list[float]
    added_p50: float
    added_p99: float
    added_most: float
    began: float
    all_began: float
    first_ended: float
    ended: float
    seen: dict[int, int] = field(default_factory=dict)

    def between(self, begin: float, end: float) -> int:
        """How many events came within whole spans of that time."""
        return sum(
            count
            for bucket, count in self.seen.items()
            if begin <= int(bucket) * BUCKET_SECONDS and (int(bucket) + 1) * BUCKET_SECONDS <= end
        )


class Stream(asyncio.Protocol):
    """One request and the stream that answers it."""

    def __init__(self, request: bytes, job: Job, delays: "array[float]", seen: Counter[int]) -> None:
        self._request = request
        self._job = job
        self._delays = delays
        self._seen = seen
        self._rest = b""
        self._complete = False
        self._end = job.end.encode()
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.asked_at = time.monotonic_ns()
        self.first_at = self.ended_at = 0
        self.first_added = 0.0
        self.events = 0
        self._last = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        now = time.monotonic_ns()
        text = self._rest + data
        place, before = 0, self.events
        for found in SENT.finditer(text):
            sent, place = int(found[1]), found.end()
            if not self.events:
                self._first(text, sent, now)
            self.events += 1
            self._delays.append((now - sent) / 1e6)
        self._last = text
        if not self.events:
            self._rest = text
            return
        if place:
            self._seen[int(now / 1e9 / BUCKET_SECONDS)] += self.events - before
        self._complete = self._complete or self._end in text
        # HTTP's own last words.
        if text.endswith(b"0\r\n\r\n"):
            self._transport.close()
        self._rest = text[max(place, len(text) - LONGEST_PIECE) :]

    def _first(self, text: bytes, sent: int, now: int) -> None:
        received = RECEIVED.search(text)
        assert received is not None
        self.first_at = now
        # All that passed, less what the upstream itself took.
        self.first_added = ((now - self.asked_at) - (sent - int(received[1]))) / 1e6

    def connection_lost(self, error: Exception | None) -> None:
        self.ended_at = time.monotonic_ns()
        if not self.over.done():
            self.over.set_result(None)

    def stop(self) -> None:
        self._transport.abort()

    @property
    def failure(self) -> str | None:
        if self._complete and self.events == self._job.events:
            return None
        return f"{self.events} of {self._job.events} events, ending in {self._last[-300:]!r}"


async def run(job: Job) -> Report:
    """Have every request answered; one that is not over after `patience` seconds has failed."""
    loop = asyncio.get_running_loop()
    delays: array[float] = array("d")
    seen: Counter[int] = Counter()
    streams: list[Stream] = []
    began = time.monotonic()

    async def one(request: str) -> None:
        stream = Stream(request.encode(), job, delays, seen)
        streams.append(stream)
        await loop.create_connection(lambda: stream, "127.0.0.1", job.port)
        try:
            async with asyncio.timeout(job.patience):
                await stream.over
        except TimeoutError:
            stream.stop()

    running: list[asyncio.Task[None]] = []
    for number, request in enumerate(job.requests):
        if job.one_at_a_time:
            await one(request)
            await asyncio.sleep(job.apart)
        else:
            await asyncio.sleep(max(0.0, began + number * job.apart - time.monotonic()))
            running.append(asyncio.create_task(one(request)))
    await asyncio.gather(*running)

    failures = [failure for stream in streams if (failure := stream.failure) is not None]
    in_order = sorted(delays)
    return Report(
        completed=len(streams) - len(failures),
        failed=len(failures),
        events=len(delays),
        failures=failures[:2],
        first_added=[stream.first_added for stream in streams if stream.events],
        added_p50=percentile(in_order, 50),
        added_p99=percentile(in_order, 99),
        added_most=percentile(in_order, 100),
        began=began,
        all_began=max(stream.first_at for stream in streams) / 1e9,
        first_ended=min(stream.ended_at for stream in streams) / 1e9,
        ended=max(stream.ended_at for stream in streams) / 1e9,
        seen=dict(seen),
    )


def percentile(in_order: list[float], percent: float) -> float:
    """The smallest of the values that `percent` of them do not exceed; 0 if there are none."""
    if not in_order:
        return 0.0
    return in_order[max(0, math.ceil(len(in_order) * percent / 100) - 1)]


def main() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    for line in sys.stdin:
        print(json.dumps(asdict(uvloop.run(run(Job(**json.loads(line)))))), flush=True)


if __name__ == "__main__":
    main()
