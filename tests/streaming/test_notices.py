"""What other processes say, heard through a Valkey that may fall silent."""

import asyncio
import socket
from urllib.parse import urlsplit

import pytest
from django.conf import settings

from chatapp.streaming import journal, notices
from tests.proxy import Proxy


async def test_a_valkey_that_takes_connections_and_says_nothing_is_asked_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module, name in ((notices, "LOOK_SECONDS"), (notices, "RETRY_SECONDS"), (journal, "WAIT_SECONDS")):
        monkeypatch.setattr(module, name, 0.1)
    heard: asyncio.Queue[str | None] = asyncio.Queue()
    own = urlsplit(settings.REDIS_URL)
    with Proxy(own.geturl()) as proxy, socket.create_server(("127.0.0.1", 0)) as silent:
        through = own._replace(netloc=f":{own.password}@{urlsplit(proxy.url).netloc}")
        monkeypatch.setattr(settings, "REDIS_URL", through.geturl())
        client = journal.valkey.__wrapped__()
        monkeypatch.setattr(journal, "valkey", lambda: client)
        listening = notices.Notices()
        async with asyncio.timeout(30), client, listening.of("news", heard.put_nowait):
            assert await heard.get() is None
            assert not listening.deaf

            accepted = proxy.accepted
            proxy.target = "redis://{}:{}".format(*silent.getsockname())
            proxy.drop()
            while proxy.accepted < accepted + 3:  # noqa: ASYNC110  told by another thread
                await asyncio.sleep(0.01)
            assert listening.deaf

            proxy.target = own.geturl()
            proxy.drop()
            assert await heard.get() is None
            await client.publish("news", "grown")
            assert await heard.get() == "grown"
