"""The WebSocket that each signed-in page keeps open: balance, titles, turns begun or ended elsewhere."""

import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from channels.generic.websocket import AsyncJsonWebsocketConsumer
from redis.exceptions import RedisError

from accounts.models import User
from accounts.notify import group_of
from billing import ledger
from billing.away import DATABASE_AWAY
from billing.credits import as_string
from chatapp.db import in_db

log = structlog.get_logger(__name__)

NOT_SIGNED_IN = 4401
# How losing Valkey shows. The last two are redis-py's, when its reader and a writer find the connection lost at once.
AWAY = (RedisError, OSError, AttributeError, RuntimeError)
PING = '{"type":"ping"}'

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Application = Callable[[dict[str, Any], Receive, Send], Awaitable[None]]


class RefusingWhileAway:
    """Refuses a page that comes while PostgreSQL or Valkey is away.

    Nobody could say whose page it is, or no news could reach it. It tries again by itself.
    """

    def __init__(self, application: Application) -> None:
        self._application = application

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        let_in = False

        async def send_and_note(message: dict[str, Any]) -> None:
            nonlocal let_in
            let_in = let_in or message["type"] == "websocket.accept"
            await send(message)

        try:
            await self._application(scope, receive, send_and_note)
        except (*AWAY, *DATABASE_AWAY) as error:
            if let_in:
                raise
            log.warning("page refused", error=type(error).__name__)
            await send({"type": "websocket.close"})


class PageConsumer(AsyncJsonWebsocketConsumer):
    """Sends a person's own news to one page of theirs; takes nothing from it but pings."""

    async def connect(self) -> None:
        self.user: User = self.scope["user"]
        if not self.user.is_authenticated:
            await self.accept()
            await self.close(NOT_SIGNED_IN)
            return
        await self.channel_layer.group_add(group_of(self.user.pk), self.channel_name)
        await self.accept()
        await self.send_balance()

    async def disconnect(self, code: int) -> None:
        if self.user.is_authenticated:
            with contextlib.suppress(*AWAY):
                await self.channel_layer.group_discard(group_of(self.user.pk), self.channel_name)

    async def receive(
        self, text_data: str | None = None, bytes_data: bytes | None = None, **_kwargs: Any
    ) -> None:
        """Answer a ping; whatever else a client sends is not for us."""
        if text_data is not None and text_data.replace(" ", "") == PING:
            await self.send_json({"type": "pong"})

    async def page_message(self, event: dict[str, Any]) -> None:
        """News for this person, from `accounts.notify`."""
        # A turn that begins or ends changes the balance.
        if event["kind"] in ("balance", "turn"):
            await self.send_balance()
        if event["kind"] != "balance":
            data = {name: value for name, value in event.items() if name not in {"type", "kind"}}
            await self.send_json({"type": event["kind"], **data})

    async def send_balance(self) -> None:
        try:
            wallet = await in_db(ledger.wallet_of, self.user)
        except DATABASE_AWAY as error:
            # The next change of the balance, or the next visit, brings it.
            log.warning("balance not told", error=type(error).__name__)
            return
        await self.send_json(
            {"type": "balance", "available": as_string(wallet.available), "held": as_string(wallet.held)}
        )
