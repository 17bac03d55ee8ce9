"""Having events of Stripe's handled once more from the admin: one or many, as often as one likes."""

import json
import uuid
from collections.abc import Callable
from functools import partial

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from playwright.sync_api import Page, expect

from accounts.models import User
from billing import webhooks
from billing.errors import PaymentUnavailable
from billing.models import Order, StripeEvent
from billing.stripe_gateway import Event
from chatapp.local.demo_stripe.client import DemoStripe
from tests.admin.conftest import browser_of, clerk, desk, operator
from tests.admin.desk import allow, page, text_of
from tests.billing.books import CREDIT, at_once, wallet_of
from tests.billing.conftest import Checkout, GoToCheckout
from tests.stack import Stack

__all__ = ["clerk", "desk", "operator"]

COMPLETED = "checkout.session.completed"
WELCOME, BOUGHT = 100 * CREDIT, 500 * CREDIT
LIST = "/admin/billing/stripeevent/"


@pytest.fixture
def bought(go_to_checkout: GoToCheckout, demo_stripe: DemoStripe, alice: User) -> Checkout:
    checkout = go_to_checkout(alice)
    demo_stripe.pay(checkout.url)
    demo_stripe.idle()
    return checkout


@pytest.fixture
def lost(go_to_checkout: GoToCheckout, demo_stripe: DemoStripe, alice: User, stack: Stack) -> StripeEvent:
    """The event of a payment that could not be handled, however often it was sent."""
    stack.expect_tracebacks()
    checkout = go_to_checkout(alice)
    demo_stripe.faults(retry_seconds=60)
    demo_stripe.api_faults(path="/v1/checkout/sessions/", status=500, times=4)
    demo_stripe.pay(checkout.url)
    stack.wait_until(lambda: bool(demo_stripe.deliveries(COMPLETED)), "it was sent once")
    demo_stripe.reset()
    (event,) = StripeEvent.objects.filter(
        type=COMPLETED, payload__data__object__id=checkout.session, outcome="failed"
    )
    return event


def replay_page(event: StripeEvent) -> str:
    return f"{LIST}{event.pk}/replay/"


def replay_all(desk: Client, *events: StripeEvent) -> str:
    """What is said after the selected events were replayed, which the page between asks for."""
    form = {
        "action": "replay_selected",
        "_selected_action": [event.pk for event in events],
        "confirmed": "yes",
    }
    return text_of(desk.post(LIST, form, follow=True))


def event_of(demo_stripe: DemoStripe, type: str) -> StripeEvent:
    return StripeEvent.objects.get(pk=demo_stripe.deliveries(type)[-1]["event"])


def an_event(type: str = "test.happened", outcome: str = "failed") -> StripeEvent:
    """One that is stored and concerns nobody."""
    return StripeEvent.objects.create(
        id=f"evt_{uuid.uuid4().hex}",
        type=type,
        payload={"data": {"object": {"id": "x_1"}}},
        outcome=outcome,
        error="as it was" if outcome == "failed" else "",
    )


def handle(patch: pytest.MonkeyPatch, effect: Callable[[], bool]) -> None:
    patch.setitem(webhooks.HANDLERS, "test.happened", lambda event: effect)


# --- One


def test_a_failed_event_is_made_up_for(desk: Client, lost: StripeEvent, alice: User, operator: User) -> None:
    assert "as if Stripe had just sent it" in page(desk, replay_page(lost))
    assert wallet_of(alice).balance == WELCOME  # the question alone does nothing
    said = text_of(desk.post(replay_page(lost), follow=True))
    assert f"{COMPLETED} {lost.pk} was handled." in said
    lost.refresh_from_db()
    assert (lost.outcome, lost.error) == ("handled", "")
    assert wallet_of(alice).balance == WELCOME + BOUGHT
    (entry,) = LogEntry.objects.filter(object_id=lost.pk)
    assert (entry.user, entry.change_message) == (operator, "Replayed: handled.")


def test_replaying_what_was_handled_changes_nothing(
    desk: Client, bought: Checkout, alice: User, demo_stripe: DemoStripe
) -> None:
    demo_stripe.refund(bought.order.stripe_payment_intent, amount=200)
    dispute = demo_stripe.dispute(bought.order.stripe_payment_intent, amount=100)
    demo_stripe.dispute_becomes(dispute["id"], "won")
    demo_stripe.idle()
    transfers = list(bought.order.transfers.order_by("pk").values())
    told = [row["event"] for row in demo_stripe.deliveries()]
    for event in StripeEvent.objects.filter(pk__in=told, outcome="handled"):
        assert webhooks.replay(event) == "handled"
    assert list(bought.order.transfers.order_by("pk").values()) == transfers
    assert wallet_of(alice).balance == WELCOME + 300 * CREDIT


def test_six_clicks_at_once_credit_once(desk: Client, lost: StripeEvent, alice: User) -> None:
    assert at_once([partial(webhooks.replay, lost)] * 6) == ["handled"] * 6
    assert wallet_of(alice).balance == WELCOME + BOUGHT


def test_stripes_own_retry_finds_it_done(desk: Client, lost: StripeEvent, demo_stripe: DemoStripe) -> None:
    webhooks.replay(lost)
    demo_stripe.deliver_again(lost.pk)
    demo_stripe.idle()
    assert demo_stripe.deliveries(COMPLETED)[-1]["status"] == 200
    assert Order.objects.get(stripe_session=lost.payload["data"]["object"]["id"]).transfers.count() == 1


def test_an_event_of_a_kind_that_was_learned_later_is_handled(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = an_event(outcome="ignored")
    assert webhooks.replay(event) == "ignored"
    handle(monkeypatch, lambda: True)
    assert webhooks.replay(event) == "handled"


def test_what_was_handled_stays_so_whatever_a_replay_comes_to(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = an_event(outcome="handled")
    handle(monkeypatch, lambda: False)
    assert webhooks.replay(event) == "handled"

    def breaks() -> bool:
        raise ZeroDivisionError

    handle(monkeypatch, breaks)
    with pytest.raises(ZeroDivisionError):
        webhooks.replay(event)
    event.refresh_from_db()
    assert (event.outcome, event.error) == ("handled", "")


def test_a_replay_that_fails_says_why_and_leaves_nothing_half_done(
    desk: Client, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = an_event()

    def breaks() -> bool:
        User.objects.filter(pk=alice.pk).update(name="Half done")
        raise ZeroDivisionError("in the middle of it")

    handle(monkeypatch, breaks)
    assert f"test.happened {event.pk} failed: in the middle of it" in text_of(
        desk.post(replay_page(event), follow=True)
    )
    event.refresh_from_db()
    alice.refresh_from_db()
    assert (event.outcome, event.error) == ("failed", "ZeroDivisionError: in the middle of it")
    assert alice.name == "Alice"


def test_an_event_that_does_not_exist_is_not_found(desk: Client) -> None:
    assert desk.post(f"{LIST}evt_of_nobody/replay/").status_code in {302, 404}


# --- Many


def test_many_are_replayed_and_each_outcome_is_shown(desk: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    events = [an_event(), an_event("test.of_no_handler"), an_event("test.broken")]

    def broken(event: Event) -> webhooks.Effect:
        raise KeyError(event.object_id)

    handle(monkeypatch, lambda: True)
    monkeypatch.setitem(webhooks.HANDLERS, "test.broken", broken)
    said = replay_all(desk, *events)
    assert f"test.happened {events[0].pk} was handled." in said
    assert f"test.of_no_handler {events[1].pk} was ignored." in said
    assert f"test.broken {events[2].pk} failed: 'x_1'" in said
    outcomes = [StripeEvent.objects.get(pk=event.pk).outcome for event in events]
    assert outcomes == ["handled", "ignored", "failed"]


def test_many_are_replayed_only_after_a_question(desk: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    handle(monkeypatch, lambda: True)
    events = [an_event(), an_event()]
    form = {"action": "replay_selected", "_selected_action": [event.pk for event in events]}
    asked = desk.post(LIST, form).content.decode()
    assert "Replay these events?" in asked
    assert all(f'name="_selected_action" value="{event.pk}"' in asked for event in events)
    assert not StripeEvent.objects.filter(pk__in=[event.pk for event in events], outcome="handled").exists()


def test_while_stripe_is_away_the_others_are_not_tried(desk: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []

    def away(event: Event) -> webhooks.Effect:
        tried.append(event.id)
        raise PaymentUnavailable("Stripe cannot be reached.")

    monkeypatch.setitem(webhooks.HANDLERS, "test.happened", away)
    said = replay_all(desk, an_event(), an_event(), an_event())
    assert "Stripe is away: the other 2 were not tried." in said
    assert len(tried) == 1


def test_too_many_at_once_are_refused(desk: Client) -> None:
    events = [an_event() for _ in range(51)]
    assert "At most 50 events are replayed at once." in replay_all(desk, *events)
    assert not StripeEvent.objects.filter(pk__in=[event.pk for event in events]).exclude(error="as it was")


# --- Who may


def test_replaying_is_a_right_of_its_own(clerk: User, alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    handle(monkeypatch, lambda: True)
    event = an_event()
    allow(clerk, "billing.view_stripeevent", "billing.view_order", "billing.change_stripeevent")
    desk = browser_of(clerk)
    assert desk.get(replay_page(event)).status_code == 403
    assert desk.post(replay_page(event)).status_code == 403
    replay_all(desk, event)
    shown = desk.get(f"{LIST}{event.pk}/change/").content.decode()
    assert replay_page(event) not in shown
    assert "replay_selected" not in desk.get(LIST).content.decode()
    event.refresh_from_db()
    assert event.outcome == "failed"

    allow(clerk, "billing.replay_events")
    assert desk.post(replay_page(event)).status_code == 302
    event.refresh_from_db()
    assert event.outcome == "handled"


def test_outsiders_replay_nothing(alice: User, charlie: User, monkeypatch: pytest.MonkeyPatch) -> None:
    handle(monkeypatch, lambda: True)
    event = an_event()
    for browser in (Client(), browser_of(charlie)):
        assert browser.post(replay_page(event)).status_code in {302, 403}
    event.refresh_from_db()
    assert event.outcome == "failed"


def test_a_replay_needs_the_token_of_its_page(operator: User) -> None:
    event = an_event()
    desk = Client(enforce_csrf_checks=True)
    desk.force_login(operator, backend="django.contrib.auth.backends.ModelBackend")
    assert desk.post(replay_page(event)).status_code == 403


def test_the_event_as_stripe_sent_it_stays(bought: Checkout, desk: Client, demo_stripe: DemoStripe) -> None:
    event = event_of(demo_stripe, COMPLETED)
    before = json.dumps(event.payload)
    webhooks.replay(event)
    assert json.dumps(StripeEvent.objects.get(pk=event.pk).payload) == before


def test_an_operator_replays_in_a_browser(
    lost: StripeEvent, alice: User, operator: User, page_of: Callable[..., Page]
) -> None:
    browser = page_of(operator)
    browser.goto(f"{LIST}{lost.pk}/change/")
    browser.get_by_role("link", name="Replay").click()
    browser.get_by_role("button", name="Replay the event").click()
    expect(browser.get_by_text("was handled.")).to_be_visible()
    assert wallet_of(alice).balance == WELCOME + BOUGHT
