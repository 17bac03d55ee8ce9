"""What other processes publish in Valkey, heard over one connection however many listen."""

import asyncio
import contextvars
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import structlog
from redis.asyncio.client import PubSub

from accounts.patience import within
from chatapp.streaming import journal

log = structlog.get_logger(__name__)

RETRY_SECONDS = 1
# Between two looks whether anybody listens still.
LOOK_SECONDS = 5

Heard = Callable[[str | None], None]


class Notices:
    """The channels that this process listens to; `deaf` while it cannot hear."""

    def __init__(self) -> None:
        self.deaf = True
        self._heard: dict[str, Heard] = {}
        self._connection: PubSub | None = None
        self._listening: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def of(self, channel: str, heard: Heard) -> AsyncIterator[None]:
        """Call `heard` with each message on `channel`, and with None when listening begins: what was said before, or
        while Valkey was away, was not heard."""
        self._heard[channel] = heard
        if self._listening is None or self._listening.done():
            listen = asyncio.get_running_loop().create_task
            self._listening = listen(self._listen(), context=contextvars.Context())
        elif self._connection is not None:
            await self._try(self._connection.subscribe, channel)
        try:
            yield
        finally:
            # Somebody else may have come for the same channel meanwhile.
            if self._heard[channel] is heard:
                del self._heard[channel]
                if self._connection is not None:
                    await self._try(self._connection.unsubscribe, channel)

    async def _listen(self) -> None:
        while self._heard:
            try:
                await self._hear()
            except journal.AWAY as error:
                log.warning("cannot hear other processes", error=type(error).__name__)
                self.deaf = True
                await asyncio.sleep(RETRY_SECONDS)

    async def _hear(self) -> None:
        async with journal.valkey().pubsub() as connection:
            subscribed: set[str] = set()
            while new := self._heard.keys() - subscribed:
                async with within(journal.WAIT_SECONDS):
                    await connection.subscribe(*new)
                subscribed |= new
            self._connection = connection
            try:
                while self._heard:
                    # It may come to connect anew within, which has no limit of its own.
                    async with within(LOOK_SECONDS + journal.WAIT_SECONDS):
                        message = await connection.get_message(timeout=LOOK_SECONDS)
                    if message is None:
                        continue
                    heard = self._heard.get(message["channel"].decode())
                    if message["type"] == "subscribe":
                        self.deaf = False
                        if heard is not None:
                            heard(None)
                    elif message["type"] == "message" and heard is not None:
                        heard(message["data"].decode())
            finally:
                self._connection = None
                self.deaf = True

    async def _try(self, change: Callable[..., Awaitable[Any]], channel: str) -> None:
        try:
            async with within(journal.WAIT_SECONDS):
                await change(channel)
        except journal.AWAY as error:
            # Whoever listens notices it too, and begins anew with the channels of then.
            log.warning("cannot change channels", error=type(error).__name__)


notices = Notices()
