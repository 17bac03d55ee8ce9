"""/ws/: what a page hears of what happens elsewhere."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import aiohttp
import httpx
import pytest
from aiohttp import ClientWebSocketResponse, WSMsgType
from allauth.mfa.models import Authenticator
from django.db import transaction

from accounts.models import User
from accounts.notify import anotify, notify
from billing import fulfilment
from billing.stripe_gateway import Session
from chatapp.db import in_db
from tests.billing.books import order
from tests.calling import browser_of
from tests.conftest import SignInAsync, session_of
from tests.stack import Stack
from tests.streaming.reading import ask_async, new_id

PATIENCE_SECONDS = 20

News = dict[str, Any]


class Page:
    """A page's end of the socket."""

    def __init__(self, socket: ClientWebSocketResponse) -> None:
        self.socket = socket
        self.heard: list[News] = []

    async def hear(self) -> News:
        """The next news."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            news: News = await self.socket.receive_json()
        self.heard.append(news)
        return news

    async def hear_until(self, enough: Callable[[News], bool]) -> list[News]:
        """What comes, up to the first news that is `enough`."""
        news = [await self.hear()]
        while not enough(news[-1]):
            news.append(await self.hear())
        return news

    async def closed(self) -> int | None:
        """The code with which the server closes it, whatever it says before."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (await self.socket.receive()).type is WSMsgType.TEXT:
                pass
        return self.socket.close_code


OpenPage = Callable[..., Any]


@pytest.fixture
def open_page(stack: Stack) -> OpenPage:
    """`async with open_page(alice) as page` is her page's socket; without anybody, a stranger's."""

    @asynccontextmanager
    async def open_page(user: User | None = None, *, origin: str | None = stack.url) -> AsyncIterator[Page]:
        cookies = await in_db(session_of, user) if user else None
        headers = {"Origin": origin} if origin else {}
        async with (
            aiohttp.ClientSession(stack.url, cookies=cookies) as client,
            client.ws_connect("/ws/", headers=headers) as socket,
        ):
            yield Page(socket)

    return open_page


def of_type(kind: str) -> Callable[[News], bool]:
    return lambda news: news["type"] == kind


# --- Who is let in


async def test_who_is_not_signed_in_is_told_so(open_page: OpenPage) -> None:
    async with open_page() as page:
        assert await page.closed() == 4401


@pytest.mark.parametrize("origin", ["https://evil.example", "http://localhost.evil.example", "null", None])
async def test_a_page_from_elsewhere_gets_no_socket(
    open_page: OpenPage, alice: User, origin: str | None
) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        async with open_page(alice, origin=origin):
            pass
    assert refused.value.status == 403


async def test_a_page_that_says_too_much_is_closed(open_page: OpenPage, alice: User) -> None:
    async with open_page(alice) as page:
        await page.socket.send_str(" " * 20_000)
        assert await page.closed() == 1006  # dropped, without a word


# --- What it hears


async def test_the_balance_comes_at_once(open_page: OpenPage, alice: User) -> None:
    async with open_page(alice) as page:
        assert await page.hear() == {"type": "balance", "available": "100.000000", "held": "0.000000"}


async def test_bought_and_adjusted_credits_are_heard_of(
    open_page: OpenPage, alice: User, operator: User
) -> None:
    def buy() -> None:
        ordered = order(alice, 500_000_000)
        paid = Session(
            id=f"cs_{ordered.pk}",
            status="complete",
            payment_status="paid",
            order_id=str(ordered.pk),
            payment_intent="pi_1",
            amount_total=ordered.amount_cents,
            currency=ordered.currency,
        )
        with transaction.atomic():
            fulfilment.apply(paid)

    def take() -> None:
        Authenticator.objects.create(user=operator, type=Authenticator.Type.TOTP, data={})
        desk = browser_of(operator)
        form = {"amount": "-40", "reason": "a slip", "key": str(uuid.uuid4()), "confirmed": "-40000000"}
        token = {"X-CSRFToken": desk.cookies["csrftoken"].value}
        answer = desk.post(f"/admin/accounts/user/{alice.pk}/adjust-credits/", form, headers=token)
        assert answer.status_code == 302, answer.content.decode()

    async with open_page(alice) as page:
        await page.hear()
        await in_db(buy)
        assert await page.hear() == {"type": "balance", "available": "600.000000", "held": "0.000000"}
        await in_db(take)
        assert await page.hear() == {"type": "balance", "available": "560.000000", "held": "0.000000"}


async def test_a_turn_of_another_client_is_heard_of_from_its_beginning_to_its_end(
    open_page: OpenPage, alice: User, sign_in_async: SignInAsync
) -> None:
    turn = new_id()
    async with open_page(alice) as page, await sign_in_async(alice) as other:
        await page.hear()
        asked = asyncio.create_task(
            ask_async(other, "[[demo: tokens 4000]] [[demo: pace 100]] go on", id=turn)
        )
        begun = await page.hear_until(of_type("turn"))
        await other.post(f"/api/v1/turns/{turn}/stop")
        ended = await page.hear_until(of_type("turn"))
        start, *_, done = await asked

    told = {"type": "turn", "turn": turn, "conversation": start["conversation"]}
    available = Decimal(100) - Decimal(start["held"])
    assert begun == [
        {"type": "balance", "available": str(available), "held": start["held"]},
        {**told, "state": "running"},
    ]
    assert ended == [{"type": "balance", **done["balance"]}, {**told, "state": "ended"}]


async def test_conversations_made_renamed_and_deleted_elsewhere_are_heard_of(
    open_page: OpenPage, alice: User, sign_in_async: SignInAsync
) -> None:
    async with open_page(alice) as page, await sign_in_async(alice) as other:
        await page.hear()
        made = (await other.post("/api/v1/conversations", json={"title": "Bread"})).json()["id"]
        told = {"type": "conversation", "conversation": made}
        assert await page.hear() == {**told, "title": "Bread"}
        await other.patch(f"/api/v1/conversations/{made}", json={"title": "Rye"})
        assert await page.hear() == {**told, "title": "Rye"}
        await other.patch(f"/api/v1/conversations/{made}", json={"title": ""})  # refused, so nothing happened
        await other.delete(f"/api/v1/conversations/{made}")
        assert await page.hear() == {**told, "deleted": True}


async def test_every_page_of_a_person_hears_and_the_outsider_does_not(
    open_page: OpenPage, alice: User, charlie: User, sign_in_async: SignInAsync
) -> None:
    async with (
        open_page(alice) as one,
        open_page(alice) as two,
        open_page(charlie) as charlies,
        await sign_in_async(alice) as hers,
        await sign_in_async(charlie) as his,
    ):
        await ask_async(hers, "a secret")
        for page in (one, two):
            told = await page.hear_until(lambda news: news.get("state") == "ended")
            assert [news["type"] for news in told] == ["balance", "balance", "turn", "balance", "turn"]

        # What comes to charlie is his own, and came after whatever of hers would have come before.
        await his.post("/api/v1/conversations", json={"title": "his"})
        news = await charlies.hear_until(of_type("conversation"))
        assert [item["type"] for item in news] == ["balance", "conversation"]
        assert news[1]["title"] == "his"


# --- What it is told


async def test_a_ping_is_answered_and_nothing_else_is(open_page: OpenPage, alice: User) -> None:
    async with open_page(alice) as page:
        await page.hear()
        for garbage in (
            "",
            "{",
            "[]",
            "null",
            "ping",
            '{"type":"balance"}',
            '{"type":"page.message"}',
            "x" * 10_000,
        ):
            await page.socket.send_str(garbage)
        await page.socket.send_bytes(b"\x00\xff")
        await page.socket.send_bytes(b'{"type":"ping"}')
        await page.socket.send_str('{"type":"ping"}')
        assert await page.hear() == {"type": "pong"}
        await page.socket.send_str('{"type": "ping"}')
        assert await page.hear() == {"type": "pong"}


# --- Valkey or PostgreSQL away


async def test_pages_hear_again_when_valkey_is_back(stack: Stack, open_page: OpenPage, alice: User) -> None:
    async with open_page(alice) as page:
        await page.hear()
        await asyncio.to_thread(stack.valkey.kill)
        assert await refusal(open_page, alice) == 403
        await asyncio.to_thread(stack.restart, stack.valkey)

        async with open_page(alice) as later:
            await later.hear()
            await in_db(notify, alice.pk, "conversation", conversation="told")
            assert await later.hear() == {"type": "conversation", "conversation": "told"}
        # The page that stayed open is subscribed again as soon as the web process has noticed.
        hearing = asyncio.create_task(page.hear())
        while not hearing.done():
            await in_db(notify, alice.pk, "conversation", conversation="told")
            await asyncio.wait([hearing], timeout=0.05)
        assert hearing.result() == {"type": "conversation", "conversation": "told"}


async def test_a_page_is_refused_while_postgresql_is_away(
    stack: Stack, open_page: OpenPage, alice: User
) -> None:
    cookies = await in_db(session_of, alice)
    async with open_page(alice) as page, aiohttp.ClientSession(stack.url, cookies=cookies) as client:
        await page.hear()
        await asyncio.to_thread(stack.postgres.kill)
        await anotify(alice.pk, "balance")  # that page stays open, though there is none to tell
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            async with client.ws_connect("/ws/", headers={"Origin": stack.url}):
                pass
        assert refused.value.status == 403
        await page.socket.send_str('{"type":"ping"}')
        assert await page.hear() == {"type": "pong"}
        await asyncio.to_thread(stack.restart, stack.postgres)
    # No traceback of it was logged: see the fixture `stack`.


async def refusal(open_page: OpenPage, user: User) -> int:
    """The status with which a new page is refused, as soon as the web process has noticed why."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            try:
                async with open_page(user):
                    pass
            except aiohttp.WSServerHandshakeError as refused:
                return refused.status


async def test_a_page_may_leave_while_valkey_is_away(stack: Stack, open_page: OpenPage, alice: User) -> None:
    async with open_page(alice) as page:
        await page.hear()
        await asyncio.to_thread(stack.valkey.kill)
    async with httpx.AsyncClient(base_url=stack.url, timeout=30) as client:
        assert (await client.get("/healthz")).status_code == 200
