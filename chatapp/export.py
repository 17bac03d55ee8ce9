"""Everything that is a person's own, as one JSON file that they can take with them."""

import json
from collections.abc import AsyncIterator, Iterable
from typing import Any
from uuid import UUID

from allauth.account.models import EmailAddress
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, StreamingHttpResponse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from ninja.responses import NinjaJSONEncoder

from accounts.models import User
from billing import ledger, movements, statement, subscriptions
from billing.api import transaction_out
from billing.credits import as_string
from billing.movements import Filters
from billing.views import person_of
from chatapp.conversations.models import Conversation, Message
from chatapp.db import in_db

CONVERSATIONS_AT_ONCE = 20
MOVEMENTS_AT_ONCE = 500


@require_safe
@never_cache
@login_required
def export(request: HttpRequest) -> StreamingHttpResponse:
    """The file, streamed: however much a person has written, little of it is in memory at a time."""
    response = StreamingHttpResponse(as_json(person_of(request)), content_type="application/json")
    response["Content-Disposition"] = f'attachment; filename="chatapp-{timezone.now():%Y-%m-%d}.json"'
    return response


async def as_json(user: User) -> AsyncIterator[str]:
    """An object of `exported_at`, `profile`, `api_keys`, `conversations` (all branches) and `statement` (newest first).

    Shapes are those of the API where it has them. A slow reader keeps no database connection.
    """
    yield f'{{"exported_at": {_json(timezone.now())},\n'
    profile = await in_db(_profile, user)
    yield f'"profile": {_json(profile)},\n'
    keys = await in_db(_api_keys, user)
    yield f'"api_keys": {_json(keys)},\n"conversations": ['
    ids = await in_db(_conversation_ids, user)
    first = True
    for start in range(0, len(ids), CONVERSATIONS_AT_ONCE):
        found = await in_db(_conversations, user, ids[start : start + CONVERSATIONS_AT_ONCE])
        yield _items(found, first=first)
        first = first and not found
    yield '],\n"statement": ['
    before: int | None = None
    first = True
    while True:
        lines, before = await in_db(_movements, user, before)
        yield _items(lines, first=first)
        first = False
        if before is None:
            break
    yield "]}\n"


def _profile(user: User) -> dict[str, Any]:
    wallet = ledger.wallet_of(user)
    subscription = subscriptions.of(user)
    addresses = EmailAddress.objects.filter(user=user).order_by("pk").values("email", "verified", "primary")
    return {
        "email": user.email,
        "name": user.name,
        "instructions": user.instructions,
        "joined_at": user.date_joined,
        "addresses": list(addresses),
        "balance": {"available": as_string(wallet.available), "held": as_string(wallet.held)},
        "subscription": subscription
        and {
            "plan": subscription.plan.name,
            "status": subscription.status,
            "current_period_end": subscription.current_period_end,
        },
    }


def _api_keys(user: User) -> list[dict[str, Any]]:
    return [
        {
            "name": key.name,
            "prefix": key.prefix,
            "created_at": key.created_at,
            "last_used_at": key.last_used_at,
            "revoked_at": key.revoked_at,
        }
        for key in user.api_keys.all()
    ]


def _conversation_ids(user: User) -> list[UUID]:
    return list(Conversation.objects.of(user).order_by("created_at", "pk").values_list("pk", flat=True))


def _conversations(user: User, ids: list[UUID]) -> list[dict[str, Any]]:
    """Those conversations with their messages; one that was deleted meanwhile is left out."""
    messages: dict[UUID, list[dict[str, Any]]] = {id_: [] for id_ in ids}
    said = Message.objects.filter(conversation__in=ids, conversation__user=user).select_related("turn")
    for message in said.order_by("created_at", "pk"):
        messages[message.conversation_id].append(_message(message))
    found = Conversation.objects.of(user).filter(pk__in=ids).order_by("created_at", "pk")
    return [
        {
            "id": conversation.pk,
            "title": conversation.title,
            "pinned": conversation.pinned,
            "archived": conversation.archived,
            "instructions": conversation.instructions,
            "created_at": conversation.created_at,
            "updated_at": conversation.updated_at,
            "shown_branch_ends_at": conversation.tip_id,
            "messages": messages[conversation.pk],
        }
        for conversation in found
    ]


def _message(message: Message) -> dict[str, Any]:
    told: dict[str, Any] = {
        "id": message.pk,
        "parent": message.parent_id,
        "role": message.role,
        "text": message.text,
        "thinking": message.thinking,
        "created_at": message.created_at,
    }
    turn = getattr(message, "turn", None)
    if turn is not None:
        model = turn.served_by_id or turn.model_id
        told["turn"] = {
            "id": turn.pk,
            "state": turn.state,
            "model": model,
            "charged": as_string(turn.charged),
        }
    return told


def _movements(user: User, before: int | None) -> tuple[list[Any], int | None]:
    """Some movements older than one, and the last one's id if there are more."""
    wallet = ledger.wallet_of(user)
    page = movements.older(wallet, Filters(), than=before, limit=MOVEMENTS_AT_ONCE)
    lines = [transaction_out(line) for line in statement.lines(page.transfers, wallet)]
    return lines, page.transfers[-1].pk if page.has_older else None


def _items(items: Iterable[Any], *, first: bool) -> str:
    """Items of an array, each on a line of its own; `first`: nothing stands before them."""
    text = ",".join(f"\n{_json(item)}" for item in items)
    return text if first or not text else f",{text}"


def _json(value: Any) -> str:
    return json.dumps(value, cls=NinjaJSONEncoder, ensure_ascii=False)
