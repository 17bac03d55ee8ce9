"""Walks through a conversation's tree of messages: one short query each, whatever the tree's size."""

from collections import defaultdict
from collections.abc import Collection
from uuid import UUID

from django.db import connection
from django.db.models import Q

from chatapp.conversations.models import Message

UP = """
WITH RECURSIVE branch AS (
    SELECT id, parent_id, 1 AS depth FROM conversations_message WHERE id = %(tip)s AND id <> ALL(%(below)s)
    UNION ALL
    SELECT above.id, above.parent_id, depth + 1
    FROM conversations_message above JOIN branch ON above.id = branch.parent_id
    WHERE depth < %(limit)s AND above.id <> ALL(%(below)s)
)
SELECT message.* FROM branch JOIN conversations_message message USING (id) ORDER BY depth DESC
"""

DOWN = """
WITH RECURSIVE newest AS (
    SELECT id, 1 AS depth FROM conversations_message WHERE id = %s
    UNION ALL
    SELECT child.id, depth + 1 FROM newest CROSS JOIN LATERAL (
        SELECT id FROM conversations_message WHERE parent_id = newest.id ORDER BY created_at DESC, id DESC LIMIT 1
    ) child
)
SELECT id FROM newest ORDER BY depth DESC LIMIT 1
"""

WHOLE = 1_000_000


def branch(tip: UUID | None, *, limit: int = WHOLE, below: Collection[UUID] = ()) -> list[Message]:
    """The last `limit` messages of the branch that ends at `tip`, in the order they were said.

    Only those after the last one that is among `below`.
    """
    if tip is None:
        return []
    return list(Message.objects.raw(UP, {"tip": tip, "limit": limit, "below": list(below)}))


def tip_below(message: Message) -> UUID:
    """Where the branch through `message` ends, following the newest answer at each fork."""
    with connection.cursor() as cursor:
        cursor.execute(DOWN, [message.pk])
        return cursor.fetchone()[0]


def siblings(messages: list[Message]) -> dict[UUID | None, list[UUID]]:
    """For each parent of `messages`, all its children in order; first messages stand under None."""
    if not messages:
        return {}
    parents = {message.parent_id for message in messages}
    wanted = Q(parent__in=[parent for parent in parents if parent is not None])
    if None in parents:
        wanted |= Q(parent=None, conversation=messages[0].conversation_id)
    found: dict[UUID | None, list[UUID]] = defaultdict(list)
    for parent, child in (
        Message.objects.filter(wanted).order_by("created_at", "id").values_list("parent", "id")
    ):
        found[parent].append(child)
    return found
