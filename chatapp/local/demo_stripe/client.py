"""The demo Stripe for tests: act on its hosted page, make it misbehave, look at what it did."""

import http.client
import json
from contextlib import closing
from typing import Any
from urllib.parse import urlencode, urlsplit

Json = dict[str, Any]


class DemoStripe:
    """A demo Stripe that runs at `url`.

    stripe = DemoStripe(url)
    stripe.faults(repeat=20)                  # webhooks, until `reset()`; see control.py for all of them
    back = stripe.act(checkout_url, "pay")    # press a button of the hosted page; where it sends the buyer
    stripe.idle()                             # returns once every webhook has been answered
    """

    def __init__(self, url: str) -> None:
        self.url = url

    # --- What a person does on its pages

    def act(self, page_url: str, action: str, **fields: str) -> str | None:
        """Press a button of a page: the URL that follows, if one does.

        A checkout has `pay`, `decline`, `bank`, `bank_failing`, `cancel` and `code` (with `code="HALF"`); the portal
        `card`, and `cancel` and `resume` (with `subscription="sub_…"`); an open invoice `pay`.
        """
        body = urlencode({"action": action, **fields})
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        answer, _ = self._exchange("POST", urlsplit(page_url).path, body, headers)
        return answer.getheader("Location")

    def pay(self, checkout_url: str, *, code: str = "") -> str | None:
        """Pay by card, after typing a promotion code if there is one: where that sends the buyer."""
        if code and self.act(checkout_url, "code", code=code) is None:
            raise ValueError(f"{code} is no promotion code of this checkout")
        return self.act(checkout_url, "pay")

    def page(self, url: str) -> str:
        """The HTML of a page."""
        return self._exchange("GET", urlsplit(url).path)[1]

    # --- How it misbehaves

    def faults(self, **faults: Any) -> None:
        """How webhooks go wrong from now on; none given: no more."""
        self._demo("PUT", "faults", faults)

    def api_faults(self, **faults: Any) -> None:
        """How the next calls of the API go wrong; none given: no more."""
        self._demo("PUT", "api-faults", faults)

    def bank_answers_after(self, seconds: float) -> None:
        self._demo("PUT", "bank", {"seconds": seconds})

    def off_session(self, outcome: str) -> None:
        """What payments meet while the buyer is away: `succeeded`, `authentication_required`, `card_declined` or
        `expired_card`."""
        self._demo("PUT", "cards", {"off_session": outcome})

    def periods_last(self, seconds: int) -> None:
        """How long the periods of plans last that begin from now on, whatever their prices say; until `reset()`."""
        self._demo("PUT", "periods", {"seconds": seconds})

    def refunds_become(self, status: str) -> None:
        """What refunds by card come out as: `succeeded`, `pending`, `failed` or `canceled`."""
        self._demo("PUT", "refunds", {"status": status})

    # --- What happens in the dashboard, at banks, and as time goes by

    def settle(self, session: str, outcome: str) -> None:
        """The bank's word on a delayed payment: `succeeded` or `failed`."""
        self._demo("POST", f"sessions/{session}/settle", {"outcome": outcome})

    def refund(self, payment_intent: str, **about: Any) -> Json:
        """A refund from the dashboard: `amount`, `status`, `reason`, `metadata`; nothing given: all that is left."""
        return dict(self._demo("POST", f"payments/{payment_intent}/refund", about))

    def refund_becomes(self, refund: str, status: str, **about: Any) -> Json:
        """`succeeded`, `failed` (with a `failure_reason`) or `canceled`."""
        return dict(self._demo("POST", f"refunds/{refund}", {"status": status, **about}))

    def dispute(self, payment_intent: str, **about: Any) -> Json:
        """The buyer disputes a payment: `amount`, `reason`, and `status`, if it is only a warning."""
        return dict(self._demo("POST", f"payments/{payment_intent}/dispute", about))

    def dispute_becomes(self, dispute: str, status: str) -> Json:
        """`under_review`, `won`, `lost`; of a warning `warning_closed` or `needs_response`."""
        return dict(self._demo("POST", f"disputes/{dispute}", {"status": status}))

    def add_card(self, customer: str, *, default: bool = False) -> Json:
        """One more saved card of a customer."""
        return dict(self._demo("POST", f"customers/{customer}/cards", {"default": default}))

    def renew(self, subscription: str, *, outcome: str | None = None) -> Json:
        """The next period begins: `paid`, `failed` or `action_required`; not said: as `off_session` is set."""
        return dict(self._demo("POST", f"subscriptions/{subscription}/renew", {"outcome": outcome}))

    def cancel(self, subscription: str, *, at_period_end: bool = False, reason: str | None = None) -> Json:
        about = {"at_period_end": at_period_end, "reason": reason}
        return dict(self._demo("POST", f"subscriptions/{subscription}/cancel", about))

    def resume(self, subscription: str) -> Json:
        """Take up a paused subscription, or one that was to end with its period."""
        return dict(self._demo("POST", f"subscriptions/{subscription}/resume", {}))

    def pause(self, subscription: str) -> Json:
        return dict(self._demo("POST", f"subscriptions/{subscription}/pause", {}))

    def change_plan(self, subscription: str, price: str, *, now: bool = True) -> Json:
        """As from the portal: with a new period that is charged at once, or from the next one on."""
        return dict(self._demo("POST", f"subscriptions/{subscription}/change", {"price": price, "now": now}))

    def pay_invoice(self, invoice: str, *, outcome: str = "paid") -> Json:
        """Charge an open invoice once more."""
        return dict(self._demo("POST", f"invoices/{invoice}/pay", {"outcome": outcome}))

    # --- Its webhooks, and what it saw

    def release(self, *, last_first: bool = False) -> None:
        """Send the webhooks that are held."""
        self._demo("POST", "release", {"last_first": last_first})

    def emit(self, type: str, **about: Any) -> Json:
        """Make and deliver an event: `object={…}`, or `session="cs_…"` with `changes={…}`."""
        return dict(self._demo("POST", "events", {"type": type, **about}))

    def deliver_again(self, event: str) -> None:
        self._demo("POST", f"events/{event}", {})

    def deliveries(self, type: str | None = None) -> list[Json]:
        """Every attempt to deliver, oldest first, with its answer."""
        return [row for row in self._demo("GET", "deliveries") if type in {None, row["type"]}]

    def requests(self, path: str = "/v1/") -> list[Json]:
        """Every call of the API below `path`, oldest first."""
        return [row for row in self._demo("GET", "requests") if row["path"].startswith(path)]

    def idle(self) -> None:
        self._demo("GET", "idle")

    def reset(self) -> None:
        """No faults, good cards, nothing held, nothing more to deliver, and empty logs."""
        self._demo("POST", "reset", {})

    def api(self, method: str, path: str, **params: str) -> Json:
        """One call of the API itself, without the SDK."""
        headers = {
            "Authorization": "Bearer sk_test_demo",
            "Content-Type": "application/x-www-form-urlencoded",
        }
        return dict(json.loads(self._exchange(method, path, urlencode(params), headers)[1]))

    def _demo(self, method: str, path: str, body: Json | None = None) -> Any:
        sent = None if body is None else json.dumps(body)
        answer, text = self._exchange(method, f"/demo/{path}", sent, {"Content-Type": "application/json"})
        if answer.status != 200:
            raise ValueError(f"{method} /demo/{path}: {answer.status} {text}")
        return json.loads(text)

    def _exchange(
        self, method: str, path: str, body: str | None = None, headers: dict[str, str] | None = None
    ) -> tuple[http.client.HTTPResponse, str]:
        where = urlsplit(self.url)
        with closing(http.client.HTTPConnection(where.hostname or "", where.port, timeout=30)) as connection:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer, answer.read().decode()
