"""Plans and subscriptions over HTTP: begun, renewed, changed, past due, ended, taken up again."""

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

import pytest
from django.db import DatabaseError, transaction
from django.utils import timezone

from accounts.models import User
from billing import plan_terms, subscriptions
from billing.errors import PaymentUnavailable
from billing.models import Lot, Order, Plan, PlanCheckout, StripeEvent, Subscription
from chatapp import leaving
from chatapp.local.demo_stripe.client import DemoStripe
from tests.billing.books import unguarded
from tests.billing.subscribing import (
    CREATED,
    CREDIT,
    DELETED,
    INVOICE_FAILED,
    INVOICE_PAID,
    Subscriber,
)
from tests.conftest import SignIn
from tests.stack import Stack

SubscriberOf = Callable[[User], Subscriber]


@pytest.fixture
def subscriber(demo_stripe: DemoStripe, sign_in: SignIn) -> SubscriberOf:
    return lambda user: Subscriber(user=user, browser=sign_in(user), stripe=demo_stripe)


@pytest.fixture
def plus(committed_db: None) -> Plan:
    """1,050 credits a month for $10, to be used within it."""
    return Plan.objects.get(name="Plus")


@pytest.fixture
def big(committed_db: None) -> Plan:
    """5,500 credits a month for $50."""
    return Plan.objects.get(name="Max")


@pytest.fixture
def lasting(committed_db: None) -> Plan:
    """A plan whose credits do not expire."""
    made, _ = Plan.objects.get_or_create(
        name="Lasting",
        defaults={"credits": 100, "price_cents": 300, "credits_last": Plan.Last.FOREVER, "position": 9},
    )
    return made


def outcomes(demo_stripe: DemoStripe, type: str) -> list[str]:
    events = [row["event"] for row in demo_stripe.deliveries(type)]
    return [StripeEvent.objects.get(pk=event).outcome for event in dict.fromkeys(events)]


# --- Beginning


def test_subscribing_brings_the_credits_of_the_first_period(
    alice: User, subscriber: SubscriberOf, plus: Plan, demo_stripe: DemoStripe
) -> None:
    person = subscriber(alice)
    subscription = person.subscribe(plus)

    assert (subscription.plan, subscription.status) == (plus, "active")
    assert not subscription.cancel_at_period_end
    (order,) = person.periods
    assert (order.state, order.plan, order.subscription) == ("paid", plus, subscription)
    assert (order.amount_cents, order.paid_cents, order.currency) == (1000, 1000, "usd")
    assert (order.stripe_invoice or "").startswith("in_")
    assert order.stripe_payment_intent.startswith("pi_")
    assert person.bought == [1050]
    lot = Lot.objects.get(transfer__order=order)
    assert lot.expires_at == subscription.current_period_end
    assert 27 <= (lot.expires_at - timezone.now()).days <= 31
    assert outcomes(demo_stripe, CREATED) == outcomes(demo_stripe, INVOICE_PAID) == ["handled"]
    page = person.browser.get("/billing/").text
    assert "Your plan" in page
    assert f"Renews on {subscription.current_period_end:%-d %B %Y}" in page


def test_coming_back_from_stripe_credits_without_any_event(
    alice: User, subscriber: SubscriberOf, plus: Plan, demo_stripe: DemoStripe
) -> None:
    person = subscriber(alice)
    url = person.go_to_checkout(plus)
    demo_stripe.faults(drop=True)
    back = demo_stripe.act(url, "pay")
    assert person.periods == []
    assert back
    for _ in range(3):
        answer = person.browser.get(back)
        assert answer.status_code == 200
        assert "You are on Plus" in answer.text
    assert person.bought == [1050]


def test_stripe_away_at_the_return_is_said(
    alice: User, subscriber: SubscriberOf, plus: Plan, demo_stripe: DemoStripe
) -> None:
    person = subscriber(alice)
    url = person.go_to_checkout(plus)
    demo_stripe.faults(drop=True)
    back = demo_stripe.act(url, "pay")
    demo_stripe.api_faults(path="/v1/checkout/sessions", status=500, times=4)
    assert back
    answer = person.browser.get(back)
    assert answer.status_code == 503
    assert "its credits arrive by themselves" in answer.text
    assert "You are on Plus" in person.browser.get(back).text


def test_a_price_is_made_once_and_fixes_the_plan(
    alice: User, bob: User, subscriber: SubscriberOf, demo_stripe: DemoStripe, committed_db: None
) -> None:
    plan = Plan.objects.create(name="New", credits=10, price_cents=100, position=20, on_sale=True)
    try:
        demo_stripe.api_faults(path="/v1/prices", lose_answer=True)
        subscriber(alice).go_to_checkout(plan)
        subscriber(bob).go_to_checkout(plan)
        plan.refresh_from_db()
        price = demo_stripe.api("GET", f"/v1/prices/{plan.stripe_price}")
        assert (price["unit_amount"], price["currency"], price["recurring"]["interval"]) == (
            100,
            "usd",
            "month",
        )
        same = demo_stripe.api("GET", f"/v1/prices?lookup_keys[]={price['lookup_key']}")["data"]
        assert len(same) == 1
        for changed in (
            {"credits": 11},
            {"price_cents": 99},
            {"interval": "year"},
            {"credits_last": "forever"},
        ):
            with pytest.raises(DatabaseError, match="a new offer is a new plan"), transaction.atomic():
                Plan.objects.filter(pk=plan.pk).update(**changed)
        with pytest.raises(DatabaseError, match="take it off sale"), transaction.atomic():
            Plan.objects.filter(pk=plan.pk)._raw_delete("default")
        Plan.objects.filter(pk=plan.pk).update(name="Renamed")
    finally:
        Plan.objects.filter(pk=plan.pk).update(on_sale=False)


@pytest.mark.parametrize("plan", ["", "0", "x", "99999999999999999999", "\x00"])
def test_a_plan_that_does_not_exist_is_refused(
    alice: User, sign_in: SignIn, demo_stripe: DemoStripe, plan: str
) -> None:
    answer = sign_in(alice).post("/billing/subscribe/", data={"plan": plan})
    assert answer.status_code == 400
    assert demo_stripe.requests() == []


def test_a_double_click_opens_one_page(
    alice: User, subscriber: SubscriberOf, plus: Plan, demo_stripe: DemoStripe
) -> None:
    person = subscriber(alice)
    with ThreadPoolExecutor(5) as clicks:
        urls = set(clicks.map(lambda _: person.go_to_checkout(plus), range(5)))
    assert len(urls) == 1
    assert alice.plan_checkouts.count() == 1


def test_only_the_last_page_opened_can_be_paid(
    alice: User, subscriber: SubscriberOf, plus: Plan, big: Plan, demo_stripe: DemoStripe
) -> None:
    """Two tabs with a plan each would be two subscriptions."""
    person = subscriber(alice)
    first, second = person.go_to_checkout(plus), person.go_to_checkout(big)
    demo_stripe.act(first, "pay")
    demo_stripe.act(second, "pay")
    demo_stripe.idle()
    assert person.subscription.plan == big
    assert person.bought == [5500]
    assert sorted(alice.plan_checkouts.values_list("state", flat=True)) == ["complete", "expired"]


def test_a_page_that_was_paid_a_moment_ago_is_found_out_before_another_is_opened(
    alice: User, subscriber: SubscriberOf, plus: Plan, big: Plan, demo_stripe: DemoStripe
) -> None:
    person = subscriber(alice)
    first = person.go_to_checkout(plus)
    demo_stripe.faults(drop=True)
    demo_stripe.act(first, "pay")

    answer = person.browser.post("/billing/subscribe/", data={"plan": big.pk})

    assert answer.status_code == 409
    assert "You have a subscription: change its plan instead." in answer.text
    assert person.bought == [1050]


def test_who_has_a_subscription_cannot_begin_another(
    alice: User, subscriber: SubscriberOf, plus: Plan, big: Plan, demo_stripe: DemoStripe
) -> None:
    person = subscriber(alice)
    person.subscribe(plus)
    answer = person.browser.post("/billing/subscribe/", data={"plan": big.pk})
    assert answer.status_code == 409
    opened = [row for row in demo_stripe.requests("/v1/checkout/sessions") if row["idempotency_key"]]
    assert len(opened) == 1


def test_an_answer_lost_at_opening_opens_no_second_page(
    alice: User, subscriber: SubscriberOf, plus: Plan, demo_stripe: DemoStripe
) -> None:
    person = subscriber(alice)
    demo_stripe.api_faults(path="/v1/checkout/sessions", lose_answer=True)
    url = person.go_to_checkout(plus)
    assert person.go_to_checkout(plus) == url


def test_a_page_opened_but_never_stored_is_credited_all_the_same(
    alice: User, subscriber: SubscriberOf, plus: Plan, demo_stripe: DemoStripe
) -> None:
    person = subscriber(alice)
    url = person.go_to_checkout(plus)
    alice.plan_checkouts.update(stripe_session=None)
    demo_stripe.act(url, "pay")
    demo_stripe.idle()
    assert person.bought == [1050]
    assert alice.plan_checkouts.get().state == PlanCheckout.State.COMPLETE


def test_a_promotion_code_lowers_what_is_paid_and_not_what_is_credited(
    alice: User, subscriber: SubscriberOf, plus: Plan, demo_stripe: DemoStripe
) -> None:
    person = subscriber(alice)
    demo_stripe.pay(person.go_to_checkout(plus), code="FREE")
    demo_stripe.idle()
    (order,) = person.periods
    assert (order.amount_cents, order.paid_cents) == (1000, 0)
    assert person.bought == [1050]


# --- Events in any manner


@pytest.mark.parametrize("last_first", [False, True])
def test_events_in_any_order_credit_once(
    alice: User, subscriber: SubscriberOf, plus: Plan, demo_stripe: DemoStripe, last_first: bool
) -> None:
    person = subscriber(alice)
    url = person.go_to_checkout(plus)
    demo_stripe.idle()
    demo_stripe.faults(hold=True)
    demo_stripe.act(url, "pay")
    demo_stripe.faults(repeat=3)
    demo_stripe.release(last_first=last_first)
    demo_stripe.idle()
    assert {row["status"] for row in demo_stripe.deliveries()} == {200}
    assert person.bought == [1050]
    assert person.subscription.status == "active"


def test_all_events_at_once_credit_once(
    alice: User, subscriber: SubscriberOf, plus: Plan, demo_stripe: DemoStripe
) -> None:
    person = subscriber(alice)
    url = person.go_to_checkout(plus)
    demo_stripe.faults(repeat=5)
    back = demo_stripe.act(url, "pay")
    assert back
    with ThreadPoolExecutor(5) as visits:
        assert {answer.status_code for answer in visits.map(person.browser.get, [back] * 5)} == {200}
    demo_stripe.idle()
    assert {row["status"] for row in demo_stripe.deliveries()} == {200}
    assert person.bought == [1050]


def test_an_event_replayed_changes_nothing(
    alice: User, subscriber: SubscriberOf, plus: Plan, demo_stripe: DemoStripe
) -> None:
    person = subscriber(alice)
    person.subscribe(plus)
    for type in (INVOICE_PAID, CREATED):
        event = demo_stripe.deliveries(type)[-1]["event"]
        with unguarded("billing_stripeevent"):
            StripeEvent.objects.filter(pk=event).delete()
        demo_stripe.deliver_again(event)
    demo_stripe.idle()
    assert person.bought == [1050]


def test_an_event_that_lies_is_not_believed(
    alice: User, subscriber: SubscriberOf, plus: Plan, big: Plan, demo_stripe: DemoStripe
) -> None:
    person = subscriber(alice)
    subscription = person.subscribe(plus)
    subscriptions.known_at_stripe(big)
    now = demo_stripe.api("GET", f"/v1/subscriptions/{subscription.stripe_id}")
    invoice = demo_stripe.api("GET", f"/v1/invoices/{now['latest_invoice']}")
    invoice["lines"]["data"][0]["pricing"]["price_details"]["price"] = big.stripe_price
    demo_stripe.emit(INVOICE_PAID, object=invoice)
    demo_stripe.emit(DELETED, object={**now, "status": "canceled"})
    demo_stripe.idle()
    assert person.bought == [1050]
    assert person.subscription.status == "active"


def test_a_forged_event_changes_nothing(
    alice: User, subscriber: SubscriberOf, plus: Plan, demo_stripe: DemoStripe
) -> None:
    person = subscriber(alice)
    url = person.go_to_checkout(plus)
    demo_stripe.faults(forge=True)
    demo_stripe.act(url, "pay")
    demo_stripe.idle()
    assert not alice.subscriptions.exists()
    assert not alice.orders.exists()


def test_subscriptions_that_were_not_begun_here_are_ignored(
    alice: User, subscriber: SubscriberOf, plus: Plan, demo_stripe: DemoStripe
) -> None:
    subscriptions.known_at_stripe(plus)
    session = demo_stripe.api(
        "POST",
        "/v1/checkout/sessions",
        **{
            "mode": "subscription",
            "success_url": "http://elsewhere.test/",
            "line_items[0][price]": str(plus.stripe_price),
        },
    )
    orders_before = Order.objects.count()
    demo_stripe.act(session["url"], "pay")
    demo_stripe.idle()
    assert set(outcomes(demo_stripe, CREATED) + outcomes(demo_stripe, INVOICE_PAID)) == {"ignored"}
    assert Order.objects.count() == orders_before


# --- Periods


def test_each_paid_period_is_credited_and_expires(
    alice: User, subscriber: SubscriberOf, plus: Plan, demo_stripe: DemoStripe
) -> None:
    person = subscriber(alice)
    first = person.subscribe(plus)
    demo_stripe.renew(first.stripe_id)
    demo_stripe.idle()
    assert person.bought == [1050, 1050]
    ends = [order.credits_expire_at for order in person.periods]
    assert ends[0] == first.current_period_end
    assert ends[1] == person.subscription.current_period_end
    assert ends[1]
    assert ends[0]
    assert ends[1] > ends[0]


def test_credits_of_a_lasting_plan_do_not_expire(
    alice: User, subscriber: SubscriberOf, lasting: Plan
) -> None:
    person = subscriber(alice)
    person.subscribe(lasting)
    assert person.periods[0].credits_expire_at is None
    assert person.bought == [100]
    assert not Lot.objects.filter(account__user=alice).exists()


def test_a_renewal_that_fails_is_past_due_until_it_is_paid(
    alice: User, subscriber: SubscriberOf, plus: Plan, demo_stripe: DemoStripe
) -> None:
    person = subscriber(alice)
    subscription = person.subscribe(plus)
    demo_stripe.renew(subscription.stripe_id, outcome="failed")
    demo_stripe.idle()

    assert person.subscription.status == "past_due"
    assert person.bought == [1050]
    assert outcomes(demo_stripe, INVOICE_FAILED) == ["handled"]
    page = person.browser.get("/billing/").text
    assert "payment due" in page
    assert "Your bank did not let the last payment through." in page
    answer = person.browser.get("/billing/subscription/invoice/")
    assert answer.status_code == 303
    demo_stripe.act(answer.headers["location"], "pay")
    demo_stripe.idle()

    assert person.subscription.status == "active"
    assert person.bought == [1050, 1050]
    assert person.periods[1].credits_expire_at == person.subscription.current_period_end


def told(stack: Stack, user: User) -> int:
    """How many mails said that the plan could not be paid."""
    return sum("could not be paid" in str(mail["Subject"]) for mail in stack.mail_to(user.email))


def test_a_payment_that_wants_its_person_is_told_of(
    alice: User, subscriber: SubscriberOf, plus: Plan, demo_stripe: DemoStripe, stack: Stack
) -> None:
    person = subscriber(alice)
    subscription = person.subscribe(plus)
    demo_stripe.renew(subscription.stripe_id, outcome="action_required")
    demo_stripe.idle()
    assert outcomes(demo_stripe, "invoice.payment_action_required") == ["handled"]
    assert person.subscription.status == "past_due"
    assert person.subscription.told_of.endswith(":1")
    assert person.bought == [1050]
    # Failed and waiting for its person are two events about one try.
    stack.wait_until(lambda: told(stack, alice) == 1, "she is told by mail")
    demo_stripe.pay_invoice(str(person.at_stripe()["latest_invoice"]), outcome="failed")
    demo_stripe.idle()
    stack.wait_until(lambda: told(stack, alice) == 2, "she is told of the second try")


def test_a_failure_that_comes_after_the_payment_changes_nothing(
    alice: User, subscriber: SubscriberOf, plus: Plan, demo_stripe: DemoStripe
) -> None:
    person = subscriber(alice)
    subscription = person.subscribe(plus)
    demo_stripe.faults(hold=True)
    demo_stripe.renew(subscription.stripe_id, outcome="failed")
    invoice = str(person.at_stripe()["latest_invoice"])
    demo_stripe.pay_invoice(invoice)
    demo_stripe.release(last_first=True)
    demo_stripe.idle()
    assert person.subscription.status == "active"
    assert person.subscription.told_of == ""
    assert person.bought == [1050, 1050]


def test_a_period_paid_after_its_end_lasts_as_long_as_it_would_have(plus: Plan) -> None:
    begins = timezone.now() - timedelta(days=40)
    line = subscriptions.Line(price="p", amount=1000, begins=begins, ends=begins + timedelta(days=30))
    now = timezone.now()
    assert subscriptions._expiry(plus, line, now) == now + timedelta(days=30)
    in_time = begins + timedelta(days=29)
    assert subscriptions._expiry(plus, line, in_time) == line.ends


# --- Changing


def test_another_plan_begins_at_once_and_keeps_the_credits(
    alice: User, subscriber: SubscriberOf, plus: Plan, big: Plan, demo_stripe: DemoStripe
) -> None:
    person = subscriber(alice)
    first = person.subscribe(plus)
    answer = person.change_to(big)
    assert answer.status_code == 303
    assert person.bought == [1050, 5500], "credited before any event"
    demo_stripe.idle()
    assert person.bought == [1050, 5500]
    assert (person.subscription.plan, person.subscription.pk) == (big, first.pk)
    assert person.periods[0].credits_expire_at == first.current_period_end
    assert person.periods[1].credits_expire_at == person.subscription.current_period_end
    assert person.change_to(plus).status_code == 303
    assert person.bought == [1050, 5500, 1050]


def test_what_a_change_charges_and_brings_is_said_before_anything_is_done(
    alice: User, charlie: User, subscriber: SubscriberOf, plus: Plan, big: Plan, demo_stripe: DemoStripe
) -> None:
    person = subscriber(alice)
    first = person.subscribe(plus)
    assert "/billing/subscription/change/" in person.browser.get("/billing/").text
    asked_before = len(demo_stripe.requests())

    began = timezone.now()
    page = person.browser.get("/billing/subscription/change/", params={"plan": big.pk})

    said = " ".join(re.sub(r"<[^>]*>", " ", page.text).split())
    (until,) = {day for day in days_of_end(big, began) if f"to use until {day}." in said}
    for fact in (
        "Charged now $50 with what you pay for Plus with.",
        f"Credits now 5,500 credits , to use until {until}.",
        f"1,050.00 credits of Plus stay yours until {first.current_period_end:%-d %B %Y}.",
        f"Next payment $50 on {until} ,",
    ):
        assert fact in said
    assert len(demo_stripe.requests()) == asked_before
    assert (person.subscription.plan, person.bought) == (plus, [1050])
    confirm = dict(re.findall(r'name="(plan|price_cents)" value="(\d+)"', page.text))
    assert person.change(plan=big.pk, price_cents=4900).status_code == 400, "another price than was shown"
    unasked = person.change(plan=big.pk)
    assert (unasked.status_code, unasked.headers["location"]) == (303, page.request.url.raw_path.decode())
    assert person.bought == [1050]
    assert person.change(**confirm).status_code == 303
    assert (person.subscription.plan, person.bought) == (big, [1050, 5500])
    assert f"{person.subscription.current_period_end:%-d %B %Y}" in days_of_end(big, began)
    left = [(part.plan, part.microcredits) for part in plan_terms.of_end(alice).left]
    assert sorted(left) == [("Max", 5500 * CREDIT), ("Plus", 1050 * CREDIT)], "each by its plan's name"

    outsider = subscriber(charlie)
    for path in (f"change/?plan={plus.pk}", "end/"):
        refused = outsider.browser.get(f"/billing/subscription/{path}")
        assert refused.status_code == 409
        assert "You have no subscription." in refused.text


def days_of_end(plan: Plan, began: datetime) -> set[str]:
    """The day on which a period ends that was begun since then, or the two, if it was over midnight."""
    return {f"{plan.period_from(at):%-d %B %Y}" for at in (began, timezone.now())}


@pytest.mark.parametrize(
    ("begins", "interval", "ends"),
    [
        ("2027-01-31", "month", "2027-02-28"),
        ("2026-12-05", "month", "2027-01-05"),
        ("2028-02-29", "year", "2029-02-28"),
    ],
)
def test_a_period_ends_on_the_same_day_or_the_months_last(begins: str, interval: str, ends: str) -> None:
    plan = Plan(interval=interval)
    assert plan.period_from(datetime.fromisoformat(begins)) == datetime.fromisoformat(ends)


def test_changing_twice_at_once_is_charged_once(
    alice: User, subscriber: SubscriberOf, plus: Plan, big: Plan, demo_stripe: DemoStripe
) -> None:
    person = subscriber(alice)
    person.subscribe(plus)
    with ThreadPoolExecutor(6) as clicks:
        answers = list(clicks.map(lambda _: person.change_to(big), range(6)))
    demo_stripe.idle()
    assert {answer.status_code for answer in answers} <= {303, 409}
    assert person.bought == [1050, 5500]


def test_a_change_that_the_bank_refuses_changes_nothing_and_can_be_tried_again(
    alice: User, subscriber: SubscriberOf, plus: Plan, big: Plan, demo_stripe: DemoStripe
) -> None:
    person = subscriber(alice)
    person.subscribe(plus)
    demo_stripe.off_session("card_declined")
    answer = person.change_to(big)
    assert answer.status_code == 402
    assert "Your bank did not let this payment through." in answer.text
    assert (person.subscription.plan, person.bought) == (plus, [1050])
    demo_stripe.off_session("succeeded")
    assert person.change_to(big).status_code == 303
    assert (person.subscription.plan, person.bought) == (big, [1050, 5500])


def test_an_answer_lost_at_a_change_charges_once(
    alice: User, subscriber: SubscriberOf, plus: Plan, big: Plan, demo_stripe: DemoStripe
) -> None:
    person = subscriber(alice)
    person.subscribe(plus)
    demo_stripe.faults(drop=True)
    demo_stripe.api_faults(path="/v1/subscriptions", lose_answer=True, times=4)
    assert person.change_to(big).status_code == 503
    assert person.subscription.plan == plus, "nobody knows yet"
    assert person.change_to(big).status_code == 303
    assert (person.subscription.plan, person.bought) == (big, [1050, 5500])


def test_the_same_plan_is_no_change(alice: User, subscriber: SubscriberOf, plus: Plan) -> None:
    person = subscriber(alice)
    person.subscribe(plus)
    answer = person.change_to(plus)
    assert answer.status_code == 409
    assert "This is your plan already." in answer.text


def test_what_is_due_is_paid_before_a_change(
    alice: User, subscriber: SubscriberOf, plus: Plan, big: Plan, demo_stripe: DemoStripe
) -> None:
    person = subscriber(alice)
    subscription = person.subscribe(plus)
    demo_stripe.renew(subscription.stripe_id, outcome="failed")
    demo_stripe.idle()
    assert person.change_to(big).status_code == 409
    assert person.bought == [1050]


def test_a_change_made_at_stripe_is_followed(
    alice: User, subscriber: SubscriberOf, plus: Plan, big: Plan, demo_stripe: DemoStripe
) -> None:
    person = subscriber(alice)
    subscription = person.subscribe(plus)
    subscriptions.known_at_stripe(big)
    demo_stripe.change_plan(subscription.stripe_id, str(big.stripe_price))
    demo_stripe.idle()
    assert person.subscription.plan == big
    assert person.bought == [1050, 5500]


# --- Ending


def test_ending_with_the_period_and_going_on_after_all(
    alice: User, subscriber: SubscriberOf, plus: Plan, demo_stripe: DemoStripe
) -> None:
    person = subscriber(alice)
    subscription = person.subscribe(plus)
    asked = person.browser.get("/billing/subscription/end/").text
    assert f"It stays until {subscription.current_period_end:%-d %B %Y}" in asked
    assert not person.subscription.cancel_at_period_end
    assert person.change(action="cancel").status_code == 303
    assert person.subscription.cancel_at_period_end
    assert f"ends {person.subscription.current_period_end:%-d %B %Y}" in person.browser.get("/billing/").text
    assert person.change(action="resume").status_code == 303
    assert not person.subscription.cancel_at_period_end
    assert person.at_stripe()["cancel_at_period_end"] is False


def test_a_subscription_that_ran_out_is_over_and_another_can_be_begun(
    alice: User, subscriber: SubscriberOf, plus: Plan, big: Plan, demo_stripe: DemoStripe
) -> None:
    person = subscriber(alice)
    subscription = person.subscribe(plus)
    person.change(action="cancel")
    demo_stripe.renew(subscription.stripe_id)  # the period ends
    demo_stripe.idle()
    assert person.subscription.status == "canceled"
    assert person.bought == [1050]
    assert person.change(action="resume").status_code == 409
    assert person.change_to(big).status_code == 409
    demo_stripe.act(person.go_to_checkout(big), "pay")
    demo_stripe.idle()
    assert person.bought == [1050, 5500]


def test_what_is_done_in_the_portal_is_followed(
    alice: User, subscriber: SubscriberOf, plus: Plan, demo_stripe: DemoStripe
) -> None:
    person = subscriber(alice)
    subscription = person.subscribe(plus)
    portal = person.browser.post("/billing/portal/").headers["location"]
    demo_stripe.act(portal, "cancel", subscription=subscription.stripe_id)
    demo_stripe.idle()
    assert person.subscription.cancel_at_period_end
    demo_stripe.act(portal, "resume", subscription=subscription.stripe_id)
    demo_stripe.idle()
    assert not person.subscription.cancel_at_period_end


def test_pausing_and_resuming(
    alice: User, subscriber: SubscriberOf, plus: Plan, demo_stripe: DemoStripe
) -> None:
    person = subscriber(alice)
    subscription = person.subscribe(plus)
    demo_stripe.pause(subscription.stripe_id)
    demo_stripe.idle()
    assert person.subscription.status == "paused"
    assert outcomes(demo_stripe, "customer.subscription.paused") == ["handled"]
    demo_stripe.resume(subscription.stripe_id)
    demo_stripe.idle()
    assert person.subscription.status == "active"


def test_an_old_answer_does_not_overwrite_a_newer_one(
    alice: User, subscriber: SubscriberOf, plus: Plan, demo_stripe: DemoStripe
) -> None:
    person = subscriber(alice)
    subscription = person.subscribe(plus)
    old = subscriptions.ask(subscription.stripe_id)
    demo_stripe.cancel(subscription.stripe_id)
    demo_stripe.idle()
    assert person.subscription.status == "canceled"
    with transaction.atomic():
        subscriptions.apply(old)
    assert person.subscription.status == "canceled"


def test_the_subscription_of_who_is_gone_is_ended(
    alice: User, subscriber: SubscriberOf, plus: Plan, demo_stripe: DemoStripe
) -> None:
    person = subscriber(alice)
    stripe_id = person.subscribe(plus).stripe_id
    alice.delete()
    subscriptions.end_those_of_nobody()
    subscriptions.end_those_of_nobody()
    demo_stripe.idle()
    assert Subscription.objects.get(stripe_id=stripe_id).status == "canceled"
    assert demo_stripe.api("GET", f"/v1/subscriptions/{stripe_id}")["status"] == "canceled"


def test_deleting_the_account_ends_the_subscription_at_once_or_deletes_nothing(
    alice: User, subscriber: SubscriberOf, plus: Plan, demo_stripe: DemoStripe
) -> None:
    stripe_id = subscriber(alice).subscribe(plus).stripe_id
    demo_stripe.api_faults(path="/v1/subscriptions", status=500, times=4)
    with pytest.raises(PaymentUnavailable):
        leaving.delete(User.objects.get(pk=alice.pk))
    assert User.objects.filter(pk=alice.pk).exists()
    demo_stripe.api_faults()
    leaving.delete(User.objects.get(pk=alice.pk))
    assert not User.objects.filter(pk=alice.pk).exists()
    assert demo_stripe.api("GET", f"/v1/subscriptions/{stripe_id}")["status"] == "canceled"
    demo_stripe.idle()
    assert Subscription.objects.get(stripe_id=stripe_id).status == "canceled"


def test_who_may_not_sign_in_does_not_go_on_paying(
    alice: User, bob: User, subscriber: SubscriberOf, plus: Plan, demo_stripe: DemoStripe
) -> None:
    paid_up, unpaid = subscriber(alice), subscriber(bob)
    for person in (paid_up, unpaid):
        person.subscribe(plus)
    demo_stripe.renew(unpaid.subscription.stripe_id, outcome="failed")
    demo_stripe.idle()
    User.objects.filter(pk__in=[alice.pk, bob.pk]).update(is_active=False)
    subscriptions.end_those_of_nobody()
    subscriptions.end_those_of_nobody()
    assert (paid_up.subscription.status, paid_up.subscription.cancel_at_period_end) == ("active", True)
    assert paid_up.at_stripe()["cancel_at_period_end"] is True
    assert unpaid.subscription.status == unpaid.at_stripe()["status"] == "canceled"


# --- The outsider, and the books


def test_nobody_touches_anothers_subscription(
    alice: User, bob: User, subscriber: SubscriberOf, plus: Plan, big: Plan, demo_stripe: DemoStripe
) -> None:
    hers, his = subscriber(alice), subscriber(bob)
    url = hers.go_to_checkout(plus)
    session = url.rpartition("/")[2]
    assert his.browser.get("/billing/return/", params={"session_id": session}).status_code == 404
    demo_stripe.act(url, "pay")
    demo_stripe.idle()
    assert his.browser.get("/billing/return/", params={"session_id": session}).status_code == 404
    change = {"plan": big.pk, "price_cents": big.price_cents}
    for data in (change, {"action": "cancel"}, {"action": "resume"}):
        assert his.change(**data).status_code == 409
    assert his.browser.get("/billing/subscription/invoice/").status_code == 404
    (order,) = hers.periods
    assert his.browser.get(f"/billing/orders/{order.pk}/invoice/").status_code == 404
    portal = his.browser.post("/billing/portal/").headers["location"]
    assert hers.subscription.stripe_id not in demo_stripe.page(portal)
    assert (hers.subscription.status, hers.subscription.cancel_at_period_end) == ("active", False)


def test_who_has_not_signed_in_reaches_nothing(stack: Stack, sign_in: SignIn, alice: User) -> None:
    browser = sign_in(alice)
    browser.cookies.delete("sessionid")
    for path in ("portal", "subscribe", "subscription", "auto-topup"):
        answer = browser.post(f"/billing/{path}/")
        assert (answer.status_code, "/accounts/login/" in answer.headers["location"]) == (302, True)


def test_the_books_balance_after_it_all(
    alice: User, subscriber: SubscriberOf, plus: Plan, big: Plan, demo_stripe: DemoStripe, stack: Stack
) -> None:
    person = subscriber(alice)
    subscription = person.subscribe(plus)
    person.change_to(big)
    demo_stripe.renew(subscription.stripe_id)
    demo_stripe.idle()
    assert person.bought == [1050, 5500, 5500]
    wallet = alice.wallet
    assert wallet.balance == (100 + 1050 + 5500 + 5500) * CREDIT
    audit = stack.manage("ledger_audit")
    assert str(wallet.pk) not in audit.stdout or audit.returncode == 0, audit.stdout
