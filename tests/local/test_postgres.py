"""The private PostgreSQL: whatever was done to it, it starts, with its data, and lets nobody else in."""

import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from chatapp.local import postgres
from chatapp.local.postgres import PostgresServer, directory_for
from chatapp.local.process import LocalError, free_port
from tests import servers
from tests.servers import wait_until

Start = Callable[[], PostgresServer]


@pytest.fixture
def directory() -> Path:
    """A folder that root's PostgreSQL, another user, can get to."""
    return servers.running.home / secrets.token_hex(4)


@pytest.fixture
def start(directory: Path) -> Iterator[Start]:
    started: list[PostgresServer] = []

    def start() -> PostgresServer:
        server = PostgresServer(directory, mark=servers.running.mark, port=free_port())
        started.append(server)
        server.start()
        wait_until(server.ready, "PostgreSQL takes connections")
        return server

    yield start
    for server in started:
        server.stop()


def ask(server: PostgresServer, query: Any) -> Any:
    with psycopg.connect(server.url) as connection:
        row = connection.execute(query).fetchone()
        return row and row[0]


def write_a_row(server: PostgresServer) -> None:
    with psycopg.connect(server.url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")


def test_it_is_the_database_the_application_is_written_for(start: Start) -> None:
    server = start()
    assert ask(server, "SHOW server_version").startswith(f"{postgres.MAJOR}.")
    assert (
        ask(server, "SELECT pg_encoding_to_char(encoding) FROM pg_database WHERE datname = 'chatapp'")
        == "UTF8"
    )
    assert ask(server, "SELECT 'ä' < 'b'") is False, "text sorts by code point on every machine"
    assert ask(server, "SHOW fsync") == "on"
    assert int(ask(server, "SHOW max_connections")) >= 200


def test_only_who_has_the_password_gets_in(start: Start) -> None:
    server = start()
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(server.url.replace(server.password, "guess"))
    assert ask(server, "SHOW listen_addresses") == "127.0.0.1"
    assert ask(server, "SHOW unix_socket_directories") == ""
    assert server.directory.stat().st_mode & 0o077 == 0
    assert (server.directory.parent / "postgres-password").stat().st_mode & 0o077 == 0


def test_no_permission_is_changed_on_what_was_there(directory: Path, start: Start) -> None:
    above = list(directory.parents)
    before = [folder.stat().st_mode for folder in above]
    start()
    assert [folder.stat().st_mode for folder in above] == before


@pytest.mark.parametrize("durable", [True, False])
def test_what_was_committed_outlives_a_kill(directory: Path, durable: bool) -> None:
    server = PostgresServer(directory, mark=servers.running.mark, port=free_port(), durable=durable)
    server.start()
    wait_until(server.ready, "PostgreSQL takes connections")
    write_a_row(server)
    server.kill()
    server.start()
    wait_until(server.ready, "it serves on the same port again")
    assert ask(server, "SELECT answer FROM kept") == 42
    server.stop()


def test_the_data_outlives_a_stop(start: Start) -> None:
    first = start()
    write_a_row(first)
    first.stop()
    second = start()
    assert ask(second, "SELECT answer FROM kept") == 42


def test_a_server_that_was_left_running_is_replaced(start: Start) -> None:
    left = start()
    write_a_row(left)
    assert ask(start(), "SELECT answer FROM kept") == 42
    assert not left.running


def test_the_note_of_a_dead_server_may_name_a_strangers_pid(start: Start) -> None:
    dead = start()
    note = (dead.data / "postmaster.pid").read_text()
    dead.kill()
    stranger = os.getpid()
    (dead.data / "postmaster.pid").write_text(note.replace(str(dead.pid), str(stranger), 1))
    assert ask(start(), "SELECT 1") == 1


def test_half_a_creation_is_begun_anew(directory: Path, start: Start) -> None:
    server = PostgresServer(directory, mark=servers.running.mark, port=free_port())
    unfinished = server.directory / "data.unfinished"
    unfinished.mkdir()
    (unfinished / "PG_VERSION").write_text("18\n")
    assert ask(start(), "SELECT 1") == 1


def test_data_of_another_version_is_left_alone_with_a_word(start: Start) -> None:
    server = start()
    server.stop()
    (server.data / "PG_VERSION").write_text("17\n")
    with pytest.raises(LocalError, match="was made by PostgreSQL 17, and this is 18"):
        server.start()


def test_a_server_that_cannot_start_says_why(start: Start) -> None:
    server = start()
    server.stop()
    (server.data / "global" / "pg_control").rename(server.data / "global" / "away")
    server.start()
    with pytest.raises(LocalError, match="PostgreSQL did not start"):
        wait_until(server.ready, "it has ended")


def test_roots_data_lies_where_another_user_gets_to_it(
    tmp_path: Path, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "STATE_OF_ROOT", directory)
    local = tmp_path / "local"
    local.mkdir(mode=0o700)
    if os.geteuid() != 0:
        assert directory_for(local) == local
        return
    outside = directory_for(local)
    assert outside.parent == directory
    (outside / "kept").touch()
    assert directory_for(local) == outside
    assert (outside / "kept").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's data lies outside the clone")
def test_a_new_clone_at_the_path_of_a_removed_one_starts_empty(
    tmp_path: Path, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "STATE_OF_ROOT", directory)
    local = tmp_path / "local"
    local.mkdir(mode=0o700)
    (directory_for(local) / "of the removed clone").touch()
    (local / "identity").unlink()
    assert not (directory_for(local) / "of the removed clone").exists()
