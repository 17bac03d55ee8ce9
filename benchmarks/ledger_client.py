"""One client of the ledger's benchmark: a process that holds and settles as the product does, one turn at a time.

A command is a line of JSON on standard input, and so is its answer on standard output.
"""

import itertools
import json
import random
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import django
from django.db import connection, connections, transaction

django.setup()

from accounts.models import User  # noqa: E402
from benchmarks.ledger import HELD, PRICE, person_id  # noqa: E402
from billing import audit, ledger  # noqa: E402


def cycle(*, user: User, hold_id: uuid.UUID) -> None:
    """What the ledger does for one turn; see `open` and `close` in chatapp/streaming/turns.py, and chatapp/db.py."""
    open_turn(user, hold_id)
    connections.close_all()  # back to the pool, as while an answer streams
    close_turn(hold_id)
    connections.close_all()


def open_turn(user: User, hold_id: uuid.UUID) -> None:
    with transaction.atomic():
        wallet = ledger.locked_wallet_of(user)
        ledger.hold(wallet=wallet, hold_id=hold_id, amount=HELD)


def close_turn(hold_id: uuid.UUID) -> None:
    with transaction.atomic():
        wallet, _ = ledger.lock_wallet_holding(hold_id)
        ledger.settle(wallet=wallet, hold_id=hold_id, held=HELD, price=PRICE)


def run(*, accounts: int, seconds: float) -> dict[str, float]:
    """Cycles on accounts drawn at random, one after the other; at least one, and the last one is finished."""
    began = time.monotonic()
    for done in itertools.count(1):
        user = User(id=person_id(random.randrange(accounts)))  # noqa: S311
        cycle(user=user, hold_id=uuid.uuid4())
        took = time.monotonic() - began
        if took >= seconds:
            return {"cycles": done, "seconds": took}
    raise AssertionError("the count goes on")


def capture(*, number: int, hold: str) -> dict[str, list[str]]:
    """What each transaction of this person's cycle sends, a round trip each, as it goes over the wire."""
    user, hold_id = User(id=person_id(number)), uuid.UUID(hold)
    with listening() as opening:
        open_turn(user, hold_id)
    with listening() as closing:
        close_turn(hold_id)
    return {"open": opening, "close": closing}


@contextmanager
def listening() -> Iterator[list[str]]:
    sent: list[str] = []

    def note(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: dict[str, Any]) -> Any:
        sent.append(context["cursor"].mogrify(sql, params))
        return execute(sql, params, many, context)

    with connection.execute_wrapper(note):
        yield sent


def prove() -> dict[str, list[str]]:
    """The books' broken rows, as far as the ledger alone can tell: these holds have no turns."""
    return {"broken": [str(row) for rows in audit.prove(audit.RULES).broken.values() for row in rows]}


COMMANDS: dict[str, Callable[..., dict[str, Any]]] = {"run": run, "capture": capture, "prove": prove}


def main() -> None:
    for line in sys.stdin:
        command = json.loads(line)
        print(json.dumps(COMMANDS[command.pop("do")](**command)), flush=True)


if __name__ == "__main__":
    main()
