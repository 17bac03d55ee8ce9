"""What the demo Stripe remembers, in memory and, if asked, in a file.

The file has one line of JSON per step: `{"sessions": {"cs_…": {…}}, "events": {…}}`, the rows that the step changed
(null for those that are gone). So a step costs what it changed, however much is remembered.
"""

import json
import logging
import os
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

KEPT = 1000  # of each kind: a stand-in that runs for months must not grow for months
LARGEST_FILE_BYTES = 64 * 1024 * 1024  # then it is written anew, without what has been replaced


class Rows(dict[str, Any]):
    """Things of one kind by their id, oldest first.

    It notes what was looked up by its id, put in or taken out, because only that may have been changed. What is
    found by going through all of it must be looked up before it is changed.
    """

    def __init__(self) -> None:
        super().__init__()
        self.touched: set[str] = set()

    def __getitem__(self, id: str) -> Any:
        self.touched.add(id)
        return super().__getitem__(id)

    def __setitem__(self, id: str, row: Any) -> None:
        self.touched.add(id)
        super().__setitem__(id, row)

    def __delitem__(self, id: str) -> None:
        self.touched.add(id)
        super().__delitem__(id)

    def get(self, id: str, default: Any = None) -> Any:
        self.touched.add(id)
        return super().get(id, default)

    def pop(self, id: str, default: Any = None) -> Any:
        self.touched.add(id)
        return super().pop(id, default)


@dataclass
class Records:
    """Everything that a restart must not lose. Objects of Stripe's are kept by their id, oldest first."""

    customers: Rows = field(default_factory=Rows)
    payment_methods: Rows = field(default_factory=Rows)
    sessions: Rows = field(default_factory=Rows)
    line_items: Rows = field(default_factory=Rows)
    session_plans: Rows = field(default_factory=Rows)
    payment_intents: Rows = field(default_factory=Rows)
    charges: Rows = field(default_factory=Rows)
    refunds: Rows = field(default_factory=Rows)
    disputes: Rows = field(default_factory=Rows)
    products: Rows = field(default_factory=Rows)
    prices: Rows = field(default_factory=Rows)
    subscriptions: Rows = field(default_factory=Rows)
    invoices: Rows = field(default_factory=Rows)
    invoice_payments: Rows = field(default_factory=Rows)
    portals: Rows = field(default_factory=Rows)
    events: Rows = field(default_factory=Rows)
    bank_payments: Rows = field(default_factory=Rows)
    answers: Rows = field(default_factory=Rows)

    _written: dict[tuple[str, str], str] = field(default_factory=dict)
    _bytes: int = 0

    def kinds(self) -> dict[str, Rows]:
        return {kind.name: getattr(self, kind.name) for kind in fields(self) if kind.type is Rows}

    def read(self, file: Path) -> None:
        """Take over what an earlier run wrote; a file that is no such thing is moved aside."""
        try:
            lines = file.read_text().splitlines(keepends=True)
            # A kill can cut the last step short; nobody has been told of that one.
            if len(lines) > 1 and not lines[-1].endswith("\n"):
                lines.pop()
            for line in lines:
                self._take(json.loads(line))
        except FileNotFoundError:
            return
        except (ValueError, KeyError, TypeError, AttributeError):
            aside = file.with_suffix(file.suffix + ".unreadable")
            os.replace(file, aside)
            log.warning("%s could not be read and was moved to %s: starting empty", file, aside.name)
            self.__init__()  # type: ignore[misc]
        self._write_anew(file)

    def write(self, file: Path | None) -> None:
        """Add what has changed since the last time to the file, in one step, and forget what is too old."""
        changed: dict[str, dict[str, Any]] = {}
        for kind, rows in self.kinds().items():
            for id in list(rows)[: max(0, len(rows) - KEPT)]:
                del rows[id]
            for id in rows.touched:
                row = dict.get(rows, id)
                before, text = self._written.pop((kind, id), "null"), json.dumps(row)
                if file and row is not None:
                    self._written[kind, id] = text
                if before != text:
                    changed.setdefault(kind, {})[id] = row
            rows.touched.clear()
        if file and changed:
            line = json.dumps(changed).encode() + b"\n"
            with file.open("ab", buffering=0) as end:
                end.write(line)
            self._bytes += len(line)
            if self._bytes > LARGEST_FILE_BYTES:
                self._write_anew(file)

    def _take(self, step: dict[str, dict[str, Any]]) -> None:
        kinds = self.kinds()
        for kind, changed in step.items():
            for id, row in changed.items():
                if row is None:
                    kinds[kind].pop(id)
                else:
                    kinds[kind][id] = row

    def _write_anew(self, file: Path) -> None:
        """In one step: a kill at any moment leaves the file as it was or as it shall be."""
        beside = file.with_suffix(file.suffix + ".new")
        beside.write_text(json.dumps(self.kinds()) + "\n")
        os.replace(beside, file)
        self._written = {
            (kind, id): json.dumps(row) for kind, rows in self.kinds().items() for id, row in rows.items()
        }
        self._bytes = 0
