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

    def act(self, checkout_url: str, action: str) -> str | None:
        """Press `pay`, `decline`, `bank`, `bank_failing` or `cancel`: the URL that follows, if one does."""
        body = urlencode({"action": action})
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        answer, _ = self._exchange("POST", urlsplit(checkout_url).path, body, headers)
        return answer.getheader("Location")

    def page(self, checkout_url: str) -> str:
        """The HTML of a hosted page."""
        return self._exchange("GET", urlsplit(checkout_url).path)[1]

    def faults(self, **faults: Any) -> None:
        """How webhooks go wrong from now on; none given: no more."""
        self._demo("PUT", "faults", faults)

    def api_faults(self, **faults: Any) -> None:
        """How the next calls of the API go wrong; none given: no more."""
        self._demo("PUT", "api-faults", faults)

    def bank_answers_after(self, seconds: float) -> None:
        self._demo("PUT", "bank", {"seconds": seconds})

    def settle(self, session: str, outcome: str) -> None:
        """The bank's word on a delayed payment: `succeeded` or `failed`."""
        self._demo("POST", f"sessions/{session}/settle", {"outcome": outcome})

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
        """No faults, nothing held, nothing more to deliver, and empty logs."""
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
