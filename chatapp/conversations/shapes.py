"""Conversations, messages and turns as the API gives them."""

from datetime import datetime
from uuid import UUID

from ninja import Schema

from billing.credits import as_string
from chatapp.conversations import tree
from chatapp.conversations.models import Conversation, Message, Recap, Turn
from chatapp.failures import FAILURES


class ConversationOut(Schema):
    id: UUID
    title: str
    pinned: bool
    archived: bool
    model: str | None
    instructions: str
    created_at: datetime
    updated_at: datetime
    running_turn: UUID | None


class UsageOut(Schema):
    input_tokens: int
    output_tokens: int
    cache_read_input_tokens: int
    cache_creation_input_tokens: int


class ErrorOut(Schema):
    code: str
    message: str
    retryable: bool
    retry_after: int | None


class TurnOut(Schema):
    id: UUID
    conversation: UUID | None
    user_message: UUID | None
    assistant_message: UUID | None
    state: str
    model: str
    model_name: str
    served_by: str | None
    served_by_name: str | None
    stop_reason: str
    usage: UsageOut | None
    held: str
    charged: str
    estimated: bool
    limited_by_balance: bool
    max_tokens: int
    created_at: datetime
    first_token_ms: int | None
    duration_ms: int | None
    error: ErrorOut | None


class MarkOut(Schema):
    """Of this message and all above it the model sees only a summary (`summary`), or nothing any more (`cut`).

    `bytes` of text are sent in their stead. Of several marks the last one holds.
    """

    kind: str
    bytes: int


class MessageOut(Schema):
    id: UUID
    parent: UUID | None
    role: str
    text: str
    thinking: str
    created_at: datetime
    siblings: list[UUID]
    turn: TurnOut | None
    mark: MarkOut | None


class ConversationsOut(Schema):
    """A page of the list; `next` is the `cursor` of the one after it."""

    items: list[ConversationOut]
    next: str | None


class MessagesOut(Schema):
    """A page of a branch, in the order it was said; `next` is the `before` of the one above it."""

    items: list[MessageOut]
    next: str | None


def conversation_out(conversation: Conversation) -> ConversationOut:
    """`conversation` must come from `with_running_turn()`."""
    return ConversationOut(
        id=conversation.pk,
        title=conversation.title,
        pinned=conversation.pinned,
        archived=conversation.archived,
        model=conversation.model_id,
        instructions=conversation.instructions,
        created_at=conversation.created_at,
        updated_at=conversation.updated_at,
        running_turn=conversation.running_turn,  # type: ignore[attr-defined]
    )


def turn_out(turn: Turn) -> TurnOut:
    """`turn` must come from `with_retry_wait()`."""
    failure = FAILURES.get(turn.error_code)
    return TurnOut(
        id=turn.pk,
        conversation=turn.conversation_id,
        user_message=turn.user_message_id,
        assistant_message=turn.assistant_message_id,
        state=turn.state,
        model=turn.model_id,
        model_name=turn.model.name,
        served_by=turn.served_by_id,
        served_by_name=turn.served_by.name if turn.served_by else None,
        stop_reason=turn.stop_reason,
        usage=None if turn.state == Turn.State.RUNNING else UsageOut(**turn.usage_told),
        held=as_string(turn.held),
        charged=as_string(turn.charged),
        estimated=turn.estimated,
        limited_by_balance=turn.limited_by_balance,
        max_tokens=turn.max_tokens,
        created_at=turn.created_at,
        first_token_ms=turn.first_token_ms,
        duration_ms=turn.duration_ms,
        error=ErrorOut(
            code=turn.error_code,
            message=failure.message,
            retryable=failure.retryable,
            retry_after=turn.retry_after,
        )
        if failure
        else None,
    )


def messages_out(messages: list[Message]) -> list[MessageOut]:
    """Messages of one branch, each with its alternatives and (answers) the turn it came from."""
    answers = [message.pk for message in messages if message.role == Message.Role.ASSISTANT]
    turns = {
        turn.assistant_message_id: turn
        for turn in Turn.objects.with_retry_wait()
        .filter(assistant_message__in=answers)
        .select_related("model", "served_by")
    }
    siblings = tree.siblings(messages)
    marks = {recap.through_id: MarkOut(**recap.mark) for recap in Recap.objects.filter(through__in=answers)}
    return [
        MessageOut(
            id=message.pk,
            parent=message.parent_id,
            role=message.role,
            text=message.text,
            thinking=message.thinking,
            created_at=message.created_at,
            siblings=siblings[message.parent_id],
            turn=turn_out(turns[message.pk]) if message.pk in turns else None,
            mark=marks.get(message.pk),
        )
        for message in messages
    ]
