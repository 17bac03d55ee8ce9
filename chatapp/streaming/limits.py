"""How many turns a person may open: per minute, and at once.

Counted from the turns themselves, under the wallet's lock: exact across processes, with no second store that
could disagree or be away. Joining a turn that exists costs nothing.
"""

import math
from datetime import timedelta

from django.conf import settings
from django.db.models.functions import Now

from accounts.models import User
from chatapp.conversations.models import Turn
from chatapp.problems import Problem

WINDOW = timedelta(minutes=1)


def check(user: User) -> None:
    """Problem 429 with Retry-After if this person has opened as many turns as they may."""
    turns = Turn.objects.of(user)
    if turns.running().count() >= settings.TURNS_AT_ONCE:
        raise _too_many(
            f"{settings.TURNS_AT_ONCE} answers are being written for you already. Wait for one, or stop one.",
            5,
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
        raise _too_many(
            f"You may send {settings.TURNS_PER_MINUTE} messages a minute. Try again in {seconds} s.", seconds
        )


def _too_many(detail: str, seconds: int) -> Problem:
    return Problem(429, "rate_limited", detail, headers={"Retry-After": str(seconds)}, retry_after=seconds)
