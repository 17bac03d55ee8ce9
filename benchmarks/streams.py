"""Streams beside a bare relay: time to first token, processor time per event, delay of events, memory per stream.

Ours is one web process (Daphne, as in production) with PostgreSQL, Valkey and the worker, and people who call with a
key each: every stream is a turn that is held for, journaled, stored, settled and recorded. The peer passes on what
Claude says and does nothing else. Both get the same answers at the same pace from benchmarks/upstream.py, are read by
benchmarks/load.py, and take turns.
"""

import itertools
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import peers, upstream
from benchmarks.load import Job, Report, percentile
from benchmarks.people import OF_STREAMS, open_people
from benchmarks.report import Row, Target
from benchmarks.site import MODEL, Side, Site
from benchmarks.watch import Watch
from chatapp.local.process import CLONE, Program, last_lines

MAX_TOKENS = 4096


@dataclass(frozen=True, slots=True)
class Crowd:
    """Streams at once, each of `events` events, one every `every` seconds; they begin `apart` seconds apart."""

    streams: int
    events: int
    apart: float
    rounds: int
    every: float = 0.05

    @property
    def patience(self) -> float:
        """A stream that takes ten times as long as it should, and a minute, has failed."""
        return 60 + 10 * self.events * self.every


@dataclass(frozen=True, slots=True)
class Size:
    """`first_tokens` short answers one at a time in each of `rounds` rounds, and each of the crowds."""

    people: int
    first_tokens: int
    rounds: int
    crowds: tuple[Crowd, ...]
    full_house: Crowd


FULL = Size(
    people=1_000,
    first_tokens=60,
    rounds=3,
    crowds=(
        Crowd(streams=100, events=300, apart=0.04, rounds=2),
        Crowd(streams=300, events=400, apart=0.04, rounds=2),
    ),
    full_house=Crowd(streams=1_000, events=1_000, apart=0.04, rounds=1),
)
QUICK = Size(
    people=8,
    first_tokens=2,
    rounds=1,
    crowds=(Crowd(streams=4, events=10, apart=0.01, rounds=1),),
    full_house=Crowd(streams=6, events=10, apart=0.01, rounds=1),
)


def measure(site: Site, *, quick: bool, peer: str) -> Iterator[Row]:
    size = QUICK if quick else FULL
    with sides(site, size.people, peer) as (ours, theirs), Reader() as reader:
        for side in (ours, theirs):  # everything is loaded, and connections are warm
            reader.read(side, Crowd(streams=min(20, size.people), events=5, apart=0.02, rounds=1))
        yield from first_tokens(reader, ours, theirs, size)
        for crowd in size.crowds:
            yield from crowd_rows(reader, ours, theirs, crowd)
        yield from full_house_rows(reader, ours, size.full_house)


# --- The sides -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Asking:
    """A side, and how to ask it so many times; `beside` works for it and is told apart."""

    side: Side
    requests: Callable[[int, str], list[str]]
    beside: tuple[Program, ...] = ()


@contextmanager
def sides(site: Site, people: int, peer: str) -> Iterator[tuple[Asking, Asking]]:
    """Ours, with so many people, and the peer."""
    keys = itertools.cycle(open_people(site.database, people, first=OF_STREAMS))
    with peers.peer(peer, site) as other:
        yield Asking(site.web, partial(site.turns, keys), site.beside), Asking(other, partial(bare, other))


def bare(side: Side, count: int, question: str) -> list[str]:
    """Requests for the same answer by nobody in particular."""
    messages = [{"role": "user", "content": question}]
    return [side.request({"model": MODEL, "max_tokens": MAX_TOKENS, "messages": messages})] * count


# --- Reading ---------------------------------------------------------------------------------------------


class Reader:
    """The process that reads the streams (benchmarks/load.py), as a context."""

    def __enter__(self) -> "Reader":
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.load"],
            cwd=CLONE,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *_exception: object) -> None:
        self._process.communicate()  # the end of its input is the end of its work

    def read(self, asking: Asking, crowd: Crowd) -> Report:
        return self._told(asking, crowd, one_at_a_time=False)

    def read_one_at_a_time(self, asking: Asking, crowd: Crowd) -> Report:
        return self._told(asking, crowd, one_at_a_time=True)

    def _told(self, asking: Asking, crowd: Crowd, *, one_at_a_time: bool) -> Report:
        side = asking.side
        question = upstream.question(events=crowd.events, every=crowd.every)
        job = Job(
            port=side.port,
            requests=asking.requests(crowd.streams, question),
            events=crowd.events,
            end=side.end,
            apart=crowd.apart,
            patience=crowd.patience,
            one_at_a_time=one_at_a_time,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asdict(job)) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise AssertionError("the reader has ended: it says why above")
        return Report(**json.loads(line))


def complete(asking: Asking, report: Report) -> None:
    """AssertionError if a stream was not: what the others took then says nothing."""
    if report.failures:
        side = asking.side
        assert isinstance(side.program.output, Path)
        raise AssertionError(
            f"{report.failed} streams of {side.name} were not complete:\n"
            + "\n".join([*report.failures, "The end of its log:", last_lines(side.program.output, 10)])
        )


@dataclass(frozen=True, slots=True)
class Taken:
    """What reading one crowd came to."""

    report: Report
    web: Watch
    beside: float

    @property
    def cpu_whole(self) -> float:
        """Microseconds of the web processes per event, opening and closing of the streams included."""
        return self.web.cpu / self.report.events * 1e6

    @property
    def cpu_streaming(self) -> float:
        """Microseconds of the web processes per event while all streams were running."""
        begin, end = self.report.all_began, self.report.first_ended
        events = self.report.between(begin, end)
        return self.web.cpu_between(begin, end) / events * 1e6 if events else self.cpu_whole


def take(reader: Reader, asking: Asking, crowd: Crowd) -> Taken:
    with ExitStack() as stack:
        web = stack.enter_context(Watch(asking.side.program.pid))
        beside = [stack.enter_context(Watch(program.pid)) for program in asking.beside]
        report = reader.read(asking, crowd)
    return Taken(report, web, sum(watch.cpu for watch in beside) / report.events * 1e6)


# --- The rows --------------------------------------------------------------------------------------------


def first_tokens(reader: Reader, ours: Asking, theirs: Asking, size: Size) -> list[Row]:
    """Short answers, one at a time, with a pause in which what comes after an answer is done."""
    crowd = Crowd(streams=size.first_tokens, events=3, apart=0.1, rounds=size.rounds, every=0.01)
    added: dict[str, list[list[float]]] = {"ours": [], "peer": []}
    for _ in range(size.rounds):
        for name, asking in (("ours", ours), ("peer", theirs)):
            report = reader.read_one_at_a_time(asking, crowd)
            complete(asking, report)
            added[name].append(sorted(report.first_added))
    return [
        Row(
            f"first token added, idle, p{percent}",
            "ms",
            Target(most=most),
            [percentile(sample, percent) for sample in added["ours"]],
            [percentile(sample, percent) for sample in added["peer"]],
            theirs.side.name,
            facts={"answers": size.first_tokens},
        )
        for percent, most in ((50, 1), (99, 0.5))
    ]


def crowd_rows(reader: Reader, ours: Asking, theirs: Asking, crowd: Crowd) -> list[Row]:
    taken: dict[str, list[Taken]] = {"ours": [], "peer": []}
    for _ in range(crowd.rounds):
        for name, asking in (("ours", ours), ("peer", theirs)):
            taken[name].append(take(reader, asking, crowd))
            complete(asking, taken[name][-1].report)

    def row(figure: str, unit: str, value: Callable[[Taken], float], **targets: Target) -> Row:
        return Row(
            f"{figure}, {crowd.streams} streams",
            unit,
            ours=[value(each) for each in taken["ours"]],
            peer=[value(each) for each in taken["peer"]],
            peer_name=theirs.side.name,
            facts=facts,
            **targets,
        )

    facts = {
        **asdict(crowd),
        "cpu_beside_us": [each.beside for each in taken["ours"]],
        "added_p50_ms": {name: [each.report.added_p50 for each in of] for name, of in taken.items()},
        "added_most_ms": {name: [each.report.added_most for each in of] for name, of in taken.items()},
    }
    half, below = Target(most=0.5), Target(most=1)
    return [
        row("CPU per event, whole answers", "µs", lambda each: each.cpu_whole, target=half),
        row("CPU per event, while streaming", "µs", lambda each: each.cpu_streaming, target=half),
        row(
            "delay of events, p99",
            "ms",
            lambda each: each.report.added_p99,
            target=below,
            limit=Target(most=100),
        ),
    ]


def full_house_rows(reader: Reader, ours: Asking, crowd: Crowd) -> list[Row]:
    """As many streams as one web process takes: more events than it can pass on one by one."""
    taken = take(reader, ours, crowd)
    report = taken.report
    facts: dict[str, Any] = {
        **asdict(crowd),
        "all_at_once": at_once(report),
        "seconds": report.ended - report.began,
        "added_p50_ms": report.added_p50,
        "added_p99_ms": report.added_p99,
        "cpu_us": taken.cpu_whole,
        "failures": report.failures,
    }
    return [
        Row(
            f"complete, of {crowd.streams:,} streams at once",
            "",
            Target(least=crowd.streams),
            [report.completed if at_once(report) else 0],
            facts=facts,
        ),
        Row(
            f"memory per stream, of {crowd.streams:,}",
            "KB",
            Target(most=120),
            [taken.web.growth / crowd.streams / 1000],
            facts=facts,
        ),
    ]


def at_once(report: Report) -> bool:
    """Whether there was a moment in which all streams were running."""
    return report.all_began < report.first_ended
