"""What stands in the admin for these tests, and how its pages are read."""

import re
import uuid
from datetime import datetime, timedelta
from html import unescape
from typing import Any

from django.contrib.auth.models import Permission
from django.db import transaction
from django.http import HttpResponse
from django.test import Client
from django.utils import timezone

from accounts.models import User
from billing import ledger
from billing.models import Price
from chatapp.conversations import rows
from chatapp.conversations.models import Conversation, Message, Turn
from chatapp.streaming.models import UsageRecord
from chatapp.streaming.tasks import record_usage
from tests.billing.books import CREDIT, unguarded

SECRET = "The pin of my grandmother is under the doormat."


def page(client: Client, url: str, **query: Any) -> str:
    """The text of a page that opens."""
    answer = client.get(url, query)
    assert answer.status_code == 200, (answer.status_code, answer.headers.get("Location"))
    return text_of(answer)


def text_of(answer: HttpResponse) -> str:
    """What one reads of a page: no tags, no scripts, spaces as one."""
    main = answer.content.decode().partition('<div id="main"')[2]
    return " ".join(unescape(re.sub(r"<script.*?</script>|<[^>]*>", " ", main, flags=re.S)).split())


def confirmed(desk: Client, place: str, form: dict[str, Any]) -> dict[str, Any]:
    """The form as it is sent again, from the page that shows what it will do."""
    shown = desk.post(place, form)
    found = what_is_confirmed(shown)
    assert found, text_of(shown)
    return form | {"confirmed": found}


def what_is_confirmed(shown: HttpResponse) -> str:
    """What the form of a page confirms when it is sent; nothing where the page did not say what it will do."""
    found = re.search(r'name="confirmed" value="([^"]+)"', shown.content.decode())
    return found[1] if found else ""


def allow(user: User, *permissions: str) -> User:
    """The rights that a superuser could give to staff, such as "billing.view_transfer"."""
    for permission in permissions:
        app, _, codename = permission.partition(".")
        user.user_permissions.add(Permission.objects.get(content_type__app_label=app, codename=codename))
    return User.objects.get(pk=user.pk)


def conversation(user: User, title: str = "Spare keys", messages: int = 2) -> Conversation:
    made = Conversation.objects.create(user=user, title=title)
    parent = None
    for count in range(messages):
        role = Message.Role.ASSISTANT if count % 2 else Message.Role.USER
        parent = Message.objects.create(conversation=made, parent=parent, role=role, text=f"{SECRET} {count}")
    return made


def ended_turn(
    user: User,
    *,
    model: str = "claude-sonnet-5-5",
    ended_at: datetime | None = None,
    held: int = 2 * CREDIT,
    price: int = CREDIT,
    **columns: Any,
) -> Turn:
    """A turn that has ended, with its hold settled at `price` and, by way of the worker's task, its usage."""
    ended_at = ended_at or timezone.now()
    book = Price.objects.now_for(model)
    turn = Turn(id=uuid.uuid4(), user=user, model_id=model, price=book, max_tokens=256, held=held)
    with transaction.atomic():
        wallet = ledger.locked_wallet_of(user)
        ledger.hold(wallet=wallet, hold_id=turn.pk, amount=held, then=[rows.insert(turn)])
    with transaction.atomic():
        wallet, _ = ledger.lock_wallet_holding(turn.pk)
        settled = ledger.settle(wallet=wallet, hold_id=turn.pk, held=held, price=price)
    with unguarded("conversations_turn"):
        Turn.objects.filter(pk=turn.pk).update(
            **{
                "state": "completed",
                "created_at": ended_at - timedelta(seconds=4),
                "ended_at": ended_at,
                "charged": settled.charged,
                "overrun": settled.overrun,
                "provider": "anthropic",
                **columns,
            }
        )
    record_usage(str(turn.pk))
    return Turn.objects.get(pk=turn.pk)


def usage_of(turn: Turn) -> UsageRecord:
    return UsageRecord.objects.get(turn=turn)
