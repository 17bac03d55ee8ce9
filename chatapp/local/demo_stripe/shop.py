"""The account that payments are made to: what it remembers, what it tells, and what is due when.

What happens to a session, a payment, a refund or a subscription stands in the module of that name.
"""

import asyncio
import copy
from collections.abc import Callable
from pathlib import Path

from chatapp.local.demo_stripe import objects
from chatapp.local.demo_stripe.objects import Json, now
from chatapp.local.demo_stripe.records import Records
from chatapp.local.demo_stripe.refusals import no_such


class Shop:
    """Each change is saved before it is told to anybody.

    `off_session` is what becomes of a payment that the buyer does not confirm in person: `succeeded`, or the code
    with which the card is refused. `refund_status` is what a refund by card comes out as. `period_seconds`, if set, is
    how long the periods last that begin now, whatever their prices say.
    """

    def __init__(
        self, *, public_url: str, bank_seconds: float, file: Path | None, announce: Callable[[Json], None]
    ) -> None:
        self.public_url = public_url
        self.bank_seconds = bank_seconds
        self.off_session = "succeeded"
        self.refund_status = "succeeded"
        self.period_seconds: int | None = None
        self.file = file
        self.records = Records()
        self._announce = announce
        self._untold: list[Json] = []
        if file:
            self.records.read(file)

    def resume(self) -> None:
        """Deliver what a run before this one could not."""
        for event in self.records.events.values():
            if event["pending_webhooks"]:
                self._announce(event)

    def keep(self) -> None:
        """At the end of each step, before anybody is answered: save what it changed, and send its events."""
        self.records.write(self.file)
        untold, self._untold = self._untold, []
        for event in untold:
            self._announce(event)

    def behave(self) -> None:
        """Every card is good again, and a month a month."""
        self.off_session = self.refund_status = "succeeded"
        self.period_seconds = None

    # --- Objects -----------------------------------------------------------------------------------------

    def find(self, kind: str, id: str, *, param: str = "id") -> Json:
        """The `customer`, `session`, `payment_intent`, … with this id; Refusal if there is none."""
        found: Json | None = self.records.kinds()[f"{kind}s"].get(id)
        if found is None:
            raise no_such("checkout.session" if kind == "session" else kind, id, param=param)
        return found

    def at(self, due: float, act: Callable[["Shop", str], None], id: str) -> None:
        """Have `act` done when it is due, as a step of its own."""

        def step() -> None:
            try:
                act(self, id)
            finally:
                self.keep()

        asyncio.get_running_loop().call_later(max(0.0, due - now()), step)

    # --- Events ------------------------------------------------------------------------------------------

    def emit(
        self,
        type: str,
        object: Json,
        *,
        previous: Json | None = None,
        api_version: str = objects.API_VERSION,
    ) -> Json:
        """Store an event with a copy of its object as it is now; it is delivered once this step is saved.

        `previous` are the values that an update replaced.
        """
        event = objects.event(type, copy.deepcopy(object), api_version=api_version)
        if previous is not None:
            event["data"]["previous_attributes"] = previous
        self.records.events[event["id"]] = event
        self._untold.append(event)
        return event

    def deliver_no_more(self) -> None:
        """Give up what was not answered yet, also after a restart."""
        for id in list(self.records.events):
            self.records.events[id]["pending_webhooks"] = 0

    def delivered(self, id: str) -> None:
        """The endpoint has answered for good: nothing more to deliver, also after a restart."""
        event = self.records.events.get(id)
        if event:
            event["pending_webhooks"] = 0
            self.keep()
