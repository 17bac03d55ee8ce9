"""The turn endpoints: ask, follow, stop; and what was used."""

from datetime import UTC, date, datetime, time, timedelta
from functools import partial
from typing import Annotated, Any, Literal
from uuid import UUID, uuid4

from django.db.models import Count, F, Sum
from django.db.models.functions import Length, TruncDate
from django.http import HttpRequest, HttpResponse
from ninja import Field, Header, Query, Router, Schema, Status
from pydantic import ConfigDict

from accounts.addresses import client_network
from accounts.models import User
from billing.credits import as_string
from chatapp.conversations.models import Message, Turn
from chatapp.conversations.shapes import TurnOut, turn_out
from chatapp.conversations.stopping import ask_to_stop
from chatapp.db import in_db
from chatapp.problems import Problem, invalid, not_found
from chatapp.streaming import limits, live, turns
from chatapp.streaming.described import STREAM
from chatapp.streaming.events import Cursor, is_of_an_ending
from chatapp.streaming.following import follow
from chatapp.streaming.models import UsageRecord
from chatapp.streaming.running import open_and_start
from chatapp.streaming.sse import EventStream

router = Router(tags=["turns"])

LONGEST_TEXT = 400_000
# Before there was anything to use; beyond it lies the edge of what dates can be.
EARLIEST_DAY = date(2000, 1, 1)
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
    return EventStream(request, partial(follow, turn, None))


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
    try:
        cursor = Cursor.parse(seen) if seen else None
    except ValueError as error:
        raise invalid(after=NO_SUCH_EVENT) from error
    if cursor is not None and await in_db(_is_beyond, turn, cursor):
        raise invalid(after=NO_SUCH_EVENT)
    if turn.state != Turn.State.RUNNING and is_of_an_ending(last_event_id):
        return HttpResponse(status=204)
    return EventStream(request, partial(follow, turn, cursor))


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


class Span(Schema):
    """Whole days in UTC, both included; the last 30 when left out."""

    from_: date | None = Field(
        None, alias="from", ge=EARLIEST_DAY, description="The first day; 29 days before `to` when left out."
    )
    to: date | None = Field(None, ge=EARLIEST_DAY, description="The last day; today when left out.")
    group: Literal["day", "model", "conversation"] = Field("day", description="What is added up.")


class UsedOut(Schema):
    """What was used on a day, of a model, or in a conversation (null once deleted): the one that was grouped by."""

    day: date | None = None
    model: str | None = None
    conversation: UUID | None = None
    turns: int
    input_tokens: int
    output_tokens: int
    cache_read_input_tokens: int
    cache_creation_input_tokens: int
    charged: str


class UsagePage(Schema):
    from_: date = Field(alias="from")
    to: date
    group: str
    items: list[UsedOut]
    next: None


@router.get("usage", response=UsagePage, by_alias=True, exclude_unset=True)
async def usage(request: HttpRequest, span: Query[Span]) -> dict[str, Any]:
    """Tokens and credits per day, model or conversation."""
    to = span.to or datetime.now(UTC).date()
    begin = span.from_ or to - timedelta(days=29)
    if begin > to:
        raise invalid(**{"from": "The first day is after the last."})
    items = await in_db(_usage, request.auth, begin, to, span.group)  # type: ignore[attr-defined]
    return {"from": begin, "to": to, "group": span.group, "items": items, "next": None}


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


def _usage(user: User, begin: date, to: date, group: str) -> list[dict[str, Any]]:
    records = UsageRecord.objects.filter(
        user=user,
        ended_at__gte=datetime.combine(begin, time.min, UTC),
        ended_at__lte=datetime.combine(to, time.max, UTC),
    )
    keys: dict[str, Any] = {
        "day": TruncDate("ended_at"),
        "model": F("model_id"),
        "conversation": F("conversation_id"),
    }
    grouped = (
        records.order_by()
        .values(key=keys[group])
        .annotate(
            turns=Count("pk"),
            input=Sum("input_tokens"),
            output=Sum("output_tokens"),
            read=Sum("cache_read_tokens"),
            written=Sum(F("cache_write_5m_tokens") + F("cache_write_1h_tokens")),
            credits=Sum("charged"),
        )
        .order_by("key")
    )
    return [
        {
            group: row["key"],
            "turns": row["turns"],
            "input_tokens": row["input"],
            "output_tokens": row["output"],
            "cache_read_input_tokens": row["read"],
            "cache_creation_input_tokens": row["written"],
            "charged": as_string(row["credits"]),
        }
        for row in grouped
    ]
