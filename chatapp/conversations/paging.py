"""Keyset paging of the list of conversations: stable while new ones arrive, and as fast on any page."""

import base64
from datetime import datetime, timedelta
from uuid import UUID

from django.db.models import Q, QuerySet

from chatapp.conversations.models import Conversation
from chatapp.problems import invalid


def after(conversations: QuerySet[Conversation], cursor: str | None) -> QuerySet[Conversation]:
    """Those that come after `cursor` in the list's order; Problem 400 if it is none of ours."""
    if cursor is None:
        return conversations
    try:
        pinned, at, pk = _place(cursor)
    except ValueError as error:
        raise invalid(
            cursor="This is not a cursor that we gave. Leave it out to begin at the start."
        ) from error
    later = Q(updated_at__lt=at) | Q(updated_at=at, pk__lt=pk)
    return conversations.filter(
        Q(pinned=True) & later | Q(pinned=False) if pinned else Q(pinned=False) & later
    )


def cursor_at(conversation: Conversation) -> str:
    place = f"{conversation.pinned:d} {conversation.updated_at.isoformat()} {conversation.pk}"
    return base64.urlsafe_b64encode(place.encode()).decode()


def _place(cursor: str) -> tuple[bool, datetime, UUID]:
    """Where a cursor stands; ValueError if it is none of ours."""
    pinned, updated, pk = base64.urlsafe_b64decode(cursor).decode().split(" ")
    at = datetime.fromisoformat(updated)
    if pinned not in ("0", "1") or at.utcoffset() != timedelta(0):
        raise ValueError(cursor)
    return pinned == "1", at, UUID(pk)
