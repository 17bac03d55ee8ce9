"""Conversations over the API: list, search, create, change, delete, read."""

from uuid import UUID

from django.http import HttpRequest
from ninja import Field, Query, Router, Schema
from pydantic import field_validator

from accounts.models import User
from accounts.notify import notify
from billing.models import LanguageModel
from chatapp.conversations import paging, tree
from chatapp.conversations.models import Conversation, Message
from chatapp.conversations.shapes import ConversationOut, MessageOut, Page, conversation_out, messages_out
from chatapp.problems import invalid, not_found

router = Router(tags=["conversations"])


class Listing(Schema):
    q: str = Field(default="", max_length=200)
    archived: bool = False
    cursor: str | None = None
    limit: int = Field(default=30, ge=1, le=100)


class MessagePage(Schema):
    before: UUID | None = None
    limit: int = Field(default=50, ge=1, le=200)


class NewConversation(Schema):
    title: str = Field("", max_length=200)
    model: str | None = None


class ChangedConversation(Schema):
    title: str | None = Field(None, max_length=200)
    pinned: bool | None = None
    archived: bool | None = None
    model: str | None = None
    branch: UUID | None = None

    @field_validator("title")
    @classmethod
    def title_says_something(cls, title: str | None) -> str | None:
        if title is not None and not title.strip():
            raise ValueError("A title cannot be empty.")
        return title and title.strip()


@router.get("conversations", response=Page)
def list_conversations(request: HttpRequest, listing: Query[Listing]) -> Page:
    """Newest first, pinned ones on top. `q` searches titles and text."""
    return conversations_page(_caller(request), listing)


@router.post("conversations", response={201: ConversationOut})
def create_conversation(request: HttpRequest, body: NewConversation) -> tuple[int, ConversationOut]:
    """An empty conversation."""
    made = Conversation.objects.create(
        user=_caller(request), title=body.title.strip(), model=_model(body.model)
    )
    return 201, conversation_out(_own(_caller(request), made.pk))


@router.get("conversations/{uuid:conversation_id}", response=ConversationOut)
def get_conversation(request: HttpRequest, conversation_id: UUID) -> ConversationOut:
    return conversation_out(_own(_caller(request), conversation_id))


@router.patch("conversations/{uuid:conversation_id}", response=ConversationOut)
def change_conversation(
    request: HttpRequest, conversation_id: UUID, body: ChangedConversation
) -> ConversationOut:
    """Rename, pin, archive, choose a model, or show the branch that a message is on."""
    user = _caller(request)
    conversation = _own(user, conversation_id)
    given = body.dict(exclude_unset=True, exclude_none=True)
    if body.branch is not None:
        message = Message.objects.filter(pk=body.branch, conversation=conversation).first()
        if message is None:
            raise not_found("message")
        tree.choose_branch(conversation, message)
    if "model" in given:
        conversation.model = _model(body.model)
    for name in ("title", "pinned", "archived"):
        if name in given:
            setattr(conversation, name, given[name])
    conversation.save(update_fields=["model", "title", "pinned", "archived"])
    notify(user.pk, "conversation", conversation=str(conversation.pk), title=conversation.title)
    return conversation_out(conversation)


@router.delete("conversations/{uuid:conversation_id}", response={204: None})
def delete_conversation(request: HttpRequest, conversation_id: UUID) -> tuple[int, None]:
    """Delete a conversation and all its messages, for good. What it cost stays in the statement."""
    user = _caller(request)
    _own(user, conversation_id).delete()
    notify(user.pk, "conversation", conversation=str(conversation_id), deleted=True)
    return 204, None


@router.get("conversations/{uuid:conversation_id}/messages", response=Page)
def list_messages(request: HttpRequest, conversation_id: UUID, page: Query[MessagePage]) -> Page:
    """The shown branch in the order it was said, its newest page first; `before` asks for what stands above."""
    return messages_page(_own(_caller(request), conversation_id), page)


def conversations_page(user: User, listing: Listing) -> Page:
    found = Conversation.objects.of(user).filter(archived=listing.archived).with_running_turn()
    if listing.q.strip():
        found = found.matching(listing.q.strip())
    rows = list(paging.after(found, listing.cursor)[: listing.limit + 1])
    more = len(rows) > listing.limit
    rows = rows[: listing.limit]
    return Page(
        items=[conversation_out(row) for row in rows], next=paging.cursor_at(rows[-1]) if more else None
    )


def messages_page(conversation: Conversation, page: MessagePage) -> Page:
    tip = conversation.tip_id
    if page.before is not None:
        below = Message.objects.filter(pk=page.before, conversation=conversation).first()
        if below is None:
            raise not_found("message")
        tip = below.parent_id
    messages = tree.branch(tip, limit=page.limit)
    more = bool(messages) and messages[0].parent_id is not None
    items: list[MessageOut] = messages_out(messages)
    return Page(items=items, next=str(messages[0].pk) if more else None)


def _caller(request: HttpRequest) -> User:
    user: User = request.auth  # type: ignore[attr-defined]
    return user


def _own(user: User, conversation_id: UUID) -> Conversation:
    conversation = Conversation.objects.of(user).with_running_turn().filter(pk=conversation_id).first()
    if conversation is None:
        raise not_found("conversation")
    return conversation


def _model(wanted: str | None) -> LanguageModel | None:
    if wanted is None:
        return None
    model = LanguageModel.objects.on_sale().filter(pk=wanted).first()
    if model is None:
        raise invalid(model="This model is not on offer. GET /api/v1/models lists those that are.")
    return model
