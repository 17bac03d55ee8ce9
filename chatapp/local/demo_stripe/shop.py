"""Customers, sessions, payments and events, and what happens to them; in memory, and in a file if asked."""

import asyncio
import copy
import json
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from chatapp.local.demo_stripe import objects
from chatapp.local.demo_stripe.objects import Json, now
from chatapp.local.demo_stripe.refusals import Refusal, no_such

log = logging.getLogger(__name__)

KEPT = 1000  # of each kind: a stand-in that runs for months must not grow for months


@dataclass
class Records:
    """Everything that a restart must not lose."""

    customers: dict[str, Json] = field(default_factory=dict)
    sessions: dict[str, Json] = field(default_factory=dict)
    line_items: dict[str, list[Json]] = field(default_factory=dict)
    intent_metadata: dict[str, dict[str, str]] = field(default_factory=dict)
    payment_intents: dict[str, Json] = field(default_factory=dict)
    events: dict[str, Json] = field(default_factory=dict)
    bank_payments: dict[str, Json] = field(default_factory=dict)
    answers: dict[str, Json] = field(default_factory=dict)

    def read(self, file: Path) -> None:
        """Take over what an earlier run wrote; a file that is no such thing is moved aside."""
        try:
            stored = json.loads(file.read_text())
            for kind in fields(self):
                setattr(self, kind.name, dict(stored[kind.name]))
        except FileNotFoundError:
            return
        except (ValueError, KeyError, TypeError):
            aside = file.with_suffix(file.suffix + ".unreadable")
            os.replace(file, aside)
            log.warning("%s could not be read and was moved to %s: starting empty", file, aside.name)
            self.__init__()  # type: ignore[misc]

    def write(self, file: Path) -> None:
        """In one step: a kill at any moment leaves the file as it was or as it shall be."""
        beside = file.with_suffix(file.suffix + ".new")
        beside.write_text(json.dumps({kind.name: getattr(self, kind.name) for kind in fields(self)}))
        os.replace(beside, file)

    def forget_the_oldest(self) -> None:
        for kind in fields(self):
            rows = getattr(self, kind.name)
            for id in list(rows)[: max(0, len(rows) - KEPT)]:
                del rows[id]


class Shop:
    """The account that payments are made to. Each change is saved before it is told to anybody."""

    def __init__(
        self, *, public_url: str, bank_seconds: float, file: Path | None, announce: Callable[[Json], None]
    ) -> None:
        self.public_url = public_url
        self.bank_seconds = bank_seconds
        self.file = file
        self.records = Records()
        self._announce = announce
        if file:
            self.records.read(file)

    def resume(self) -> None:
        """Go on where a run before this one ended: deadlines, and deliveries that were not answered."""
        for session in self.records.sessions.values():
            if session["status"] == "open":
                self._at(session["expires_at"], self._expire_when_due, session["id"])
        for id, payment in self.records.bank_payments.items():
            self._at(payment["at"], self._settle_when_due, id)
        for event in self.records.events.values():
            if event["pending_webhooks"]:
                self._announce(event)

    def save(self) -> None:
        self.records.forget_the_oldest()
        if self.file:
            self.records.write(self.file)

    # --- What the API does -------------------------------------------------------------------------------

    def add_customer(self, **facts: Any) -> Json:
        made = objects.customer(**facts)
        self.records.customers[made["id"]] = made
        self.emit("customer.created", made)
        return made

    def open_session(
        self, *, items: list[Json], intent_metadata: dict[str, str], expires_at: int, **facts: Any
    ) -> Json:
        id = objects.new_id("cs_test_", 58)
        session = objects.checkout_session(
            id=id,
            url=f"{self.public_url}/c/pay/{id}",
            amount=sum(item["amount_total"] for item in items),
            currency=items[0]["currency"],
            expires_at=expires_at,
            **facts,
        )
        self.records.sessions[id] = session
        self.records.line_items[id] = items
        self.records.intent_metadata[id] = intent_metadata
        self._at(expires_at, self._expire_when_due, id)
        self.save()
        return session

    def session(self, id: str) -> Json:
        return self._one(self.records.sessions, "checkout.session", id)

    def expire(self, id: str) -> Json:
        session = self.session(id)
        if session["status"] != "open":
            raise Refusal(
                400,
                f'Only Checkout Sessions with a status in ["open"] can be expired. '
                f"This Checkout Session has a status of `{session['status']}`.",
            )
        session.update(status="expired", url=None)
        self.emit("checkout.session.expired", session)
        return session

    def _one(self, rows: dict[str, Json], kind: str, id: str) -> Json:
        if id not in rows:
            raise no_such(kind, id)
        return rows[id]

    def customer(self, id: str) -> Json:
        return self._one(self.records.customers, "customer", id)

    def payment_intent(self, id: str) -> Json:
        return self._one(self.records.payment_intents, "payment_intent", id)

    def event(self, id: str) -> Json:
        return self._one(self.records.events, "event", id)

    # --- What the person on the hosted page does ---------------------------------------------------------

    def pay(self, id: str) -> Json:
        """By card: paid at once."""
        session = self._being_paid(id)
        intent = self._intent(session, "card")
        self._received(intent)
        self._complete(session, payment_status="paid")
        self.emit("payment_intent.succeeded", intent)
        self.emit("checkout.session.completed", session)
        return session

    def pay_by_bank(self, id: str, *, outcome: str) -> Json:
        """A delayed method: the session completes unpaid; the bank says `succeeded` or `failed` later."""
        session = self._being_paid(id)
        intent = self._intent(session, "us_bank_account")
        intent["status"] = "processing"
        self._complete(session, payment_status="unpaid")
        due = now() + self.bank_seconds
        self.records.bank_payments[id] = {"at": due, "outcome": outcome}
        self._at(due, self._settle_when_due, id)
        self.emit("payment_intent.processing", intent)
        self.emit("checkout.session.completed", session)
        return session

    def decline(self, id: str) -> str:
        """The card is refused: the session stays open. Returns what the person is told."""
        session = self._being_paid(id)
        intent = self._intent(session, "card")
        told = "Your card was declined. Try another way to pay."
        intent["last_payment_error"] = objects.payment_error("card_declined", "generic_decline", told)
        self.emit("payment_intent.payment_failed", intent)
        return told

    def settle(self, id: str, *, outcome: str) -> Json:
        """What the bank said about a delayed payment."""
        session = self.session(id)
        if self.records.bank_payments.pop(id, None) is None:
            raise Refusal(400, f"No payment by bank is waiting for session {id}.")
        intent = self.payment_intent(session["payment_intent"])
        if outcome == "succeeded":
            self._received(intent)
            session["payment_status"] = "paid"
            self.emit("payment_intent.succeeded", intent)
            self.emit("checkout.session.async_payment_succeeded", session)
        else:
            intent["status"] = "requires_payment_method"
            intent["last_payment_error"] = objects.payment_error(
                "payment_intent_payment_attempt_failed", None, "The bank refused the debit."
            )
            self.emit("payment_intent.payment_failed", intent)
            self.emit("checkout.session.async_payment_failed", session)
        return session

    def _being_paid(self, id: str) -> Json:
        session = self.session(id)
        if session["status"] != "open":
            raise Refusal(400, f"This Checkout Session is {session['status']}.")
        return session

    def _intent(self, session: Json, method: str) -> Json:
        known = self.records.payment_intents.get(session["payment_intent"] or "")
        if known:
            known.update(last_payment_error=None, payment_method_types=[method])
            return known
        intent = objects.payment_intent(
            amount=session["amount_total"],
            currency=session["currency"],
            customer=session["customer"],
            metadata=self.records.intent_metadata.get(session["id"], {}),
            method=method,
        )
        self.records.payment_intents[intent["id"]] = intent
        session["payment_intent"] = intent["id"]
        self.emit("payment_intent.created", intent)
        return intent

    def _received(self, intent: Json) -> None:
        intent.update(
            status="succeeded", amount_received=intent["amount"], latest_charge=objects.new_id("ch_")
        )

    def _complete(self, session: Json, *, payment_status: str) -> None:
        email = session["customer_email"]
        if session["customer"]:
            email = self.customer(session["customer"])["email"]
        session.update(
            status="complete",
            payment_status=payment_status,
            url=None,
            customer_details={"email": email, "name": "Demo Person", "phone": None, "tax_exempt": "none"},
        )

    # --- Time --------------------------------------------------------------------------------------------

    def _at(self, due: float, act: Callable[[str], None], id: str) -> None:
        asyncio.get_running_loop().call_later(max(0.0, due - now()), act, id)

    def _expire_when_due(self, id: str) -> None:
        if id in self.records.sessions and self.session(id)["status"] == "open":
            self.expire(id)

    def _settle_when_due(self, id: str) -> None:
        if id in self.records.bank_payments and id in self.records.sessions:
            self.settle(id, outcome=self.records.bank_payments[id]["outcome"])

    # --- Events ------------------------------------------------------------------------------------------

    def emit(self, type: str, object: Json, *, api_version: str = objects.API_VERSION) -> Json:
        """Store an event with a copy of its object as it is now, and have it delivered."""
        event = objects.event(type, copy.deepcopy(object), api_version=api_version)
        self.records.events[event["id"]] = event
        self.save()
        self._announce(event)
        return event

    def deliver_no_more(self) -> None:
        """Give up what was not answered yet, also after a restart."""
        for event in self.records.events.values():
            event["pending_webhooks"] = 0
        self.save()

    def delivered(self, id: str) -> None:
        """The endpoint has answered for good: nothing more to deliver, also after a restart."""
        event = self.records.events.get(id)
        if event:
            event["pending_webhooks"] = 0
            self.save()
