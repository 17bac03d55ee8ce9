"""Rests of the event loop: what ends them, and when there are none. One that nobody ends would last an hour."""

import socket
from collections.abc import Iterator

import pytest

from chatapp import resting

HOUR = 3600.0
MOMENT = 0.001


@pytest.fixture
def doors() -> Iterator[resting.Doors]:
    doors = resting.Doors()
    resting.allow(doors)
    yield doors
    resting.allow(None)
    doors.close()


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Ours and the client's."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def test_a_rest_that_nobody_ends_is_whole(doors: resting.Doors, ends: tuple[socket.socket, ...]) -> None:
    doors.add(ends[0])
    assert resting.rest(MOMENT)


def test_what_a_client_sends_ends_a_rest(doors: resting.Doors, ends: tuple[socket.socket, ...]) -> None:
    door, client = ends
    doors.add(door)
    client.send(b"GET")
    assert not resting.rest(HOUR)
    door.recv(3)
    assert resting.rest(MOMENT)


def test_so_does_a_client_that_leaves(doors: resting.Doors, ends: tuple[socket.socket, ...]) -> None:
    door, client = ends
    doors.add(door)
    client.close()
    assert not resting.rest(HOUR)


def test_room_for_what_is_to_be_written_ends_a_rest(
    doors: resting.Doors, ends: tuple[socket.socket, ...]
) -> None:
    doors.add(ends[0])
    doors.waits_to_write(ends[0], True)
    assert not resting.rest(HOUR)
    doors.waits_to_write(ends[0], False)
    assert resting.rest(MOMENT)


def test_a_door_that_was_removed_ends_none(doors: resting.Doors, ends: tuple[socket.socket, ...]) -> None:
    doors.add(ends[0])
    ends[1].send(b"GET")
    doors.remove(ends[0])
    assert resting.rest(MOMENT)


def test_there_is_no_rest_while_somebody_is_in_a_hurry(
    doors: resting.Doors, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resting, "HURRY_SECONDS", HOUR)
    resting.hurry()
    assert not resting.rest(HOUR)
    monkeypatch.setattr(resting, "HURRY_SECONDS", 0)
    resting.hurry()
    assert resting.rest(MOMENT)


def test_without_doors_there_is_no_rest() -> None:
    assert not resting.rest(HOUR)


@pytest.mark.parametrize("seconds", [0, -MOMENT])
def test_what_is_over_is_not_rested_for(doors: resting.Doors, seconds: float) -> None:
    assert not resting.rest(seconds)
