"""What the demo Stripe remembers, in memory and, if asked, in a file."""

import json
import logging
import os
from dataclasses import dataclass, field, fields
from pathlib import Path

from chatapp.local.demo_stripe.objects import Json

log = logging.getLogger(__name__)

KEPT = 1000  # of each kind: a stand-in that runs for months must not grow for months


@dataclass
class Records:
    """Everything that a restart must not lose. Objects of Stripe's are kept by their id, oldest first."""

    customers: dict[str, Json] = field(default_factory=dict)
    payment_methods: dict[str, Json] = field(default_factory=dict)
    sessions: dict[str, Json] = field(default_factory=dict)
    line_items: dict[str, list[Json]] = field(default_factory=dict)
    session_plans: dict[str, Json] = field(default_factory=dict)
    payment_intents: dict[str, Json] = field(default_factory=dict)
    charges: dict[str, Json] = field(default_factory=dict)
    refunds: dict[str, Json] = field(default_factory=dict)
    disputes: dict[str, Json] = field(default_factory=dict)
    products: dict[str, Json] = field(default_factory=dict)
    prices: dict[str, Json] = field(default_factory=dict)
    subscriptions: dict[str, Json] = field(default_factory=dict)
    invoices: dict[str, Json] = field(default_factory=dict)
    invoice_payments: dict[str, Json] = field(default_factory=dict)
    portals: dict[str, Json] = field(default_factory=dict)
    events: dict[str, Json] = field(default_factory=dict)
    bank_payments: dict[str, Json] = field(default_factory=dict)
    answers: dict[str, Json] = field(default_factory=dict)

    def read(self, file: Path) -> None:
        """Take over what an earlier run wrote; a file that is no such thing is moved aside."""
        try:
            stored = json.loads(file.read_text())
            for kind in fields(self):
                setattr(self, kind.name, dict(stored[kind.name]))
        except FileNotFoundError:
            return
        except (ValueError, KeyError, TypeError):
            aside = file.with_suffix(file.suffix + ".unreadable")
            os.replace(file, aside)
            log.warning("%s could not be read and was moved to %s: starting empty", file, aside.name)
            self.__init__()  # type: ignore[misc]

    def write(self, file: Path) -> None:
        """In one step: a kill at any moment leaves the file as it was or as it shall be."""
        beside = file.with_suffix(file.suffix + ".new")
        beside.write_text(json.dumps({kind.name: getattr(self, kind.name) for kind in fields(self)}))
        os.replace(beside, file)

    def forget_the_oldest(self) -> None:
        for kind in fields(self):
            rows = getattr(self, kind.name)
            for id in list(rows)[: max(0, len(rows) - KEPT)]:
                del rows[id]
