"""A client's connection, and when it ends the rests of the event loop."""

import os
import select
import socket
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from twisted.internet import error, protocol
from twisted.python import failure

from chatapp.connection import Connection
from chatapp.resting import Doors

HOUR = 3600.0
MOMENT = 0.001
# Of a file that nobody else in this process comes by: what is opened has the lowest that is free.
NUMBER = 900


class Reactor:
    """Does nothing by itself: the tests say when a connection may read or write."""

    def __init__(self) -> None:
        self.later: list[Any] = []

    def callLater(self, _seconds: float, what: Any, *arguments: Any) -> None:
        self.later.append((what, arguments))

    def __getattr__(self, _name: str) -> Any:  # addReader and so on
        return lambda _connection: None


@pytest.fixture
def doors() -> Iterator[Doors]:
    doors = Doors()
    yield doors
    doors.close()


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Ours and the client's, of TCP."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        ours, _ = listener.accept()
    ours.setblocking(False)
    with ours, client:
        yield ours, client


def connect(doors: Doors, ours: socket.socket) -> Connection:
    spoken = protocol.Protocol()
    connection = Connection(doors, ours, spoken, ours.getpeername(), None, 0, Reactor())
    spoken.makeConnection(connection)
    return connection


def fill(connection: Connection) -> None:
    """Write until the client's side takes no more, and something waits here."""
    looks = 0
    while looks < 20:  # what is on its way to the client may still make room, a moment later
        while not something_waits(connection):
            connection.write(b"word" * 1024)
            looks = 0
        looks += 1
        if select.select([], [connection], [], MOMENT)[1]:
            connection.doWrite()


def is_full_and_silent(doors: Doors, connection: Connection) -> bool:
    """Whether nobody knocks: the kernels may still find room for more, however long nothing has moved."""
    fill(connection)
    return not doors.somebody_knocks_within(MOMENT)


def something_waits(connection: Connection) -> bool:
    return bool(connection.dataBuffer or connection._tempDataBuffer)


def test_what_the_client_sends_ends_a_rest_unless_it_is_not_to_be_read(
    doors: Doors, ends: tuple[socket.socket, socket.socket]
) -> None:
    ours, client = ends
    connection = connect(doors, ours)
    assert not doors.somebody_knocks_within(MOMENT)
    client.send(b"GET")
    assert doors.somebody_knocks_within(HOUR)
    connection.stopReading()
    assert not doors.somebody_knocks_within(MOMENT)
    connection.startReading()
    assert doors.somebody_knocks_within(HOUR)


def test_a_client_that_takes_more_ends_a_rest_while_something_waits(
    doors: Doors, ends: tuple[socket.socket, socket.socket]
) -> None:
    ours, client = ends
    connection = connect(doors, ours)
    assert any(is_full_and_silent(doors, connection) for _ in range(100))
    client.setblocking(False)
    with suppress(BlockingIOError):
        while client.recv(1 << 20):
            pass
    assert doors.somebody_knocks_within(HOUR)
    while something_waits(connection):
        connection.doWrite()
        with suppress(BlockingIOError):
            client.recv(1 << 20)
    assert not doors.somebody_knocks_within(MOMENT)


def test_words_arrive_whole_and_in_order_however_full_it_was(
    doors: Doors, ends: tuple[socket.socket, socket.socket]
) -> None:
    ours, client = ends
    connection = connect(doors, ours)
    sent = b""
    for number in range(200):
        piece = b"%d;" % number * 5000
        connection.write(piece)
        sent += piece
    client.settimeout(10)
    received = b""
    while len(received) < len(sent):
        connection.doWrite()
        received += client.recv(1 << 20)
    assert received == sent


@pytest.mark.parametrize("how", ["lost", "aborted"])
def test_a_connection_that_is_gone_ends_none_and_its_number_is_free(
    doors: Doors, ends: tuple[socket.socket, socket.socket], how: str
) -> None:
    ours, client = with_the_number(ends[0]), ends[1]
    connection = connect(doors, ours)
    fill(connection)
    client.send(b"GET")
    if how == "aborted":
        connection.abortConnection()
        assert not doors.somebody_knocks_within(MOMENT)
    connection.connectionLost(failure.Failure(error.ConnectionDone()))
    connection.connectionLost(failure.Failure(error.ConnectionDone()))
    assert not doors.somebody_knocks_within(MOMENT)
    ours.close()
    other, theirs = socket.socketpair()
    with other, with_the_number(theirs) as next_one:
        doors.watch(next_one, reads=True, writes=True)
        assert doors.somebody_knocks_within(HOUR)


def with_the_number(end: socket.socket) -> socket.socket:
    """The same end, by NUMBER."""
    with end:
        os.dup2(end.fileno(), NUMBER, inheritable=False)
    moved = socket.socket(fileno=NUMBER)
    moved.setblocking(False)
    return moved
