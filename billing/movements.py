"""The movements of one wallet: which of them, and a page at a time.

A wallet is on either side of its movements. Each side has an index in order of ids, so a page is read from both and
merged: as quick at the end of a long statement as at its beginning, which one query with OR is not.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from uuid import UUID

from django.db.models import QuerySet

from accounts.models import User
from billing import answers
from billing.models import Account, Transfer

# What a person can have in their statement; overruns are between accounts of the house.
KINDS = [kind for kind in Transfer.Kind if kind != Transfer.Kind.OVERRUN]
ONLY_IN = {Transfer.Kind.SIGNUP, Transfer.Kind.PURCHASE, Transfer.Kind.GRANT}
ONLY_OUT = {Transfer.Kind.CHARGE, Transfer.Kind.EXPIRY}
LARGEST_ID = 2**63 - 1
FEW = 2_000


@dataclass(frozen=True, slots=True)
class Filters:
    """What to leave out of a statement: all but a kind, a model, a conversation, days of UTC (both included)."""

    kind: str | None = None
    model: str | None = None
    conversation: UUID | None = None
    first: date | None = None
    last: date | None = None

    def __bool__(self) -> bool:
        return self != Filters()


@dataclass(frozen=True, slots=True)
class Page:
    """Some movements, newest first, and whether there are others on either side of them."""

    transfers: list[Transfer]
    has_newer: bool
    has_older: bool


def older(wallet: Account, filters: Filters, *, than: int | None, limit: int) -> Page:
    """The newest movements, or those before the one with the id `than`."""
    found = _merged(wallet, filters, "-id", limit + 1, id__lt=min(than, LARGEST_ID) if than else None)
    return Page(found[:limit], has_newer=than is not None, has_older=len(found) > limit)


def newer(wallet: Account, filters: Filters, *, than: int, limit: int) -> Page:
    """The movements next after the one with the id `than`."""
    found = _merged(wallet, filters, "id", limit + 1, id__gt=min(than, LARGEST_ID))
    return Page(found[:limit][::-1], has_newer=len(found) > limit, has_older=True)


def _merged(wallet: Account, filters: Filters, order: str, limit: int, **bound: int | None) -> list[Transfer]:
    bounds = {name: value for name, value in bound.items() if value is not None}
    found = [
        transfer
        for side in _sides(filters)
        for transfer in _matching(wallet, filters)
        .filter(**{side: wallet}, **bounds)
        .select_related("order__plan", "source__order__plan", "lot")
        .order_by(order)[:limit]
    ]
    return sorted(found, key=lambda transfer: transfer.pk, reverse=order == "-id")[:limit]


def _sides(filters: Filters) -> list[str]:
    if filters.model is not None or filters.conversation is not None or filters.kind in ONLY_OUT:
        return ["debit"]
    return ["credit"] if filters.kind in ONLY_IN else ["debit", "credit"]


def _matching(wallet: Account, filters: Filters) -> QuerySet[Transfer]:
    found = Transfer.objects.all()
    if filters.kind is not None:
        found = found.filter(kind=filters.kind)
    if filters.model is not None or filters.conversation is not None:
        found = found.filter(kind=Transfer.Kind.CHARGE, hold__in=_answers(wallet.user, filters))
    if filters.first is not None:
        found = found.filter(created_at__gte=_midnight(filters.first))
    if filters.last is not None:
        found = found.filter(created_at__lt=_midnight(filters.last + timedelta(days=1)))
    return found


def _answers(user: User | None, filters: Filters) -> QuerySet[Transfer, UUID] | list[UUID]:
    """The turns to look for, as a list if they are few.

    What is rare in a long statement is found through its turns; what is frequent, by reading on along the statement.
    PostgreSQL cannot know which it is: of 100,000 lines, the wrong way takes 400 ms to find three.
    """
    if user is None:
        return []
    asked = answers.book().ids(user, model=filters.model, conversation=filters.conversation)
    few = list(asked[: FEW + 1])
    return few if len(few) <= FEW else asked


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
