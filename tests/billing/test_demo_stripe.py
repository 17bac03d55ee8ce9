"""The demo Stripe is held to what the real SDK expects, and to its promise to survive a kill."""

import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
import stripe

from chatapp.local.demo_stripe.deliveries import sign
from chatapp.local.demo_stripe.params import decode
from chatapp.local.process import CLONE
from tests.billing.own_stripe import SECRET, Endpoint, Own, order
from tests.servers import answers, wait_until


class Process(Own):
    """A demo Stripe in a process of its own, which can be killed and started again."""

    def __init__(self, folder: Path, webhook_url: str) -> None:
        super().__init__(webhook_url)
        self.log = folder / "stripe.log"
        self.state = folder / "stripe.json"
        self.process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        program = [sys.executable, "-m", "chatapp.local.demo_stripe", "--port", str(self.port)]
        webhook = ["--webhook-url", self.webhook_url, "--webhook-secret", SECRET]
        return [*program, *webhook, "--state", str(self.state), "--retry-seconds", "0.05"]

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.command(), stdout=log, stderr=log, cwd=CLONE)
        wait_until(lambda: answers(f"{self.demo.url}/healthz"), "the demo Stripe answers")

    def end(self, number: signal.Signals) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(60)


@pytest.fixture
def process(tmp_path: Path, endpoint: Endpoint) -> Iterator[Process]:
    process = Process(tmp_path, endpoint.url)
    process.start()
    yield process
    if process.process is not None and process.process.poll() is None:
        process.end(signal.SIGKILL)


# --- The API, through the SDK


def test_a_session_is_as_the_sdk_knows_it(own: Own) -> None:
    sessions = own.client.v1.checkout.sessions
    made = sessions.create(order())
    assert made.last_response is not None
    assert made.last_response.headers["Request-Id"].startswith("req_")
    assert (made.status, made.payment_status, made.amount_total, made.ui_mode) == (
        "open",
        "unpaid",
        500,
        "hosted_page",
    )
    found = sessions.retrieve(made.id, {"expand": ["line_items", "payment_intent", "customer"]})
    assert found.to_dict()["metadata"] == {"order": "order-1"}
    assert found.line_items is not None
    assert found.line_items.data[0].description == "A <b>pack</b>"
    assert sessions.line_items.list(made.id).data[0].amount_total == 500
    assert sessions.expire(made.id).status == "expired"
    with pytest.raises(stripe.InvalidRequestError, match="status of `expired`"):
        sessions.expire(made.id)


def test_lists_are_paged_and_filtered(own: Own) -> None:
    sessions = own.client.v1.checkout.sessions
    ids = [sessions.create(order()).id for _ in range(5)]
    first = sessions.list({"limit": 2})
    assert [row.id for row in first.data] == [ids[4], ids[3]]
    assert first.has_more is True
    assert [row.id for row in first.auto_paging_iter()] == ids[::-1]
    assert [row.id for row in sessions.list({"ending_before": ids[2], "limit": 1}).data] == [ids[3]]
    sessions.expire(ids[0])
    assert [row.id for row in sessions.list({"status": "expired"}).data] == [ids[0]]
    assert sessions.list({"created": {"gte": int(time.time()) + 60}}).data == []
    assert len(sessions.list({"created": {"lte": int(time.time()) + 60}}).data) == 5


def test_customers_payment_intents_and_events_can_be_had(own: Own) -> None:
    client = own.client
    customer = client.v1.customers.create({"email": "c@example.org", "metadata": {"user": "1"}})
    assert client.v1.customers.retrieve(customer.id).email == "c@example.org"
    session = client.v1.checkout.sessions.create(order(customer=customer.id, customer_email=None))
    assert session.url is not None
    own.demo.act(session.url, "pay")
    paid = client.v1.checkout.sessions.retrieve(session.id)
    assert (paid.status, paid.payment_status, paid.url) == ("complete", "paid", None)
    intent = client.v1.payment_intents.retrieve(str(paid.payment_intent))
    assert (intent.status, intent.amount_received, intent.to_dict()["metadata"]) == (
        "succeeded",
        500,
        {"order": "order-1"},
    )
    (event,) = client.v1.events.list({"type": "checkout.session.completed"}).data
    assert client.v1.events.retrieve(event.id).api_version == stripe.api_version
    both = client.v1.events.list({"types": ["customer.created", "payment_intent.succeeded"]})
    assert [event.type for event in both.data] == ["payment_intent.succeeded", "customer.created"]


def test_an_idempotency_key_is_kept_to(own: Own) -> None:
    sessions = own.client.v1.checkout.sessions
    first = sessions.create(order(), {"idempotency_key": "k"})
    again = sessions.create(order(), {"idempotency_key": "k"})
    assert again.id == first.id
    assert again.last_response is not None
    assert again.last_response.headers["Idempotent-Replayed"] == "true"
    with pytest.raises(stripe.IdempotencyError):
        sessions.create(order(client_reference_id="other"), {"idempotency_key": "k"})
    assert sessions.create(order(), {"idempotency_key": "other"}).id != first.id
    assert len(sessions.list().data) == 2


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"mode": None}, "mode"),
        ({"line_items": None}, "line_items"),
        ({"success_url": None}, "success_url"),
        ({"success_url": "javascript:alert(1)"}, "success_url"),
        ({"payment_method_types": ["card"]}, "payment_method_types"),
        ({"customer_email": "nobody"}, "customer_email"),
        ({"customer": "cus_none", "customer_email": None}, "customer"),
        ({"expires_at": int(time.time()) + 60}, "expires_at"),
        ({"expires_at": int(time.time()) + 60 * 60 * 48}, "expires_at"),
        ({"client_reference_id": "x" * 201}, "client_reference_id"),
        ({"metadata": {"k": "v" * 501}}, "metadata[k]"),
        ({"line_items": [{"price_data": {"currency": "usd"}}]}, "line_items[0][price_data][unit_amount]"),
    ],
)
def test_wrong_parameters_are_refused_as_stripe_does(own: Own, changes: dict[str, Any], param: str) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refused:
        own.client.v1.checkout.sessions.create(order(**changes))
    assert refused.value.param == param
    assert refused.value.http_status in {400, 404}
    assert refused.value.request_id


def test_who_calls_and_what_does_not_exist(own: Own) -> None:
    with pytest.raises(stripe.InvalidRequestError) as missing:
        own.client.v1.checkout.sessions.retrieve("cs_none")
    assert (missing.value.http_status, missing.value.code) == (404, "resource_missing")
    base = {"api": own.demo.url}
    with pytest.raises(stripe.AuthenticationError):
        stripe.StripeClient("pk_not_secret", base_addresses=base).v1.events.list()
    with pytest.raises(stripe.InvalidRequestError, match="API version"):
        stripe.StripeClient("sk_x", base_addresses=base, stripe_version="2020-08-27").v1.events.list()
    assert httpx.get(f"{own.demo.url}/v1/events").status_code == 401
    answer = httpx.get(f"{own.demo.url}/v1/nothing", headers={"Authorization": "Bearer sk_x"})
    assert (answer.status_code, answer.json()["error"]["type"]) == (404, "invalid_request_error")


def test_nested_parameters_are_decoded() -> None:
    pairs = [("a[b][0][c]", "1"), ("a[b][1][c]", "2"), ("list[]", "x"), ("list[]", "y"), ("plain", "z")]
    assert decode(pairs) == {"a": {"b": [{"c": "1"}, {"c": "2"}]}, "list": ["x", "y"], "plain": "z"}


def test_the_api_fails_and_hangs_on_request(own: Own) -> None:
    own.demo.api_faults(status=503, times=2, path="/v1/events")
    for _ in range(2):
        with pytest.raises(stripe.APIError):
            own.client.v1.events.list()
    own.client.v1.events.list()
    own.demo.api_faults(hang_seconds=1)
    impatient = stripe.StripeClient(
        "sk_x", base_addresses={"api": own.demo.url}, http_client=stripe.RequestsClient(timeout=0.2)
    )
    with pytest.raises(stripe.APIConnectionError):
        impatient.v1.events.list()


# --- The hosted page


def test_the_page_says_that_it_is_none(own: Own) -> None:
    session = own.client.v1.checkout.sessions.create(order())
    assert session.url is not None
    page = own.demo.page(session.url)
    assert "Demo Stripe: no money moves" in page
    assert "A &lt;b&gt;pack&lt;/b&gt;" in page
    assert "<b>pack" not in page
    assert "buyer@example.org" in page
    assert "Pay $5.00" in page
    assert own.demo.act(session.url, "cancel") == "http://shop.test/no"
    assert own.demo.act(session.url, "pay") == f"http://shop.test/back?id={session.id}"
    assert "You're all done here" in own.demo.page(session.url)
    assert own.demo.act(session.url, "pay") is None, "a session is paid once"
    assert "There is no such checkout" in own.demo.page(f"{own.demo.url}/c/pay/cs_none")


# --- Webhooks


def test_the_signature_is_what_the_sdk_makes() -> None:
    body = '{"name": "Zoë"}'
    ours = sign(body.encode(), SECRET, 1_800_000_000)
    assert ours == stripe.WebhookSignature.generate_signature_header(body, SECRET, 1_800_000_000)


def test_events_are_delivered_until_the_endpoint_has_them(own: Own, endpoint: Endpoint) -> None:
    endpoint.statuses = [500, 503]
    own.client.v1.customers.create({"email": "c@example.org"})
    own.demo.idle()
    assert endpoint.types() == ["customer.created"]
    assert [row["status"] for row in own.demo.deliveries()] == [500, 503, 200]
    assert [row["attempt"] for row in own.demo.deliveries()] == [1, 2, 3]


def test_deliveries_go_wrong_on_request(own: Own, endpoint: Endpoint) -> None:
    def event(type: str) -> None:
        own.demo.emit(type, object={"id": "x_1", "object": "x"})

    own.demo.faults(reorder=3)
    for type in ("a", "b", "c"):
        event(type)
    own.demo.idle()
    assert endpoint.types() == ["c", "b", "a"]

    own.demo.faults(repeat=4)
    event("d")
    own.demo.idle()
    assert endpoint.types()[3:] == ["d"] * 4

    own.demo.faults(drop=True, types=["e"])
    event("e")
    event("f")
    own.demo.idle()
    assert endpoint.types()[7:] == ["f"]

    for fault in ({"forge": True}, {"timestamp_offset": -600}):
        own.demo.faults(**fault)
        event("g")
        own.demo.idle()
    assert endpoint.refused == 2

    own.demo.faults(api_version="1999-01-01")
    event("h")
    own.demo.idle()
    assert endpoint.received[-1].api_version == "1999-01-01"

    own.demo.faults(delay_seconds=0.1)
    began = time.monotonic()
    event("late")
    own.demo.idle()
    assert endpoint.types()[-1] == "late"
    assert time.monotonic() - began >= 0.1

    own.demo.faults(hold=True)
    event("i")
    own.demo.idle()
    assert "i" not in endpoint.types()
    own.demo.release()
    own.demo.idle()
    assert endpoint.types()[-1] == "i"


def test_a_mistake_in_a_demo_call_is_told(own: Own) -> None:
    with pytest.raises(ValueError, match="400"):
        own.demo.faults(no_such_fault=True)
    with pytest.raises(ValueError, match="404"):
        own.demo.settle("cs_none", "succeeded")


# --- The process


def test_a_kill_loses_nothing(process: Process, endpoint: Endpoint) -> None:
    sessions = process.client.v1.checkout.sessions
    open_one, waiting = sessions.create(order(), {"idempotency_key": "k"}), sessions.create(order())
    assert open_one.url is not None
    assert waiting.url is not None
    process.demo.bank_answers_after(3600)
    process.demo.act(waiting.url, "bank")
    process.demo.idle()
    process.demo.faults(hold=True)
    process.client.v1.customers.create({"email": "held@example.org"})
    assert endpoint.types()[-1] != "customer.created"

    process.end(signal.SIGKILL)
    process.start()

    process.demo.idle()
    assert endpoint.types()[-1] == "customer.created", "what had no answer is delivered"
    assert sessions.create(order(), {"idempotency_key": "k"}).id == open_one.id
    process.demo.act(open_one.url, "pay")
    process.demo.settle(waiting.id, "succeeded")
    assert {row.payment_status for row in sessions.list().data} == {"paid"}


def test_a_kill_loses_no_subscription_and_no_refund(process: Process) -> None:
    client, demo = process.client.v1, process.demo
    customer = client.customers.create({"email": "c@example.org"})
    product = client.products.create({"name": "Plus"})
    price = client.prices.create(
        {"product": product.id, "currency": "usd", "unit_amount": 2000, "recurring": {"interval": "month"}}
    )
    session = process.buy(
        mode="subscription",
        customer=customer.id,
        customer_email=None,
        payment_intent_data=None,
        line_items=[{"price": price.id}],
    )
    demo.renew(str(session.subscription), outcome="failed")
    refund = demo.refund(str(process.buy().payment_intent), status="pending")
    dispute = demo.dispute(str(process.buy().payment_intent))

    process.end(signal.SIGKILL)
    process.start()

    found = client.subscriptions.retrieve(str(session.subscription))
    assert found.status == "past_due"
    demo.pay_invoice(str(found.latest_invoice))
    assert client.subscriptions.retrieve(found.id).status == "active"
    assert demo.refund_becomes(refund["id"], "succeeded")["status"] == "succeeded"
    assert demo.dispute_becomes(dispute["id"], "won")["status"] == "won"


def test_what_a_kill_cut_short_has_not_happened(process: Process) -> None:
    sessions = process.client.v1.checkout.sessions
    kept = sessions.create(order())
    process.end(signal.SIGKILL)
    with process.state.open("a") as file:
        file.write('{"sessions": {"cs_half": {"id": "cs_h')
    process.start()
    assert [row.id for row in sessions.list().data] == [kept.id]
    other = sessions.create(order())
    process.end(signal.SIGKILL)
    process.start()
    assert [row.id for row in sessions.list().data] == [other.id, kept.id]


def test_a_bank_answers_in_time(own: Own, endpoint: Endpoint) -> None:
    own.demo.bank_answers_after(0)
    session = own.client.v1.checkout.sessions.create(order())
    assert session.url is not None
    own.demo.act(session.url, "bank")
    wait_until(lambda: "checkout.session.async_payment_succeeded" in endpoint.types(), "the bank has paid")


def test_a_broken_state_file_is_moved_aside(process: Process) -> None:
    process.end(signal.SIGTERM)
    process.state.write_text('{"sessions": ')
    process.start()
    assert process.client.v1.checkout.sessions.list().data == []
    assert process.state.with_suffix(".json.unreadable").exists()
    assert "starting empty" in process.log.read_text()


def test_it_logs_one_line_per_request_and_ends_quietly(process: Process) -> None:
    process.client.v1.events.list()
    assert process.end(signal.SIGTERM) == 0
    log = process.log.read_text()
    assert "Traceback" not in log
    assert len(re.findall(r"GET /v1/events 200 \d+ ms$", log, re.MULTILINE)) == 1


@pytest.fixture
def taken_port() -> Iterator[int]:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        yield listener.getsockname()[1]


def test_a_port_in_use_is_one_line(tmp_path: Path, taken_port: int) -> None:
    process = Process(tmp_path, "http://127.0.0.1:9/")
    process.port = taken_port
    ended = subprocess.run(process.command(), capture_output=True, text=True, cwd=CLONE, check=False)
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert line.startswith(f"demo-stripe: cannot listen on 127.0.0.1:{taken_port}: ")
