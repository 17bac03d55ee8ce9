"""How many turns may be opened: by a person per minute and at once, with one API key and from one address per minute.

A person's are counted from the turns themselves, under the wallet's lock: exact across processes, with no second store
that could disagree or be away. A key's and an address's are counted in moving windows (`chatapp.windows`), as the last
thing before a turn is stored. Joining a turn that exists costs nothing.
"""

import math
from dataclasses import dataclass
from datetime import timedelta

from django.conf import settings
from django.db.models.functions import Now

from accounts.models import User
from chatapp import windows
from chatapp.conversations.models import Turn
from chatapp.problems import rate_limited

WINDOW = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Source:
    """Where a request for a turn comes from: the public part of its API key, and its network. Empty: not limited."""

    api_key: str = ""
    network: str = ""


ITSELF = Source()


def check(user: User) -> None:
    """Problem 429 with Retry-After if this person has opened as many turns as they may."""
    turns = Turn.objects.of(user)
    if turns.running().count() >= settings.TURNS_AT_ONCE:
        raise rate_limited(
            f"{settings.TURNS_AT_ONCE} answers are being written for you already. Wait for one, or stop one.",
            seconds=5,
        )
    recent = list(
        turns.filter(created_at__gt=Now() - WINDOW)
        .annotate(now=Now())
        .order_by("-created_at")
        .values_list("created_at", "now")[: settings.TURNS_PER_MINUTE]
    )
    if len(recent) >= settings.TURNS_PER_MINUTE:
        oldest, now = recent[-1]
        seconds = max(1, math.ceil((oldest + WINDOW - now).total_seconds()))
        raise rate_limited(
            f"You may send {settings.TURNS_PER_MINUTE} messages a minute. Try again in {seconds} s.",
            seconds=seconds,
        )


def take(source: Source) -> None:
    """Take a place for one more turn; Problem 429 with Retry-After if its key or its address has none left."""
    for kind, who, per_minute, whose in (
        ("key", source.api_key, settings.TURNS_PER_MINUTE_PER_KEY, "with this API key"),
        ("address", source.network, settings.TURNS_PER_MINUTE_PER_ADDRESS, "from your address"),
    ):
        seconds = windows.take(f"turns/{kind}", who, per_minute=per_minute) if who else 0
        if seconds:
            raise rate_limited(
                f"{per_minute} messages a minute may be sent {whose}. Try again in {seconds} s.",
                seconds=seconds,
            )
