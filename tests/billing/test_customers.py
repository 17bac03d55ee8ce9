"""One customer at Stripe for each person, and the way into its portal."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connections

from accounts.models import User
from billing.customers import customer_of
from billing.mails import _written
from billing.models import Customer, Mail, Pack, Plan, StripeEvent
from billing.tasks import look_after_wallet
from chatapp.local.demo_stripe.client import DemoStripe
from tests.billing.conftest import GoToCheckout
from tests.billing.test_topups import Saver
from tests.conftest import SignIn

CUSTOMERS = "/v1/customers"


def made(demo_stripe: DemoStripe, user: User) -> list[str]:
    """The customers that Stripe has of a person."""
    rows = demo_stripe.api("GET", f"{CUSTOMERS}?limit=100")["data"]
    return [row["id"] for row in rows if row["metadata"].get("user") == str(user.pk)]


def test_the_first_checkout_makes_a_customer_and_the_next_uses_it(
    alice: User, go_to_checkout: GoToCheckout, demo_stripe: DemoStripe
) -> None:
    sessions = [
        demo_stripe.api("GET", f"/v1/checkout/sessions/{go_to_checkout(alice).session}") for _ in range(2)
    ]
    customer = Customer.objects.get(user=alice)
    assert {session["customer"] for session in sessions} == {customer.stripe_id}
    assert made(demo_stripe, alice) == [customer.stripe_id]
    assert demo_stripe.api("GET", f"{CUSTOMERS}/{customer.stripe_id}")["email"] == alice.email


def test_looking_at_the_page_makes_none(alice: User, sign_in: SignIn, demo_stripe: DemoStripe) -> None:
    assert sign_in(alice).get("/billing/").status_code == 200
    assert not Customer.objects.filter(user=alice).exists()
    assert demo_stripe.requests() == []


def test_a_lost_answer_makes_no_second_one(alice: User, demo_stripe: DemoStripe) -> None:
    demo_stripe.api_faults(path=CUSTOMERS, lose_answer=True)
    customer = customer_of(alice)
    assert made(demo_stripe, alice) == [customer.stripe_id]


def test_a_process_that_died_before_it_stored_the_answer_makes_no_second_one(
    alice: User, demo_stripe: DemoStripe
) -> None:
    first = customer_of(alice).stripe_id
    Customer.objects.filter(user=alice).delete()
    User.objects.filter(pk=alice.pk).update(email=f"new-{alice.email}")
    alice.refresh_from_db()
    assert customer_of(alice).stripe_id == first
    assert demo_stripe.api("GET", f"{CUSTOMERS}/{first}")["email"] == alice.email


def test_many_at_once_make_one(alice: User, demo_stripe: DemoStripe) -> None:
    def make(_: int) -> str:
        try:
            return customer_of(alice).stripe_id
        finally:
            connections.close_all()

    with ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(make, range(16)))) == 1
    assert len(made(demo_stripe, alice)) == 1


def test_a_new_address_is_told_to_stripe_once(alice: User, demo_stripe: DemoStripe) -> None:
    customer = customer_of(alice)
    alice.email = f"moved-{alice.email}"
    alice.save()
    customer_of(alice)
    assert demo_stripe.api("GET", f"{CUSTOMERS}/{customer.stripe_id}")["email"] == alice.email
    asked_before = len(demo_stripe.requests(CUSTOMERS))
    customer_of(alice)
    assert len(demo_stripe.requests(CUSTOMERS)) == asked_before


def test_the_portal_is_the_persons_own(
    alice: User, bob: User, sign_in: SignIn, demo_stripe: DemoStripe
) -> None:
    answer = sign_in(alice).post("/billing/portal/")
    assert answer.status_code == 303
    assert answer.headers["location"].startswith(f"{demo_stripe.url}/p/session/")
    assert alice.email in demo_stripe.page(answer.headers["location"])
    his = sign_in(bob).post("/billing/portal/").headers["location"]
    assert alice.email not in demo_stripe.page(his)
    assert sign_in(alice).get("/billing/portal/").status_code == 405


def test_a_portal_that_cannot_be_had_is_said(alice: User, sign_in: SignIn, demo_stripe: DemoStripe) -> None:
    demo_stripe.api_faults(path="/v1/billing_portal", status=500, times=4)
    answer = sign_in(alice).post("/billing/portal/")
    assert answer.status_code == 503
    assert "cannot be reached now" in answer.text


def test_who_is_gone_leaves_the_customer(alice: User, demo_stripe: DemoStripe) -> None:
    customer = customer_of(alice)
    alice.delete()
    assert Customer.objects.get(stripe_id=customer.stripe_id).user is None


# --- Deleted in Stripe's dashboard


def delete(demo_stripe: DemoStripe, user: User, *, told: bool) -> str:
    """The customer that was deleted; `told`: by its event."""
    gone = Customer.objects.get(user=user).stripe_id
    demo_stripe.faults(drop=not told)
    demo_stripe.api("DELETE", f"{CUSTOMERS}/{gone}")
    demo_stripe.idle()
    demo_stripe.faults()
    return gone


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize(
    ("where", "asks"),
    [
        ("/billing/checkout/", lambda: {"pack": Pack.objects.get(name="Starter").pk}),
        ("/billing/subscribe/", lambda: {"plan": Plan.objects.get(name="Plus").pk}),
        ("/billing/portal/", dict),
    ],
    ids=["checkout", "subscribe", "portal"],
)
def test_who_was_deleted_at_stripe_is_made_anew(
    where: str,
    asks: Callable[[], dict[str, Any]],
    told: bool,
    alice: User,
    sign_in: SignIn,
    demo_stripe: DemoStripe,
) -> None:
    customer_of(alice)
    gone = delete(demo_stripe, alice, told=told)
    browser = sign_in(alice)
    for _ in range(2):
        assert browser.post(where, data=asks()).status_code == 303
    now = Customer.objects.get(user=alice)
    assert made(demo_stripe, alice) == [now.stripe_id] != [gone]
    assert demo_stripe.api("GET", f"{CUSTOMERS}/{now.stripe_id}")["email"] == alice.email
    assert not now.is_forgotten


@pytest.mark.parametrize("told", [True, False])
def test_automatic_topups_of_who_was_deleted_stop_and_they_are_told_once(
    told: bool, alice: User, sign_in: SignIn, demo_stripe: DemoStripe
) -> None:
    saver = Saver(alice, sign_in(alice), demo_stripe)
    saver.turn_on()
    delete(demo_stripe, alice, told=told)
    for _ in range(2):
        look_after_wallet(str(alice.pk))
    assert (saver.rule.paused_because, saver.rule.payment_method) == ("no_card", "")
    assert saver.states == ([] if told else ["failed"])
    kinds = Mail.objects.filter(user=alice).exclude(kind__in=["receipt", "low_balance"])
    assert [mail.kind for mail in kinds] == ["topup_stopped"]
    assert "Set it up again" in _written(kinds[0]).alternatives[0].content
    # It goes on once they have paid in person.
    saver.turn_on()
    look_after_wallet(str(alice.pk))
    assert saver.states[-1] == "paid"


def test_a_customer_of_nobody_here_that_is_deleted_is_ignored(demo_stripe: DemoStripe) -> None:
    stranger = demo_stripe.api("POST", CUSTOMERS)["id"]
    demo_stripe.api("DELETE", f"{CUSTOMERS}/{stranger}")
    demo_stripe.idle()
    assert StripeEvent.objects.get(type="customer.deleted", about=stranger).outcome == "ignored"
