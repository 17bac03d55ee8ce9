"""Hold + settle cycles per second: the ledger's own code, beside pgbench with the statements that it sends.

Our side is as many processes as pgbench has sessions, each with one connection: what a host with several web
processes is. The statements are listened to when the run begins and made a pgbench script, so both sides do the same
work in the database. They take turns, and each turn begins with a vacuumed database and a fresh checkpoint.
"""

import json
import re
import subprocess
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, LiteralString, Self

from benchmarks.report import Row, Target
from benchmarks.servers import Database, Servers
from chatapp.local.process import CLONE

TARGET = Target(least=0.5)

# Microcredits: what a turn holds, and what it comes to.
HELD, PRICE = 1_000, 400

# People's ids end in twelve decimal digits, which pgbench can draw as well as we can.
ID_PREFIX = "00000000-0000-4000-8000-"
FIRST_ID = 10**11


def person_id(number: int) -> uuid.UUID:
    return uuid.UUID(f"{ID_PREFIX}{FIRST_ID + number}")


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured: `rounds` × two sides × `seconds` for each of the two spreads."""

    accounts: int
    clients: int
    rounds: int
    seconds: float


FULL = Size(accounts=10_000, clients=8, rounds=5, seconds=5)
QUICK = Size(accounts=20, clients=1, rounds=1, seconds=0.1)


def measure(servers: Servers, *, quick: bool) -> list[Row]:
    size = QUICK if quick else FULL
    database = servers.database("ledger")
    open_accounts(database, size.accounts)
    with Clients(database, size.clients) as clients:
        script = servers.home / "cycle.pgbench"
        script.write_text(pgbench_script(clients, database))
        rows = [
            _row(
                f"hold + settle, {size.accounts:,} accounts", size.accounts, size, clients, database, script
            ),
            _row("hold + settle, one hot account", 1, size, clients, database, script),
        ]
        [proof] = clients.tell({"do": "prove"}, first=1)
    if proof["broken"]:
        raise AssertionError("the benchmark has broken the books:\n" + "\n".join(proof["broken"]))
    return rows


def _row(figure: str, accounts: int, size: Size, clients: "Clients", database: Database, script: Path) -> Row:
    ours: list[float] = []
    pgbench: list[float] = []
    clients.run(accounts, seconds=0.2)  # everything is loaded and every page is in memory
    for _ in range(size.rounds):
        _level(database)
        ours.append(clients.run(accounts, size.seconds))
        _level(database)
        pgbench.append(_pgbench(database, script, accounts, size))
    return Row(
        figure,
        "cycles/s",
        TARGET,
        ours,
        pgbench,
        "pgbench",
        facts={
            "accounts": accounts,
            "clients": size.clients,
            "seconds": size.seconds,
            "script": script.read_text(),
        },
    )


def _level(database: Database) -> None:
    database.execute("VACUUM ANALYZE", "CHECKPOINT")


def _pgbench(database: Database, script: Path, accounts: int, size: Size) -> float:
    told = database.pgbench(
        script,
        clients=size.clients,
        seconds=size.seconds,
        variables={"first": FIRST_ID, "last": FIRST_ID + accounts - 1},
    )
    failed = re.search(r"number of failed transactions: (\d+)", told)
    speed = re.search(r"^tps = ([\d.]+)", told, re.MULTILINE)
    if speed is None or failed is None or int(failed[1]):
        raise AssertionError(f"pgbench did not do its work:\n{told}")
    return float(speed[1])


# --- The accounts ----------------------------------------------------------------------------------------


def open_accounts(database: Database, count: int, *, first: int = 0) -> None:
    """People, numbered from `first`, with a wallet each, in which the operator has put a million credits.

    All rules are switched on.
    """
    database.execute(
        """
        INSERT INTO accounts_user (id, email, password, name, is_superuser, is_staff, is_active, date_joined)
        SELECT (%(prefix)s::text || %(first)s + n)::uuid, 'bench-' || n || '@example.org', '!', '',
            false, false, true, now()
        FROM generate_series(%(low)s::int, %(high)s::int) n
        """,
        """
        INSERT INTO billing_account (kind, user_id, balance, held)
        SELECT 'wallet', (%(prefix)s::text || %(first)s + n)::uuid, 0, 0
        FROM generate_series(%(low)s::int, %(high)s::int) n
        """,
        FILL,
        prefix=ID_PREFIX,
        first=FIRST_ID,
        low=first,
        high=first + count - 1,
        balance=10**12,
    )


# Every wallet that is still empty.
FILL: LiteralString = """
    INSERT INTO billing_transfer (key, kind, debit_id, credit_id, amount, balance_after, reason, made_by)
    SELECT 'adjustment:bench-' || wallet.id, 'adjustment', house.id, wallet.id, %(balance)s, %(balance)s, 'to spend',
        'me'
    FROM billing_account wallet CROSS JOIN billing_account house
    WHERE wallet.kind = 'wallet' AND house.kind = 'adjustments' AND wallet.balance = 0
"""


# --- The script ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Probe:
    """A person whose numbers are found nowhere else: by them is recognized what pgbench has to draw or read."""

    number: int
    wallet: int
    balance: int
    hold: uuid.UUID

    def open(self, database: Database) -> None:
        database.execute(
            """
            INSERT INTO accounts_user (id, email, password, name, is_superuser, is_staff, is_active, date_joined)
            VALUES (%(person)s, %(wallet)s || '@example.org', '!', '', false, false, true, now())
            """,
            """
            INSERT INTO billing_account (id, kind, user_id, balance, held)
            VALUES (%(wallet)s, 'wallet', %(person)s, 0, 0)
            """,
            FILL,
            person=person_id(self.number),
            wallet=self.wallet,
            balance=self.balance,
        )

    def without_numbers(self, statement: str) -> str:
        """The statement with pgbench's variables where this person's numbers were."""
        person = person_id(self.number)
        for number, variable in (
            (str(person), f"{ID_PREFIX}:person"),
            (person.hex, f"{ID_PREFIX.replace('-', '')}:person"),
            (str(self.hold), "00000000-0000-4000-:hold_high-:hold_low"),
            (self.hold.hex, "0000000000004000:hold_high:hold_low"),
            (str(self.balance), ":wallet_balance"),
            (str(self.wallet), ":wallet_id"),
        ):
            statement = statement.replace(number, variable)
        return statement


PROBES = (
    Probe(31415926535, 7_071_067_811, 2_718_281_828_459, uuid.UUID("57721566-4901-4286-8606-120900824024")),
    Probe(27182818284, 5_772_156_649, 1_618_033_988_749, uuid.UUID("16180339-8874-4989-8848-204586834365")),
)

DRAW = r"""\set person random(:first, :last)
\set hold_high random(1000, 9999)
\set hold_low random(100000000000, 999999999999)
"""


def pgbench_script(clients: "Clients", database: Database) -> str:
    """What our code sends for one cycle, with what differs from cycle to cycle as pgbench's variables.

    It is listened to for two people. Without their numbers both must read the same: otherwise something that differs
    was not recognized, and the script would not do what our code does.
    """
    scripts = []
    for probe in PROBES:
        probe.open(database)
        [sent] = clients.tell({"do": "capture", "number": probe.number, "hold": str(probe.hold)}, first=1)
        commands = [
            _command(probe.without_numbers(together)) for step in ("open", "close") for together in sent[step]
        ]
        scripts.append(DRAW + "\n".join(commands) + "\n")
    if scripts[0] != scripts[1]:
        raise AssertionError("two cycles differ in more than is known:\n" + "\n".join(scripts))
    return scripts[0]


def _command(together: str) -> str:
    """A line of the script: the statements of one round trip, which stay one. What locks a wallet also tells its id and
    balance, which the next ones need; it is the last of its own.
    """
    line = r"\; ".join(" ".join(statement.split()) for statement in together.split(";\n"))
    if " FOR UPDATE" in line:
        return rf"{line} \gset wallet_"
    return f"{line};"


# --- Our clients -----------------------------------------------------------------------------------------


class Clients:
    """Processes that run `benchmarks.ledger_client`, as a context. What they write on stderr is seen."""

    def __init__(self, database: Database, count: int) -> None:
        self.processes = [
            subprocess.Popen(
                [sys.executable, "-m", "benchmarks.ledger_client"],
                cwd=CLONE,
                env=database.env,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(count)
        ]

    def __enter__(self) -> Self:
        # Each is up, connected, and has looked up what it looks up once.
        self.run(1, seconds=0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for process in self.processes:
            process.communicate()  # the end of its input is the end of its work

    def run(self, accounts: int, seconds: float) -> float:
        """Cycles per second of all together."""
        done = self.tell({"do": "run", "accounts": accounts, "seconds": seconds})
        return sum(each["cycles"] / each["seconds"] for each in done)

    def tell(self, command: dict[str, Any], first: int | None = None) -> list[dict[str, Any]]:
        """Have the `first` of them, or all, do it at once; what each answers."""
        chosen = self.processes[:first]
        for process in chosen:
            assert process.stdin is not None
            process.stdin.write(json.dumps(command) + "\n")
            process.stdin.flush()
        answers = []
        for process in chosen:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                raise AssertionError("a client has ended: it says why above")
            answers.append(json.loads(line))
        return answers
