"""The private Valkey: it starts after anything, with what was queued in it, and lets nobody else in."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis

from chatapp.local.process import LocalError, free_port
from chatapp.local.valkey import ValkeyServer
from tests import servers
from tests.servers import wait_until


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[ValkeyServer]:
    server = ValkeyServer(tmp_path, mark=servers.running.mark, port=free_port())
    server.start()
    wait_until(server.ready, "Valkey answers")
    yield server
    server.stop()


def test_a_queue_outlives_a_kill(valkey: ValkeyServer) -> None:
    with redis.Redis.from_url(valkey.url) as client:
        client.rpush("queue", "first", "second")
    valkey.kill()
    valkey.start()
    wait_until(valkey.ready, "it serves on the same port again")
    with redis.Redis.from_url(valkey.url) as client:
        assert client.lrange("queue", 0, -1) == [b"first", b"second"]


def test_only_who_has_the_password_gets_in(valkey: ValkeyServer, tmp_path: Path) -> None:
    with (
        redis.Redis(port=urlsplit(valkey.url).port or 0) as stranger,
        pytest.raises(redis.AuthenticationError),
    ):
        stranger.ping()
    assert (tmp_path / "valkey.conf").stat().st_mode & 0o077 == 0


def test_a_server_that_cannot_start_says_why(valkey: ValkeyServer, tmp_path: Path) -> None:
    other = ValkeyServer(tmp_path / "other", mark=servers.running.mark, port=valkey.port)
    other.start()
    with pytest.raises(LocalError, match=r"(?s)Valkey did not start.*Address already in use"):
        wait_until(other.ready, "it has ended")
