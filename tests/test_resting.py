"""Rests of the event loop: what ends them, and when there are none. One that nobody ends would last an hour."""

import os
import socket
import time
from collections.abc import Iterator

import pytest

from chatapp import resting
from chatapp.streaming import upkeep

HOUR = 3600.0
MOMENT = 0.001

Ends = tuple[socket.socket, socket.socket]
"""Ours and the client's."""


@pytest.fixture
def doors(monkeypatch: pytest.MonkeyPatch) -> Iterator[resting.Doors]:
    monkeypatch.setattr(resting, "HURRY_SECONDS", 0)
    monkeypatch.setattr(resting, "_hurry_until", float("-inf"))
    doors = resting.Doors()
    resting.allow(doors)
    yield doors
    resting.allow(None)
    doors.close()


@pytest.fixture
def ends() -> Iterator[Ends]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def test_a_rest_that_nobody_ends_is_whole(doors: resting.Doors, ends: Ends) -> None:
    doors.watch(ends[0], reads=True, writes=False)
    assert resting.rest(MOMENT)


def test_what_a_client_sends_ends_a_rest(doors: resting.Doors, ends: Ends) -> None:
    door, client = ends
    doors.watch(door, reads=True, writes=False)
    client.send(b"GET")
    assert not resting.rest(HOUR)
    door.recv(3)
    assert resting.rest(MOMENT)


def test_so_does_a_client_that_leaves(doors: resting.Doors, ends: Ends) -> None:
    doors.watch(ends[0], reads=True, writes=False)
    ends[1].close()
    assert not resting.rest(HOUR)


def test_room_for_what_is_to_be_written_ends_a_rest(doors: resting.Doors, ends: Ends) -> None:
    doors.watch(ends[0], reads=True, writes=True)
    assert not resting.rest(HOUR)
    doors.watch(ends[0], reads=True, writes=False)
    assert resting.rest(MOMENT)


def test_what_is_not_read_does_not_end_a_rest(doors: resting.Doors, ends: Ends) -> None:
    ends[1].send(b"more than is wanted")
    doors.watch(ends[0], reads=True, writes=False)
    doors.watch(ends[0], reads=False, writes=False)
    assert resting.rest(MOMENT)
    doors.watch(ends[0], reads=True, writes=False)
    assert not resting.rest(HOUR)


@pytest.mark.parametrize("writes", [False, True])
def test_a_door_may_have_the_number_of_one_that_was_closed(
    doors: resting.Doors, ends: Ends, writes: bool
) -> None:
    """A loop closes a connection over TLS, and tells us later."""
    door, client = ends
    closed = socket.socket()
    doors.watch(closed, reads=True, writes=writes)
    number = closed.fileno()
    closed.close()
    os.dup2(door.fileno(), number)
    with socket.socket(fileno=number) as again:
        doors.watch(again, reads=True, writes=False)
        doors.watch(closed, reads=False, writes=False)
        assert resting.rest(MOMENT)
        client.send(b"GET")
        assert not resting.rest(HOUR)
        doors.watch(again, reads=False, writes=False)
    assert resting.rest(MOMENT)


def test_there_is_no_rest_while_a_request_waits_nor_right_after_it(
    doors: resting.Doors, monkeypatch: pytest.MonkeyPatch
) -> None:
    resting.begin("a request")
    assert not resting.rest(HOUR)
    monkeypatch.setattr(resting, "HURRY_SECONDS", HOUR)
    resting.answered("a request")
    assert not resting.rest(HOUR)
    resting._hurry_until = float("-inf")
    resting.answered("a request")  # its next piece
    assert resting.rest(MOMENT)


def test_without_doors_there_is_no_rest() -> None:
    assert not resting.rest(HOUR)


@pytest.mark.parametrize("seconds", [0, -MOMENT])
def test_what_is_over_is_not_rested_for(doors: resting.Doors, seconds: float) -> None:
    assert not resting.rest(seconds)


async def test_first_words_that_have_come_are_not_rested_over(doors: resting.Doors) -> None:
    upkeep._first_words.set()
    try:
        await upkeep._until(time.monotonic() + HOUR, rest=True)
    finally:
        upkeep._first_words.clear()


@pytest.mark.parametrize(("answers", "milliseconds"), [(1, 30), (46, 30), (60, 39), (100, 65), (1000, 65)])
def test_the_more_answers_the_longer_the_pace_up_to_a_limit(answers: int, milliseconds: int) -> None:
    assert round(upkeep._pace(answers) * 1000) == milliseconds
