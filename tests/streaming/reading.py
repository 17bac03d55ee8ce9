"""Turns as a program meets them: over HTTP, read by a standard SSE client."""

import json
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import redis
from django.conf import settings
from httpx_sse import aconnect_sse, connect_sse

from chatapp.conversations.stopping import STOPS

TURNS = "/api/v1/turns"

Event = dict[str, Any]


def ask(client: httpx.Client, text: str = "hello", **fields: Any) -> list[Event]:
    """Ask, and read the stream to its end. Each event is its data, with the SSE id as `_id`."""
    body = {"text": text, **fields} if text else fields
    with connect_sse(client, "POST", TURNS, json=body) as source:
        return [_event(sse) for sse in source.iter_sse()]


async def ask_async(client: httpx.AsyncClient, text: str = "hello", **fields: Any) -> list[Event]:
    async with aconnect_sse(client, "POST", TURNS, json={"text": text, **fields}) as source:
        return [_event(sse) async for sse in source.aiter_sse()]


@contextmanager
def asking(
    client: httpx.Client, enough: Callable[[list[Event]], bool], text: str = "hello", **fields: Any
) -> Iterator[list[Event]]:
    """Ask, read while not `enough`, and stay: for as long as the block lasts, nobody abandons the turn."""
    seen: list[Event] = []
    with connect_sse(client, "POST", TURNS, json={"text": text, **fields}) as source:
        events = source.iter_sse()  # by a name, because httpx closes the connection of one that nobody holds
        for sse in events:
            seen.append(_event(sse))
            if enough(seen):
                break
        yield seen


def ask_until(
    client: httpx.Client, enough: Callable[[list[Event]], bool], text: str = "hello", **fields: Any
) -> list[Event]:
    """Ask, read while not `enough`, and then drop the connection as a closed tab does."""
    with asking(client, enough, text, **fields) as seen:
        return seen


def follow(client: httpx.Client, turn: str, after: str | None = None) -> list[Event]:
    """The turn's events, from the start or after an id, to the end."""
    params = {} if after is None else {"after": after}
    with connect_sse(client, "GET", f"{TURNS}/{turn}/events", params=params) as source:
        return [_event(sse) for sse in source.iter_sse()]


def follow_until(client: httpx.Client, turn: str, enough: Callable[[list[Event]], bool]) -> list[Event]:
    """The turn's events from the start, while not `enough`; then drop the connection."""
    seen: list[Event] = []
    with connect_sse(client, "GET", f"{TURNS}/{turn}/events") as source:
        for sse in source.iter_sse():
            seen.append(_event(sse))
            if enough(seen):
                break
    return seen


def follow_through_drops(client: httpx.Client, turn: str) -> list[Event]:
    """The turn's events from the start to the end, coming back with Last-Event-ID whenever the connection breaks."""
    seen: list[Event] = []
    while not seen or seen[-1]["type"] not in ("done", "error"):
        headers = {"Last-Event-ID": seen[-1]["_id"]} if seen else {}
        try:
            with connect_sse(client, "GET", f"{TURNS}/{turn}/events", headers=headers) as source:
                seen.extend(_event(sse) for sse in source.iter_sse())
        except httpx.TransportError:
            time.sleep(0.05)
    return seen


def refusal(client: httpx.Client, **body: Any) -> tuple[int, dict[str, Any]]:
    """Status and problem of a request that is refused."""
    response = client.post(TURNS, json=body)
    assert response.headers["content-type"] == "application/problem+json", response.text
    return response.status_code, response.json()


@contextmanager
def hearing_of_stops() -> Iterator[Callable[[], str]]:
    """What gives the turn that is asked to stop next, as processes hear it that write answers."""
    with redis.Redis.from_url(settings.REDIS_URL, decode_responses=True) as client, client.pubsub() as heard:
        heard.subscribe(STOPS)
        assert heard.get_message(timeout=20)["type"] == "subscribe"

        def next_stop() -> str:
            message = heard.get_message(timeout=20)
            assert message is not None, "nobody was told to stop"
            return str(message["data"])

        yield next_stop


def text_of(events: list[Event]) -> str:
    return "".join(event["text"] for event in events if event["type"] == "text")


def new_id() -> str:
    return str(uuid.uuid4())


def _event(sse: Any) -> Event:
    data: Event = json.loads(sse.data)
    assert data["type"] == sse.event
    return {**data, "_id": sse.id}
