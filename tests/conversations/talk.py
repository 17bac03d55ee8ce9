"""Conversations as they stand in the database, made without asking anybody."""

from datetime import UTC, datetime, timedelta
from typing import Any

from accounts.models import User
from chatapp.conversations.models import Conversation, Message

BEGAN = datetime(2026, 11, 1, tzinfo=UTC)


def conversation(user: User, title: str = "Spare keys", **columns: Any) -> Conversation:
    return Conversation.objects.create(user=user, title=title, **columns)


def said(where: Conversation, text: str, *, after: Message | None = None, minute: int = 0) -> Message:
    """One message, by the side whose turn it is. `minute` orders siblings."""
    asked = after is None or after.role == Message.Role.ASSISTANT
    return Message.objects.create(
        conversation=where,
        parent=after,
        role=Message.Role.USER if asked else Message.Role.ASSISTANT,
        text=text,
        created_at=BEGAN + timedelta(minutes=minute),
    )


def dialogue(where: Conversation, length: int) -> list[Message]:
    """A branch of so many messages, which is then the one shown."""
    messages: list[Message] = []
    for number in range(length):
        messages.append(
            Message(
                conversation=where,
                parent=messages[-1] if messages else None,
                role=Message.Role.ASSISTANT if number % 2 else Message.Role.USER,
                text=f"message {number}",
                created_at=BEGAN + timedelta(minutes=number),
            )
        )
    Message.objects.bulk_create(messages)
    show(where, messages[-1])
    return messages


def show(where: Conversation, tip: Message) -> None:
    Conversation.objects.filter(pk=where.pk).update(tip=tip)
