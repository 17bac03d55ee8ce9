"""Keyset paging of the list of conversations: stable while new ones arrive, and as fast on any page."""

import base64
import json
from datetime import datetime
from uuid import UUID

from django.db.models import Q, QuerySet

from chatapp.conversations.models import Conversation
from chatapp.problems import invalid


def after(conversations: QuerySet[Conversation], cursor: str | None) -> QuerySet[Conversation]:
    """Those that come after `cursor` in the list's order; Problem 400 if it is none of ours."""
    if cursor is None:
        return conversations
    try:
        pinned, updated, id_ = json.loads(base64.urlsafe_b64decode(cursor))
        at, pk = datetime.fromisoformat(updated), UUID(id_)
    except (ValueError, TypeError) as error:
        raise invalid(
            cursor="This is not a cursor that we gave. Leave it out to begin at the start."
        ) from error
    later = Q(updated_at__lt=at) | Q(updated_at=at, pk__lt=pk)
    return conversations.filter(
        Q(pinned=True) & later | Q(pinned=False) if pinned else Q(pinned=False) & later
    )


def cursor_at(conversation: Conversation) -> str:
    place = [conversation.pinned, conversation.updated_at.isoformat(), str(conversation.pk)]
    return base64.urlsafe_b64encode(json.dumps(place).encode()).decode()
