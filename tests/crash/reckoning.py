"""What people should have, added up from what they were told, beside what they have."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from billing.credits import to_microcredits
from tests.crash.people import Person


@dataclass
class Account:
    """What it came to; `lost` is in microcredits, whoever lost them."""

    killed: Counter[str]
    seconds: float
    tried: Counter[str] = field(default_factory=Counter)
    lost: int = 0
    turns: Counter[str] = field(default_factory=Counter)
    sessions: int = 0
    periods: int = 0
    refunded_cents: int = 0
    expired: int = 0
    wrong: list[str] = field(default_factory=list)

    def add(self, person: Person) -> None:
        """Add up what a person should have, from what they were told, and compare it with what they have."""
        lines = person.statement()
        charges = Counter(line["turn"] for line in lines if line["kind"] == "charge")
        credited = Counter(line["order"] for line in lines if line["kind"] == "purchase")
        charged = 0
        for turn, told in person.told.items():
            answer = person.get(f"turns/{turn}")
            if answer.status_code == 404:  # never begun
                self.turns["never begun"] += 1
                self.note(told, set(), f"turn {turn} that does not exist was told an end")
                continue
            found = answer.raise_for_status().json()
            self.turns[found["state"]] += 1
            price = Decimal(found["charged"])
            charged += to_microcredits(price)
            self.note(told - {price}, set(), f"turn {turn} is charged another price than was told")
            self.note(charges[turn], 1 if price else 0, f"charges of turn {turn}")
        self.sessions += len(person.paid)
        self.periods += (periods := person.periods)
        self.note(
            sorted(credited.values()), [1] * (len(person.paid) + periods), f"purchases of {person.user}"
        )
        packs, plans = to_microcredits(person.pack.credits), to_microcredits(person.plan.credits)
        bought = len(person.paid) * packs + periods * plans
        self.refunded_cents += (refunded := person.refunded_cents)
        self.expired += (expired := self.expired_of(person, lines))
        balance = person.get("me").raise_for_status().json()["balance"]
        taken = packs // person.pack.price_cents * refunded + expired
        expected = person.had + bought + person.granted - charged - taken
        has = to_microcredits(Decimal(balance["available"]))
        self.note(Decimal(balance["held"]), Decimal(0), f"held of {person.user}")
        self.note(has, expected, f"balance of {person.user}")
        self.lost += abs(has - expected)

    def expired_of(self, person: Person, lines: list[dict[str, Any]]) -> int:
        """What expired: no more than what came with an end that is past."""
        gone = sum(-to_microcredits(Decimal(line["amount"])) for line in lines if line["kind"] == "expiry")
        now = datetime.now(UTC)
        over = sum(
            to_microcredits(Decimal(line["amount"]))
            for line in lines
            if line["expires_at"] and datetime.fromisoformat(line["expires_at"]) <= now
        )
        self.note(0 <= gone <= over, True, f"{gone} of {over} microcredits of {person.user} expired")
        return gone

    def note(self, found: object, expected: object, about: str) -> None:
        if found != expected:
            self.wrong.append(f"{about}: {found}, not {expected}")

    def __str__(self) -> str:
        def listed(counted: Counter[str]) -> str:
            return ", ".join(f"{times:,} {name}" for name, times in counted.most_common())

        return "\n".join(
            [
                f"operations tried  {self.tried.total():,} ({listed(self.tried)})",
                f"kills             {self.killed.total():,} ({listed(self.killed)})",
                f"turns             {self.turns.total():,} ({listed(self.turns)})",
                f"paid sessions     {self.sessions:,} and {self.periods:,} periods of plans, each credited once",
                f"refunded          {self.refunded_cents / 100:,.2f} US$, each cent taken back once",
                f"expired           {self.expired / 1_000_000:,.0f} credits",
                f"time taken        {self.seconds:.0f} s",
                f"credits lost      {self.lost / 1_000_000:g}",
            ]
        )
