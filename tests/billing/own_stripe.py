"""A demo Stripe of a test's own, and a receiver of its webhooks: nothing of the running stack."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import stripe
from aiohttp import web

from chatapp.local.demo_stripe.client import DemoStripe
from chatapp.local.demo_stripe.server import Options, application
from chatapp.local.process import free_port

SECRET = "whsec_here"


@dataclass
class Endpoint:
    """A receiver of webhooks: answers with `statuses` one after the other, then with 200."""

    url: str = ""
    statuses: list[int] = field(default_factory=list)
    received: list[stripe.Event] = field(default_factory=list)
    refused: int = 0

    def take(self, body: bytes, signature: str | None) -> int:
        status = self.statuses.pop(0) if self.statuses else 200
        if status == 200:
            try:
                self.received.append(stripe.Webhook.construct_event(body, signature, SECRET))
            except stripe.SignatureVerificationError:
                self.refused += 1
                return 400
        return status

    def about(self, type: str) -> list[Any]:
        """The objects of the events of this type, oldest first."""
        return [event.data.object for event in self.received if event.type == type]

    def types(self) -> list[str]:
        return [event.type for event in self.received]


@contextmanager
def serving_endpoint() -> Iterator[Endpoint]:
    """An endpoint that listens, for as long as the block lasts."""
    endpoint = Endpoint()

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(endpoint.take(body, self.headers["Stripe-Signature"]))
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing to say."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        # By itself it would look only twice a second whether it is to stop.
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        endpoint.url = f"http://127.0.0.1:{server.server_port}/"
        yield endpoint
        server.shutdown()


class Own:
    """A demo Stripe served by a thread: there at once."""

    def __init__(self, webhook_url: str) -> None:
        self.port = free_port()
        self.demo = DemoStripe(f"http://127.0.0.1:{self.port}")
        self.webhook_url = webhook_url

    @property
    def client(self) -> stripe.StripeClient:
        return stripe.StripeClient("sk_test_x", base_addresses={"api": self.demo.url})

    def buy(self, **changes: Any) -> stripe.checkout.Session:
        """A session that was opened with `order(**changes)` and paid by card, as it is then."""
        session = self.client.v1.checkout.sessions.create(order(**changes))
        self.demo.pay(str(session.url))
        return self.client.v1.checkout.sessions.retrieve(session.id)

    @contextmanager
    def served(self) -> Iterator[None]:
        options = Options(
            public_url=self.demo.url,
            webhook_url=self.webhook_url,
            webhook_secret=SECRET,
            retry_seconds=0.05,
        )
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        runner = web.AppRunner(application(options), access_log=None, shutdown_timeout=0)

        async def serve() -> None:
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", self.port).start()

        try:
            asyncio.run_coroutine_threadsafe(serve(), loop).result(10)
            yield
        finally:
            asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(10)
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()


def order(**changes: Any) -> Any:
    """Parameters of a session for $5.00; a change to None leaves one out."""
    params: dict[str, Any] = {
        "mode": "payment",
        "success_url": "http://shop.test/back?id={CHECKOUT_SESSION_ID}",
        "cancel_url": "http://shop.test/no",
        "customer_email": "buyer@example.org",
        "client_reference_id": "order-1",
        "metadata": {"order": "order-1"},
        "payment_intent_data": {"metadata": {"order": "order-1"}},
        "line_items": [
            {
                "quantity": 2,
                "price_data": {
                    "currency": "usd",
                    "unit_amount": 250,
                    "product_data": {"name": "A <b>pack</b>"},
                },
            }
        ],
    }
    return {name: value for name, value in {**params, **changes}.items() if value is not None}
