"""Conversations over the API: list, search, create, change, delete, read."""

from typing import Annotated
from uuid import UUID

from django.db import transaction
from django.http import HttpRequest
from ninja import Field, Query, Router, Schema, Status
from pydantic import ConfigDict, StringConstraints, field_validator

from accounts.models import INSTRUCTIONS_LENGTH, User
from accounts.notify import notify
from billing import ledger
from billing.models import LanguageModel
from chatapp.conversations import paging, tree
from chatapp.conversations.models import Conversation, Message, Turn
from chatapp.conversations.shapes import (
    ConversationOut,
    ConversationsOut,
    MessagesOut,
    conversation_out,
    messages_out,
)
from chatapp.conversations.stopping import ask_to_stop
from chatapp.problems import invalid, not_found

router = Router(tags=["conversations"])


class Listing(Schema):
    q: str = Field(
        default="",
        max_length=200,
        description="Only those with all of these words in their title, or in one message, in any order, "
        'whatever their case and accents. Words "in quotes" stand as they are written.',
    )
    archived: bool = Field(default=False, description="Those that were archived, instead of the others.")
    cursor: str | None = Field(default=None, description="`next` of the page before.")
    limit: int = Field(default=30, ge=1, le=100, description="Conversations a page.")


class MessagePage(Schema):
    before: UUID | None = Field(default=None, description="`next` of the page before: what stands above it.")
    limit: int = Field(default=50, ge=1, le=200, description="Messages a page.")


Instructions = Annotated[str, StringConstraints(strip_whitespace=True, max_length=INSTRUCTIONS_LENGTH)]


class NewConversation(Schema):
    model_config = ConfigDict(extra="forbid")

    title: str = Field("", max_length=200)
    model: str | None = Field(None, description="Of `GET models`; without it, the default.")


class ChangedConversation(Schema):
    """What is to change; what is left out stays."""

    model_config = ConfigDict(extra="forbid")

    title: str | None = Field(None, max_length=200)
    pinned: bool | None = None
    archived: bool | None = None
    model: str | None = Field(None, description="Of `GET models`, from the next message on.")
    instructions: Instructions | None = Field(None, description="What the model is told before each message.")
    branch: UUID | None = Field(None, description="A message: the branch that it is on is shown.")

    @field_validator("title")
    @classmethod
    def title_says_something(cls, title: str | None) -> str | None:
        if title is not None and not title.strip():
            raise ValueError("A title cannot be empty.")
        return title and title.strip()


@router.get("conversations", response=ConversationsOut)
def list_conversations(request: HttpRequest, listing: Query[Listing]) -> ConversationsOut:
    """Newest first, pinned ones on top. `q` searches titles and text."""
    return conversations_page(_caller(request), listing)


@router.post("conversations", response={201: ConversationOut})
def create_conversation(request: HttpRequest, body: NewConversation) -> Status[ConversationOut]:
    """An empty conversation."""
    user = _caller(request)
    title = body.title.strip()
    made = Conversation.objects.create(
        user=user, title=title, titled_by=_titled_by(title), model=_model(body.model)
    )
    notify(user.pk, "conversation", conversation=str(made.pk), title=made.title)
    return Status(201, conversation_out(_own(user, made.pk)))


@router.get("conversations/{uuid:conversation_id}", response=ConversationOut)
def get_conversation(request: HttpRequest, conversation_id: UUID) -> ConversationOut:
    """A conversation without its messages."""
    return conversation_out(_own(_caller(request), conversation_id))


@router.patch("conversations/{uuid:conversation_id}", response=ConversationOut)
def change_conversation(
    request: HttpRequest, conversation_id: UUID, body: ChangedConversation
) -> ConversationOut:
    """Rename, pin, archive, choose a model, give instructions, or show the branch that a message is on.

    Instructions hold from the next message on; empty ones take them away.
    """
    user = _caller(request)
    conversation = _own(user, conversation_id)
    given = body.dict(exclude_unset=True, exclude_none=True)
    if body.model is not None:
        given["model"] = _model(body.model)
    if body.title is not None:
        given["titled_by"] = _titled_by(body.title)
    if body.branch is not None:
        given["tip_id"] = tree.tip_below(_message_in(conversation, given.pop("branch")))
    for name, value in given.items():
        setattr(conversation, name, value)
    conversation.save(update_fields=given)
    notify(user.pk, "conversation", conversation=str(conversation.pk), title=conversation.title)
    return conversation_out(conversation)


@router.delete("conversations/{uuid:conversation_id}", response={204: None})
def delete_conversation(request: HttpRequest, conversation_id: UUID) -> Status[None]:
    """Delete a conversation and all its messages, for good. What it cost stays in the statement."""
    user = _caller(request)
    with transaction.atomic():
        # Whoever opens or closes a turn waits here: none comes to point at what is being deleted.
        ledger.locked_wallet_of(user)
        conversation = _own(user, conversation_id)
        # Nobody will read the answer that is being written.
        ask_to_stop(Turn.objects.filter(conversation=conversation))
        conversation.delete()
    notify(user.pk, "conversation", conversation=str(conversation_id), deleted=True)
    return Status(204, None)


@router.get("conversations/{uuid:conversation_id}/messages", response=MessagesOut)
def list_messages(request: HttpRequest, conversation_id: UUID, page: Query[MessagePage]) -> MessagesOut:
    """The shown branch in the order it was said, its newest page first; `before` asks for what stands above."""
    return messages_page(_own(_caller(request), conversation_id), page)


def conversations_page(user: User, listing: Listing) -> ConversationsOut:
    found = Conversation.objects.of(user).filter(archived=listing.archived).with_running_turn()
    if listing.q.strip():
        found = found.matching(listing.q.strip())
    rows = list(paging.after(found, listing.cursor)[: listing.limit + 1])
    more = len(rows) > listing.limit
    rows = rows[: listing.limit]
    return ConversationsOut(
        items=[conversation_out(row) for row in rows], next=paging.cursor_at(rows[-1]) if more else None
    )


def messages_page(conversation: Conversation, page: MessagePage) -> MessagesOut:
    tip = conversation.tip_id
    if page.before is not None:
        tip = _message_in(conversation, page.before).parent_id
    messages = tree.branch(tip, limit=page.limit)
    more = bool(messages) and messages[0].parent_id is not None
    return MessagesOut(items=messages_out(messages), next=str(messages[0].pk) if more else None)


def _caller(request: HttpRequest) -> User:
    user: User = request.auth  # type: ignore[attr-defined]
    return user


def _own(user: User, conversation_id: UUID) -> Conversation:
    conversation = Conversation.objects.of(user).with_running_turn().filter(pk=conversation_id).first()
    if conversation is None:
        raise not_found("conversation")
    return conversation


def _message_in(conversation: Conversation, message_id: UUID) -> Message:
    message = Message.objects.filter(pk=message_id, conversation=conversation).first()
    if message is None:
        raise not_found("message")
    return message


def _titled_by(title: str) -> Conversation.TitledBy:
    """A title that the person gave stays; without one, the first answer brings one."""
    return Conversation.TitledBy.PERSON if title else Conversation.TitledBy.WORDS


def _model(wanted: str | None) -> LanguageModel | None:
    if wanted is None:
        return None
    model = LanguageModel.objects.on_sale().filter(pk=wanted).first()
    if model is None:
        raise invalid(model="This model is not on offer. GET /api/v1/models lists those that are.")
    return model
