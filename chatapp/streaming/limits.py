"""How many turns may be opened: by a person per minute and at once, with one API key and from one address per minute.

A person's are counted from the turns themselves, under the wallet's lock: exact across processes, with no second store
that could disagree or be away. A key's and an address's are counted in moving windows (`chatapp.windows`), as the last
thing before a turn is stored. Joining a turn that exists costs nothing.
"""

import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings

from accounts.models import User
from billing.sql import Rows, Statement
from chatapp import windows
from chatapp.problems import rate_limited
from chatapp.windows import Window

WINDOW = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Source:
    """Where a request for a turn comes from: the public part of its API key, and its network. Empty: not limited."""

    api_key: str = ""
    network: str = ""


ITSELF = Source()


@dataclass(frozen=True, slots=True)
class Standing:
    """A person's turns of the last minute, and those that are running: read under the wallet's lock, so it stays so."""

    turns: tuple[tuple[UUID, UUID | None, bool, datetime], ...]
    """(turn, conversation, whether it is running, when it was opened), the newest first."""
    now: datetime
    id_is_taken: bool
    """Whether there is a turn of the id that was asked for, whoever's and however old."""

    def runs_in(self, conversation_id: UUID) -> bool:
        """Whether an answer is being written in this conversation."""
        return any(runs and where == conversation_id for _, where, runs, _ in self.turns)

    def check(self) -> None:
        """Problem 429 with Retry-After if as many turns were opened as may be."""
        if sum(runs for _, _, runs, _ in self.turns) >= settings.TURNS_AT_ONCE:
            raise rate_limited(
                f"{settings.TURNS_AT_ONCE} answers are being written for you already. Wait for one, or stop one.",
                seconds=5,
            )
        recent = [opened for *_, opened in self.turns if opened > self.now - WINDOW]
        if len(recent) >= settings.TURNS_PER_MINUTE:
            free = recent[settings.TURNS_PER_MINUTE - 1] + WINDOW
            seconds = max(1, math.ceil((free - self.now).total_seconds()))
            raise rate_limited(
                f"You may send {settings.TURNS_PER_MINUTE} messages a minute. Try again in {seconds} s.",
                seconds=seconds,
            )


# The clock is read when this is asked, which is after it waited for the lock.
STANDING = """
SELECT clock_timestamp(), EXISTS (SELECT FROM conversations_turn WHERE id = %(turn)s), recent.*
FROM (VALUES (1)) AS always LEFT JOIN (
    SELECT id, conversation_id, state = 'running', created_at FROM conversations_turn
    WHERE user_id = %(user)s
        AND (created_at > (SELECT clock_timestamp()) - %(window)s * interval '1 second' OR state = 'running')
) AS recent ON true
ORDER BY recent.created_at DESC
"""


def standing(user: User, turn_id: UUID) -> Statement[Standing]:
    """How somebody stands who asks for a turn of this id: in one query, since it is asked with every message."""
    return Statement(
        STANDING, {"turn": turn_id, "user": user.pk, "window": WINDOW.total_seconds()}, _standing
    )


def _standing(found: Rows) -> Standing:
    now, id_is_taken, *_ = found[0]
    return Standing(tuple(row[2:] for row in found if row[2] is not None), now, id_is_taken)


def take(source: Source) -> None:
    """Take a place for one more turn; Problem 429 with Retry-After if its key or its address has none left."""
    limited = (
        Window("turns/key", source.api_key, settings.TURNS_PER_MINUTE_PER_KEY),
        Window("turns/address", source.network, settings.TURNS_PER_MINUTE_PER_ADDRESS),
    )
    if full := windows.take_all(*(window for window in limited if window.who)):
        window, seconds = full
        raise rate_limited(
            f"{window.per_minute} messages a minute may be sent {WHOSE[window.name]}. Try again in {seconds} s.",
            seconds=seconds,
        )


WHOSE = {"turns/key": "with this API key", "turns/address": "from your address"}
