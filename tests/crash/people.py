"""People who keep at it whatever dies, and remember what they were told."""

import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random
from threading import Event
from typing import Any

import httpx
from django.db import DatabaseError, InterfaceError, connections
from httpx_sse import connect_sse
from psycopg_pool import PoolTimeout

from accounts.models import ApiKey, User
from billing import ledger
from billing.models import Pack, Plan
from chatapp.local.demo_stripe.client import DemoStripe
from tests.conftest import signed_in
from tests.servers import PLAIN, wait_until

TURNS = "/api/v1/turns"
# Longer than any part of the system is away.
LONGEST_AWAY_SECONDS = 300.0


class Unanswered(Exception):
    """The other side died, or said that it cannot now: ask again."""


@dataclass
class Person:
    """Somebody who keeps at it whatever dies, and remembers what they were told."""

    user: User
    operator: User
    sites: list[str]
    stripe: DemoStripe
    chance: Random
    over: Event
    tried: Counter[str] = field(default_factory=Counter)
    told: dict[str, set[Decimal]] = field(default_factory=dict)
    paid: dict[str, str] = field(default_factory=dict)
    subscriptions: set[str] = field(default_factory=set)
    granted: int = 0

    def __post_init__(self) -> None:
        key = {"Authorization": f"Bearer {ApiKey.issue(user=self.user, name='crash')[1]}"}
        self.program = httpx.Client(headers=key, timeout=3, verify=PLAIN)
        self.browser = httpx.Client(timeout=10, verify=PLAIN, **signed_in(self.user))
        self.desk = httpx.Client(timeout=10, verify=PLAIN, **signed_in(self.operator))
        self.pack = Pack.objects.get(name="Starter")
        self.plan = Plan.objects.get(name="Plus")
        self.had = ledger.wallet_of(self.user).balance

    def live(self) -> None:
        """Do one thing after the other until it is `over`."""
        doings = [self.ask, self.ask, self.ask_in_vain, self.stop, self.leave, self.ask_thrice, self.buy]
        money = [self.be_given, self.be_refunded, self.subscribe]
        while not self.over.is_set():
            self.chance.choice([*doings, *money])()

    # --- Chatting

    def ask(self) -> None:
        self.tried["answers"] += 1
        self.insist_on(self.new_turn(), f"[[demo: tokens {self.chance.randrange(20, 300)}]] tell me")

    def ask_in_vain(self) -> None:
        """The provider breaks off: it costs nothing."""
        self.tried["answers cut by the provider"] += 1
        self.insist_on(self.new_turn(), "[[demo: tokens 100]] [[demo: cut after=9]] tell me")

    def stop(self) -> None:
        self.tried["answers stopped"] += 1
        turn = self.new_turn()
        with suppress(Unanswered):
            self.read(turn, "[[demo: tokens 2000]] [[demo: pace 100]] go on", and_stop=True)

    def leave(self) -> None:
        self.tried["answers left"] += 1
        with suppress(Unanswered):
            self.read(self.new_turn(), "[[demo: tokens 2000]] [[demo: pace 100]] go on", events=3)

    def ask_thrice(self) -> None:
        """The same turn from three connections at once."""
        self.tried["answers asked for three times at once"] += 1
        turn = self.new_turn()
        with ThreadPoolExecutor(3) as connections_of_one_person:
            for _ in range(3):
                connections_of_one_person.submit(self.insist_on, turn, "[[demo: tokens 150]] tell me")

    def new_turn(self) -> str:
        turn = str(uuid.uuid4())
        self.told[turn] = set()
        return turn

    def insist_on(self, turn: str, text: str) -> None:
        """Send it until there is an end to it, or some more times if its process died and it waits to be swept."""
        for _ in range(5):
            with suppress(Unanswered):
                self.read(turn, text)
                return
            self.over.wait(self.chance.uniform(0.05, 0.5))

    def read(self, turn: str, text: str, *, events: int = 100_000, and_stop: bool = False) -> None:
        """Read a turn's answer until its end, or only so many events of it."""
        body = {"id": turn, "text": text}
        try:
            with connect_sse(self.program, "POST", self.site() + TURNS, json=body) as source:
                if source.response.status_code == 402:
                    return
                if source.response.status_code != 200:
                    raise Unanswered
                for number, event in enumerate(source.iter_sse(), 1):
                    if event.event in ("done", "error"):
                        self.told[turn].add(Decimal(event.json()["charged"]))
                        return
                    if number == 3 and and_stop:
                        self.program.post(f"{self.site()}{TURNS}/{turn}/stop")
                    if number == events:
                        return
        except httpx.TransportError as error:
            raise Unanswered from error
        raise Unanswered

    # --- Paying

    def buy(self) -> None:
        """Pay at Stripe's page. Not everybody comes back to ours."""
        self.tried["purchases"] += 1
        with suppress(httpx.TransportError):
            answer = self.browser.post(f"{self.site()}/billing/checkout/", data={"pack": self.pack.pk})
            if answer.status_code == 303:
                page = answer.headers["location"]
                session = page.rpartition("/")[2]
                self.stripe.pay(page)
                self.paid[session] = page
                if self.chance.random() < 0.5:
                    self.come_back(session)

    def come_back(self, session: str) -> bool:
        """To the page that credits what is paid; whether it answered."""
        site = self.site()
        answer = self.browser.get(f"{site}/billing/return/", params={"session_id": session})
        return answer.status_code == 200

    def subscribe(self) -> None:
        """To a plan that Stripe renews by itself; who has one stays with it."""
        self.tried["visits to subscribe"] += 1
        with suppress(httpx.TransportError):
            answer = self.browser.post(f"{self.site()}/billing/subscribe/", data={"plan": self.plan.pk})
            if answer.status_code == 303:
                page = answer.headers["location"]
                session = page.rpartition("/")[2]
                self.stripe.pay(page)
                found = self.stripe.api("GET", f"/v1/checkout/sessions/{session}")
                self.subscriptions.add(found["subscription"])

    def end_subscriptions(self) -> None:
        for subscription in self.subscriptions:
            self.stripe.cancel(subscription)

    def be_refunded(self) -> None:
        """A part of some payment: from Stripe's dashboard, or on our page, whose form is sent until it says so."""
        if not self.paid:
            return
        self.tried["refunds"] += 1
        session = self.stripe.api("GET", f"/v1/checkout/sessions/{self.chance.choice(sorted(self.paid))}")
        payment, cents = session["payment_intent"], self.chance.choice([1, 99, 100, 250])
        if cents > self.pack.price_cents - sum(refund["amount"] for refund in self.refunds_of(payment)):
            return
        if self.chance.random() < 0.5:
            self.stripe.refund(payment, amount=cents)
            return
        form = {
            "amount": str(Decimal(cents) / 100),
            "confirmed": str(cents),
            "reason": "for a test",
            "key": str(uuid.uuid4()),
        }
        page = f"/admin/billing/order/{session['metadata']['order']}/refund/"
        for _ in range(5):
            with suppress(httpx.TransportError):
                if self.desk.post(self.site() + page, data=form).status_code == 302:
                    return
            self.over.wait(self.chance.uniform(0.05, 0.5))

    def refunds_of(self, payment: str) -> list[dict[str, Any]]:
        """As Stripe has them."""
        found = self.stripe.api("GET", f"/v1/refunds?payment_intent={payment}&limit=100")
        return list(found["data"])

    def be_given(self) -> None:
        """Promotional credits, some with an end; the operator presses the button until it has worked."""
        self.tried["gifts"] += 1
        amount, key = self.chance.randrange(1, 20_000_000), str(uuid.uuid4())
        now = datetime.now(UTC)
        soon, late = self.chance.randrange(1, 30), self.chance.randrange(1, 90)
        until = self.chance.choice([None, now + timedelta(seconds=soon), now + timedelta(days=late)])

        def give() -> bool:
            try:
                ledger.grant(
                    user=self.user, amount=amount, reason="r", made_by=self.user, key=key, expires_at=until
                )
            except (DatabaseError, InterfaceError, PoolTimeout):
                return False
            finally:
                connections.close_all()
            return True

        wait_until(give, "the gift is given", LONGEST_AWAY_SECONDS)
        self.granted += amount

    # --- Counting

    def close(self) -> None:
        self.program.close()
        self.browser.close()
        self.desk.close()

    @property
    def refunded_cents(self) -> int:
        """What Stripe gave back of the payments for packs."""
        sessions = [self.stripe.api("GET", f"/v1/checkout/sessions/{session}") for session in self.paid]
        return sum(
            refund["amount"] for session in sessions for refund in self.refunds_of(session["payment_intent"])
        )

    @property
    def periods(self) -> int:
        """How many periods of their plans Stripe was paid for."""
        paid = [
            self.stripe.api("GET", f"/v1/invoices?subscription={subscription}&status=paid&limit=100")
            for subscription in self.subscriptions
        ]
        return sum(len(invoices["data"]) for invoices in paid)

    def get(self, path: str, **params: Any) -> httpx.Response:
        return self.program.get(f"{self.site()}/api/v1/{path}", params=params)

    def statement(self) -> list[dict[str, Any]]:
        """Every movement of their credits, as the API tells it."""
        lines: list[dict[str, Any]] = []
        cursor: dict[str, Any] = {}
        while True:
            page = self.get("transactions", limit=200, **cursor).raise_for_status().json()
            lines += page["items"]
            if page["next"] is None:
                return lines
            cursor = {"cursor": page["next"]}

    def site(self) -> str:
        return self.chance.choice(self.sites)
