"""The turn endpoints: ask, follow, stop."""

from typing import Annotated, Any
from uuid import UUID, uuid4

from django.db.models.functions import Length
from django.http import HttpRequest, HttpResponse
from ninja import Field, Header, Query, Router, Schema, Status
from pydantic import ConfigDict

from accounts.addresses import client_network
from accounts.models import User
from chatapp.conversations.models import Message, Turn
from chatapp.conversations.shapes import TurnOut, turn_out
from chatapp.conversations.stopping import ask_to_stop
from chatapp.db import in_db
from chatapp.problems import Problem, invalid, not_found
from chatapp.streaming import limits, live, turns
from chatapp.streaming.described import STREAM
from chatapp.streaming.events import Cursor, is_of_an_ending
from chatapp.streaming.following import events_of
from chatapp.streaming.running import open_and_start
from chatapp.streaming.sse import EventStream

router = Router(tags=["turns"])

LONGEST_TEXT = 400_000
NO_SUCH_EVENT = "This is not the id of an event of this turn. Leave it out to begin at the start."


class NewTurn(Schema):
    """One message; `id` makes it safe to send again.

    `parent` is the answer to go on from; without it, the end of the shown branch. The conversation's own id as
    `parent` begins anew, beside the first message.
    """

    model_config = ConfigDict(extra="forbid")

    id: UUID = Field(default_factory=uuid4, description="The idempotency key, made by the client.")
    conversation: UUID | None = Field(None, description="Where to go on; without it one is begun.")
    text: str = Field("", description=f"The message, up to {LONGEST_TEXT:,} characters; none to regenerate.")
    model: str | None = Field(
        None, description="Of `GET models`; without it, the conversation's, or the default."
    )
    parent: UUID | None = Field(None, description="The answer to go on from; without it, the last one shown.")
    regenerate: UUID | None = Field(None, description="The message of the person's to answer again.")


@router.post("turns", response={200: None}, openapi_extra={"responses": {200: STREAM}})
async def create_turn(request: HttpRequest, body: NewTurn) -> EventStream:
    """Ask, and follow the answer as Server-Sent Events. The same request again joins the same turn."""
    user: User = request.auth  # type: ignore[attr-defined]
    source = limits.Source(api_key=request.api_key, network=client_network(request))  # type: ignore[attr-defined]
    turn = await open_and_start(user, _checked(body), source)
    return EventStream(request, await events_of(turn, None))


@router.get("turns/{uuid:turn_id}", response=TurnOut)
async def get_turn(request: HttpRequest, turn_id: UUID) -> TurnOut:
    """A turn as it stands."""
    return turn_out(await in_db(_turn_of, request.auth, turn_id))  # type: ignore[attr-defined]


@router.get(
    "turns/{uuid:turn_id}/events",
    response={200: None, 204: None},
    openapi_extra={
        "responses": {200: STREAM, 204: {"description": "The end has been seen: there is no more."}}
    },
)
async def turn_events(
    request: HttpRequest,
    turn_id: UUID,
    after: Annotated[str, Query(description="Id of the last event seen; without it, from the start.")] = "",
    last_event_id: Annotated[
        str, Header(alias="Last-Event-ID", description="The same, and counts before `after`.")
    ] = "",
) -> EventStream | HttpResponse:
    """Replay, then follow: behind the event that Last-Event-ID or `after` names, or from the start.

    The header counts if both are given: a browser's EventSource sends it by itself when it comes back to the address
    that it was made with. One that has seen the end is told so by 204, and comes back no more. Who asks for what is
    `after` the end gets the end again, and nothing else: a stream always has one. An id beyond all that was said
    is refused once the turn has ended.
    """
    turn = await in_db(_turn_of, request.auth, turn_id)  # type: ignore[attr-defined]
    seen = last_event_id or after
    no_such_event = invalid(**{"Last-Event-ID" if last_event_id else "after": NO_SUCH_EVENT})
    try:
        cursor = Cursor.parse(seen) if seen else None
    except ValueError as error:
        raise no_such_event from error
    if cursor is not None and await in_db(_is_beyond, turn, cursor):
        raise no_such_event
    if turn.state != Turn.State.RUNNING and is_of_an_ending(last_event_id):
        return HttpResponse(status=204)
    return EventStream(request, await events_of(turn, cursor))


class StopOut(Schema):
    id: UUID
    state: str = Field(description="As it was when the call came; the stream tells the end.")


@router.post("turns/{uuid:turn_id}/stop", response={202: StopOut})
async def stop_turn(request: HttpRequest, turn_id: UUID) -> Status[dict[str, Any]]:
    """Stop an answer, wherever it is being written. What was written so far is kept and charged."""
    turn = await in_db(_turn_of, request.auth, turn_id)  # type: ignore[attr-defined]
    if turn_id in live.here:
        live.here[turn_id].leave("stopped")
    await in_db(ask_to_stop, Turn.objects.filter(pk=turn_id))
    return Status(202, {"id": str(turn_id), "state": turn.state})


def _checked(body: NewTurn) -> turns.Ask:
    """What is asked for, or a Problem that names the field at fault."""
    if len(body.text) > LONGEST_TEXT:
        raise Problem(
            413, "too_large", f"A message may have {LONGEST_TEXT:,} characters; this has {len(body.text):,}."
        )
    if body.regenerate is None and not body.text.strip():
        raise invalid(text="The message is empty. Write something first.")
    if body.conversation is None and (body.parent or body.regenerate):
        raise invalid(conversation="Say which conversation the message is in.")
    return turns.Ask(**body.dict())


def _turn_of(user: User, turn_id: UUID) -> Turn:
    mine = Turn.objects.of(user).with_retry_wait().select_related("model", "served_by")
    turn = mine.filter(pk=turn_id).first()
    if turn is None:
        raise not_found("turn")
    return turn


def _is_beyond(turn: Turn, cursor: Cursor) -> bool:
    """Whether more than was ever said in `turn` stands before `cursor`, as far as that can be known.

    While it runs another process may know more than we do. What was lost with a process that died, or with its
    conversation, its readers may have seen.
    """
    if turn.state in (Turn.State.RUNNING, Turn.State.INTERRUPTED) or turn.assistant_message_id is None:
        return False
    lengths = Message.objects.filter(pk=turn.assistant_message_id).values_list(
        Length("thinking"), Length("text")
    )
    return any(cursor.thinking > thinking or cursor.text > text for thinking, text in lengths)
