"""The figures of a run: as a table for people, as JSON for machines."""

import json
import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import psutil

CLONE = Path(__file__).resolve().parent.parent
PACKAGES = ("django", "psycopg", "psycopg-pool", "daphne", "twisted", "uvloop", "anthropic", "aiohttp")


@dataclass(frozen=True, slots=True)
class Target:
    """What a figure is to reach: `least` or `most`, of its ratio to the peer or, with none, of the figure itself."""

    least: float | None = None
    most: float | None = None

    def met_by(self, value: float) -> bool:
        return (self.least is None or value >= self.least) and (self.most is None or value <= self.most)

    def __str__(self) -> str:
        bounds = (("≥", self.least), ("≤", self.most))
        return " and ".join(f"{sign} {bound:g}" for sign, bound in bounds if bound is not None)


@dataclass(frozen=True, slots=True)
class Row:
    """One figure: every sample of ours and of the peer's, in the order in which they were taken.

    With `peer`, `target` is one of the ratio, and `limit` one of the figure itself, in `unit`; without, both are of the
    figure. `facts` are what a reader needs to judge it.
    """

    figure: str
    unit: str
    target: Target
    ours: Sequence[float]
    peer: Sequence[float] = ()
    peer_name: str = ""
    limit: Target = Target()
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def ratio(self) -> float | None:
        beside = median(self.peer) if self.peer else 0
        return median(self.ours) / beside if beside else None

    @property
    def met(self) -> bool:
        ours = median(self.ours)
        return self.target.met_by(ours if self.ratio is None else self.ratio) and self.limit.met_by(ours)

    @property
    def targets(self) -> str:
        """As the table tells them."""
        limit = f"{self.limit} {self.unit}".rstrip() if str(self.limit) else ""
        return ", ".join(filter(None, [str(self.target), limit]))

    def as_json(self) -> dict[str, Any]:
        return {
            "figure": self.figure,
            "unit": self.unit,
            "ours": median(self.ours),
            "peer": median(self.peer) if self.peer else None,
            "peer_name": self.peer_name,
            "ratio": self.ratio,
            "target": asdict(self.target),
            "limit": asdict(self.limit),
            "met": self.met,
            "samples": {"ours": list(self.ours), "peer": list(self.peer)},
            "facts": self.facts,
        }


HEADINGS = ("figure", "unit", "ours", "peer", "ratio", "target", "")


def table(rows: Sequence[Row]) -> str:
    """Aligned columns: text to the left, numbers to the right."""
    lines = [HEADINGS, *map(_cells, rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    aligned = [
        "  ".join(
            cell.rjust(width) if 2 <= place <= 4 else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    return "\n".join([aligned[0], "-" * max(map(len, aligned)), *aligned[1:]])


def line(row: Row) -> str:
    """A row by itself, for who waits for the table."""
    return "  ".join(filter(None, _cells(row)))


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.figure,
        row.unit,
        _number(median(row.ours)),
        f"{_number(median(row.peer))} {row.peer_name}" if row.peer else "",
        f"{row.ratio:.2f}" if row.ratio is not None else "",
        row.targets,
        "met" if row.met else "MISSED",
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def write(
    file: Path, rows: dict[str, list[Row]], failed: dict[str, str], *, quick: bool, postgres: str
) -> None:
    """The whole run, with what it ran on; `failed` are the families without rows, each with its reason."""
    content = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "quick": quick,
        "commit": _commit(),
        "machine": _machine(),
        "versions": {
            "python": platform.python_version(),
            "postgresql": postgres,
            **{package: version(package) for package in PACKAGES},
        },
        "families": {family: [row.as_json() for row in of_family] for family, of_family in rows.items()},
        "failed": failed,
        "met": not failed and all(row.met for of_family in rows.values() for row in of_family),
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def _machine() -> dict[str, Any]:
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": platform.platform(),
        "load_average": [round(load, 2) for load in psutil.getloadavg()],
    }


def _processor() -> str:
    """The processor's name where the kernel tells it (Linux), or else its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except FileNotFoundError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _commit() -> str | None:
    """What was measured, `+` for a clone with changes; None where there is no git or no clone."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty=+"],
            cwd=CLONE,
            check=True,
            capture_output=True,
            text=True,
        )
    except (FileNotFoundError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
