"""POST /billing/webhook/: what is let in, and that each event is done once or not at all."""

import json
import re
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
import stripe
from django.db import connections
from django.test import Client
from pytest_django.fixtures import Settings

from accounts.models import User
from billing import fulfilment, ledger, stripe_gateway, webhooks
from billing.errors import EventRejected
from billing.models import Order, StripeEvent
from billing.stripe_gateway import Event
from chatapp.local.demo_stripe.client import DemoStripe
from tests.billing.conftest import GoToCheckout
from tests.servers import STRIPE_WEBHOOK_SECRET
from tests.stack import Stack

URL = "/billing/webhook/"
COMPLETED = "checkout.session.completed"


def an_event(**changes: object) -> dict[str, object]:
    """An event that is let in and concerns nobody."""
    event: dict[str, object] = {
        "id": f"evt_{uuid.uuid4().hex}",
        "object": "event",
        "api_version": stripe.api_version,
        "created": int(time.time()),
        "data": {"object": {"id": "cus_1", "object": "customer"}},
        "livemode": False,
        "type": "customer.created",
    }
    return {**event, **changes}


def signed(body: str, *, secret: str = STRIPE_WEBHOOK_SECRET, seconds: int = 0) -> str:
    """The header that Stripe sends with `body`, made by the real SDK, `seconds` from now."""
    return stripe.WebhookSignature.generate_signature_header(body, secret, int(time.time()) + seconds)


Send = Callable[..., httpx.Response]


@pytest.fixture
def send(stack: Stack) -> Iterator[Send]:
    with httpx.Client(base_url=stack.url, timeout=30) as client:

        def send(body: str | bytes, signature: str | bytes | None = None) -> httpx.Response:
            headers = {} if signature is None else {"Stripe-Signature": signature}
            return client.post(URL, content=body, headers=headers)  # type: ignore[arg-type]

        yield send


def refused(answer: httpx.Response, status: int = 400) -> None:
    assert answer.status_code == status
    assert len(answer.text.splitlines()) == 1
    assert answer.headers["content-type"].startswith("text/plain")


def known(event: dict[str, object]) -> bool:
    return StripeEvent.objects.filter(pk=event["id"]).exists()


# --- Who is let in


def test_a_genuine_event_is_let_in_without_a_session_or_csrf_token(send: Send) -> None:
    event = an_event()
    body = json.dumps(event)
    answer = send(body, signed(body))
    assert (answer.status_code, answer.text) == (200, "ignored\n")
    stored = StripeEvent.objects.get(pk=event["id"])
    assert (stored.type, stored.outcome, stored.payload) == ("customer.created", "ignored", event)


@pytest.mark.parametrize("seconds", [-290, 290])
def test_clocks_may_differ_a_little(send: Send, seconds: int) -> None:
    event = an_event()
    body = json.dumps(event)
    assert send(body, signed(body, seconds=seconds)).status_code == 200
    assert known(event)


@pytest.mark.parametrize("seconds", [-3600, -310, 310, 3600, 10**9])
def test_what_was_signed_long_ago_or_in_the_future_is_refused(send: Send, seconds: int) -> None:
    event = an_event()
    body = json.dumps(event)
    refused(send(body, signed(body, seconds=seconds)))
    assert not known(event)


def test_the_first_timestamp_of_a_header_is_the_one_that_counts(send: Send) -> None:
    """What was signed for the future is not let in by a second timestamp of today."""
    event = an_event()
    body = json.dumps(event)
    refused(send(body, f"{signed(body, seconds=3600)},t={int(time.time())}"))
    assert not known(event)


@pytest.mark.parametrize(
    "signature",
    [
        None,
        "",
        "nonsense",
        "t=,v1=",
        "t=1",
        "v1=00",
        "t=nan,v1=00",
        "t=NOW,v1=",
        f"t=NOW,v0={'0' * 64}",
        f"t=NOW,v1={'é' * 64}",
        "t=" + "9" * 5000 + ",v1=00",
    ],
)
def test_a_header_that_is_no_signature_is_refused(send: Send, signature: str | None) -> None:
    event = an_event()
    header = signature and signature.replace("NOW", str(int(time.time()))).encode("latin-1")
    refused(send(json.dumps(event), header))
    assert not known(event)


@pytest.mark.parametrize("secret", ["whsec_of_somebody_else", " ", STRIPE_WEBHOOK_SECRET + " "])
def test_a_forged_event_is_refused(send: Send, secret: str) -> None:
    event = an_event()
    body = json.dumps(event)
    refused(send(body, signed(body, secret=secret)))
    assert not known(event)


def test_a_tampered_event_is_refused(send: Send) -> None:
    event = an_event()
    body = json.dumps(event)
    refused(send(body.replace("cus_1", "cus_2"), signed(body)))
    assert not known(event)


def test_forged_payments_credit_nothing(
    alice: User, go_to_checkout: GoToCheckout, demo_stripe: DemoStripe
) -> None:
    checkout = go_to_checkout(alice)
    for fault in ({"forge": True}, {"timestamp_offset": -600}, {"timestamp_offset": 600}):
        demo_stripe.faults(**fault)
        demo_stripe.emit(COMPLETED, session=checkout.session, changes={"payment_status": "paid"})
        demo_stripe.idle()
    assert [row["status"] for row in demo_stripe.deliveries(COMPLETED)] == [400] * 3
    assert checkout.order.state == Order.State.OPEN
    assert not checkout.order.transfers.exists()


def test_an_event_of_another_api_version_is_refused_and_says_why(
    alice: User, go_to_checkout: GoToCheckout, demo_stripe: DemoStripe
) -> None:
    checkout = go_to_checkout(alice)
    demo_stripe.faults(api_version="2020-08-27", types=[COMPLETED])
    demo_stripe.act(checkout.url, "pay")
    demo_stripe.idle()
    (row,) = demo_stripe.deliveries(COMPLETED)
    assert row["status"] == 400
    assert "API version 2020-08-27" in row["body"]
    assert not StripeEvent.objects.filter(pk=row["event"]).exists()
    assert checkout.order.state == Order.State.OPEN


GARBAGE = {
    "not json": "{",
    "empty": "",
    "a list": "[]",
    "a number": "1",
    "null": "null",
    "not an event": json.dumps({"object": "charge", "id": "ch_1"}),
    "a thin event": json.dumps(an_event(object="v2.core.event")),
    "without data": json.dumps(an_event(data=None)),
    "without an object": json.dumps(an_event(data={"object": None})),
    "about a list": json.dumps(an_event(data={"object": []})),
    "about a session without an id": json.dumps(
        an_event(type="checkout.session.completed", data={"object": {"object": "checkout.session"}})
    ),
    "about a refund without an id": json.dumps(
        an_event(type="refund.created", data={"object": {"id": None, "object": "refund"}})
    ),
    "without an id": json.dumps(an_event(id="")),
    "with an endless id": json.dumps(an_event(id="e" * 300)),
    "with an endless type": json.dumps(an_event(type="t" * 300)),
    "without a version": json.dumps(an_event(api_version=None)),
    "not a number": json.dumps(an_event(created=float("nan"))),
    "half a character": json.dumps(an_event(livemode="\ud800")),
    "deeply nested": "[" * 100_000,
}


@pytest.mark.parametrize("body", GARBAGE.values(), ids=GARBAGE.keys())
def test_a_body_that_is_no_event_is_refused_though_signed(send: Send, body: str) -> None:
    before = StripeEvent.objects.count()
    refused(send(body, signed(body)))
    assert StripeEvent.objects.count() == before


@pytest.mark.parametrize("body", [b"\xff\xfe\x00garbage", b'{"id": "\xc3\x28"}', bytes(range(256))])
def test_a_body_that_is_no_text_is_refused(send: Send, body: bytes) -> None:
    refused(send(body, f"t={int(time.time())},v1={'0' * 64}"))


def test_a_body_larger_than_any_event_is_refused(send: Send) -> None:
    event = an_event(padding="x" * (256 * 1024 + 1))
    body = json.dumps(event)
    refused(send(body, signed(body)), status=413)
    assert not known(event)


@pytest.mark.parametrize("length_is_told", [True, False])
def test_a_huge_body_is_refused_and_logged_by_the_server_itself(stack: Stack, length_is_told: bool) -> None:
    log = stack.log_of("web")
    before = len(log.read_text())
    event = an_event(padding="x" * 2_000_000)
    body = json.dumps(event).encode()
    content = body if length_is_told else iter([body[:1000], body[1000:]])
    headers = {"Stripe-Signature": signed(body.decode())}
    answer = httpx.post(f"{stack.url}{URL}", content=content, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    assert not known(event)
    [line] = [line for line in log.read_text()[before:].splitlines() if "body refused" in line]
    assert "is_signed_like_stripes=True" in line


def test_without_a_secret_nothing_is_let_in(settings: Settings) -> None:
    settings.STRIPE_WEBHOOK_SECRET = ""
    body = json.dumps(an_event())
    header = f"t={int(time.time())},v1={'0' * 64}"
    with pytest.raises(EventRejected, match="STRIPE_WEBHOOK_SECRET is not set"):
        stripe_gateway.construct_event(body.encode(), header)


def rejected(case: str) -> tuple[str | bytes, str]:
    """A body and a signature that are refused."""
    good = json.dumps(an_event())
    match case:
        case "wrong signature":
            return good, signed(good, secret="whsec_of_somebody_else")
        case "old timestamp":
            return good, signed(good, seconds=-310)
        case "future timestamp":
            return good, signed(good, seconds=310)
        case "garbage bytes":
            return bytes(range(256)), f"t={int(time.time())},v1={'0' * 64}"
        case "garbage text":
            return "garbage", signed("garbage")
        case "too large":
            huge = json.dumps(an_event(padding="x" * 300 * 1024))
            return huge, signed(huge)
    other = json.dumps(an_event(api_version="2020-08-27"))
    return other, signed(other)


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        ("wrong signature", "No signatures found matching"),
        ("old timestamp", "Timestamp outside the tolerance zone"),
        ("future timestamp", "The timestamp is in the future."),
        ("garbage bytes", "The body is not UTF-8."),
        ("garbage text", "The body is not an event."),
        ("too large", "The body is larger than any event."),
        ("another version", "The event has API version 2020-08-27"),
    ],
)
def test_what_is_refused_is_told_in_one_line_of_the_log_and_nowhere_else(
    case: str, reason: str, send: Send, stack: Stack
) -> None:
    log = stack.log_of("web")
    before, events = len(log.read_text()), StripeEvent.objects.count()
    answer = send(*rejected(case))
    assert answer.status_code in {400, 413}
    lines = [line for line in log.read_text()[before:].splitlines() if "stripe event rejected" in line]
    assert len(lines) == 1
    assert reason in lines[0]
    assert len(lines[0]) < 600
    assert StripeEvent.objects.count() == events


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "HEAD"])
def test_only_post_is_for_events(stack: Stack, method: str) -> None:
    assert httpx.request(method, f"{stack.url}{URL}").status_code == 405


def test_nothing_of_an_event_is_logged_but_its_id_and_type(
    alice: User, go_to_checkout: GoToCheckout, demo_stripe: DemoStripe, stack: Stack
) -> None:
    checkout = go_to_checkout(alice)
    demo_stripe.act(checkout.url, "pay")
    demo_stripe.idle()
    log = stack.log_of("web").read_text()
    assert demo_stripe.deliveries(COMPLETED)[0]["event"] in log
    assert alice.email not in log
    assert checkout.order.stripe_payment_intent not in log


# --- Once or not at all


def test_an_event_of_unknown_type_is_kept_and_ignored(demo_stripe: DemoStripe) -> None:
    event = demo_stripe.emit("invoice.finalized", object={"id": "in_1", "object": "invoice"})
    demo_stripe.idle()
    assert [row["status"] for row in demo_stripe.deliveries()] == [200]
    assert StripeEvent.objects.get(pk=event["id"]).outcome == "ignored"


def test_an_event_about_something_without_an_id_is_ignored(demo_stripe: DemoStripe) -> None:
    event = demo_stripe.emit("balance.available", object={"object": "balance"})
    demo_stripe.idle()
    assert StripeEvent.objects.get(pk=event["id"]).outcome == "ignored"


def test_what_jsonb_cannot_hold_does_not_lose_an_event(send: Send) -> None:
    event = an_event(data={"object": {"id": "cus_1", "name": "A\x00B \\u0000"}})
    body = json.dumps(event)
    assert send(body, signed(body)).status_code == 200
    assert StripeEvent.objects.get(pk=event["id"]).payload["data"]["object"]["name"].startswith("A\ufffdB")


def test_twenty_copies_of_an_event_are_one(
    alice: User, go_to_checkout: GoToCheckout, demo_stripe: DemoStripe
) -> None:
    checkout = go_to_checkout(alice)
    demo_stripe.faults(repeat=20, types=[COMPLETED])
    demo_stripe.act(checkout.url, "pay")
    demo_stripe.idle()
    rows = demo_stripe.deliveries(COMPLETED)
    assert [row["status"] for row in rows] == [200] * 20
    assert {row["body"] for row in rows} == {"handled\n"}
    assert checkout.order.transfers.count() == 1
    assert ledger.wallet_of(alice).balance == checkout.order.transfers.get().balance_after


def test_a_replay_is_answered_without_asking_stripe_again(
    alice: User, go_to_checkout: GoToCheckout, demo_stripe: DemoStripe
) -> None:
    checkout = go_to_checkout(alice)
    demo_stripe.act(checkout.url, "pay")
    demo_stripe.idle()
    (first,) = demo_stripe.deliveries(COMPLETED)
    asked = len(demo_stripe.requests())
    demo_stripe.deliver_again(first["event"])
    demo_stripe.idle()
    assert demo_stripe.deliveries(COMPLETED)[-1]["status"] == 200
    assert len(demo_stripe.requests()) == asked
    assert checkout.order.transfers.count() == 1


def test_a_failing_handler_leaves_nothing_and_is_run_again(
    alice: User,
    go_to_checkout: GoToCheckout,
    demo_stripe: DemoStripe,
    client: Client,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It breaks after the credits were booked and before the end: both go, and the event is not done."""
    checkout = go_to_checkout(alice)
    demo_stripe.faults(drop=True)
    demo_stripe.act(checkout.url, "pay")
    balance = ledger.wallet_of(alice).balance
    event = an_event(type=COMPLETED, data={"object": {"id": checkout.session}})
    body = json.dumps(event)

    def breaks(event: Event) -> webhooks.Effect:
        session = stripe_gateway.retrieve_session(event.object_id)

        def effect() -> bool:
            order = fulfilment.apply(session)
            assert order is not None
            assert order.transfers.exists()
            raise ZeroDivisionError("in the middle of it")

        return effect

    def post() -> int:
        headers = {"Stripe-Signature": signed(body)}
        return client.post(URL, body, content_type="application/json", headers=headers).status_code

    with monkeypatch.context() as fault:
        fault.setitem(webhooks.HANDLERS, COMPLETED, breaks)
        assert [post(), post()] == [500, 500]
    stored = StripeEvent.objects.get(pk=event["id"])
    assert (stored.outcome, stored.error) == ("failed", "ZeroDivisionError: in the middle of it")
    assert checkout.order.state == Order.State.OPEN
    assert not checkout.order.transfers.exists()
    assert ledger.wallet_of(alice).balance == balance

    assert [post(), post()] == [200, 200]
    stored.refresh_from_db()
    assert (stored.outcome, stored.error) == ("handled", "")
    assert checkout.order.state == Order.State.PAID
    assert ledger.wallet_of(alice).balance == balance + 500_000_000


def test_an_effect_and_its_event_commit_together(alice: User, committed_db: None) -> None:
    """While the effect runs, nobody else sees the event as done: it would be a promise not yet kept."""
    event = Event(id=f"evt_{uuid.uuid4().hex}", type="x", object_id="", payload={})
    seen: list[bool] = []

    def look() -> bool:
        try:
            return StripeEvent.objects.filter(pk=event.id).exists()
        finally:
            connections.close_all()

    def effect() -> bool:
        with ThreadPoolExecutor(1) as somebody_else:
            seen.append(somebody_else.submit(look).result())
        return True

    assert webhooks._do(event, effect).outcome == StripeEvent.Outcome.HANDLED
    assert seen == [False]
    assert look()


def test_the_effect_of_an_event_is_never_repeated(committed_db: None) -> None:
    """Not even one that would repeat itself: five deliveries at once, and one more."""
    event = Event(id=f"evt_{uuid.uuid4().hex}", type="x", object_id="", payload={})
    effects: list[str] = []

    def effect() -> bool:
        effects.append("done")
        return True

    def deliver(_: int) -> str:
        try:
            return webhooks._do(event, effect).outcome
        finally:
            connections.close_all()

    with ThreadPoolExecutor(5) as deliveries:
        assert set(deliveries.map(deliver, range(5))) == {"handled"}
    assert deliver(6) == "handled"
    assert effects == ["done"]


def test_a_failure_is_not_written_over_a_success(committed_db: None) -> None:
    event = Event(id=f"evt_{uuid.uuid4().hex}", type="x", object_id="", payload={})
    webhooks._do(event, lambda: True)
    webhooks._record_failure(event, ZeroDivisionError("late"))
    stored = StripeEvent.objects.get(pk=event.id)
    assert (stored.outcome, stored.error) == ("handled", "")


def test_the_readme_names_the_events_that_are_handled() -> None:
    """Whoever sets up the endpoint chooses them by it; a star stands for all of a kind."""
    text = " ".join(Path("README.md").read_text().split())
    listed = text.partition("Events: ")[2].partition(". An event")[0]
    named = set()
    for group in listed.split(";"):
        first, *others = re.findall(r"`([a-z_.*]+)`", group)
        kind = first.rpartition(".")[0]
        named |= {first, *(f"{kind}.{other}" for other in others)}
    starred = tuple(name.removesuffix("*") for name in named if name.endswith("*"))
    handled = set(webhooks.HANDLERS)
    assert {name for name in handled if not name.startswith(starred)} == {n for n in named if "*" not in n}
