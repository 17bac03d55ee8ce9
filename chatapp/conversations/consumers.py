"""The WebSocket that each signed-in page keeps open: balance, titles, turns begun or ended elsewhere."""

import contextlib
from typing import Any

from channels.generic.websocket import AsyncJsonWebsocketConsumer
from redis.exceptions import RedisError

from accounts.models import User
from accounts.notify import group_of
from billing import ledger
from billing.credits import as_string
from chatapp.db import in_db

NOT_SIGNED_IN = 4401
TRY_AGAIN_LATER = 1013
PING = '{"type":"ping"}'


class PageConsumer(AsyncJsonWebsocketConsumer):
    """Sends a person's own news to one page of theirs; takes nothing from it but pings."""

    async def connect(self) -> None:
        self.user: User = self.scope["user"]
        await self.accept()
        if not self.user.is_authenticated:
            await self.close(NOT_SIGNED_IN)
            return
        try:
            await self.channel_layer.group_add(group_of(self.user.pk), self.channel_name)
        except (RedisError, OSError):
            # Without Valkey no news can reach the page; it comes back by itself and the chat goes on meanwhile.
            await self.close(TRY_AGAIN_LATER)
            return
        await self.send_balance()

    async def disconnect(self, code: int) -> None:
        if self.user.is_authenticated:
            with contextlib.suppress(RedisError, OSError):
                await self.channel_layer.group_discard(group_of(self.user.pk), self.channel_name)

    async def receive(
        self, text_data: str | None = None, bytes_data: bytes | None = None, **_kwargs: Any
    ) -> None:
        """Answer a ping; whatever else a client sends is not for us."""
        if text_data is not None and text_data.replace(" ", "") == PING:
            await self.send_json({"type": "pong"})

    async def page_message(self, event: dict[str, Any]) -> None:
        """News for this person, from `accounts.notify`."""
        if event["kind"] == "balance":
            await self.send_balance()
        else:
            data = {name: value for name, value in event.items() if name not in {"type", "kind"}}
            await self.send_json({"type": event["kind"], **data})

    async def send_balance(self) -> None:
        wallet = await in_db(ledger.wallet_of, self.user)
        await self.send_json(
            {"type": "balance", "available": as_string(wallet.available), "held": as_string(wallet.held)}
        )
