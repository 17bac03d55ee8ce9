"""Who deletes their account is not charged on a page of Stripe's that they left open."""

import re
from typing import Any

import pytest
from django.test import Client

from accounts.models import User
from billing import tasks
from billing.errors import PaymentUnavailable, RequestRefused
from billing.models import Order, Plan, PlanCheckout, Subscription
from chatapp.leaving import delete, erase
from chatapp.local.demo_stripe.client import DemoStripe
from tests.billing.conftest import GoToCheckout
from tests.billing.subscribing import Subscriber

SESSIONS = "/v1/checkout/sessions"
DELETE = "/settings/delete/"
PASSWORD = "Tallship-Marrow-9"


def session(demo_stripe: DemoStripe, url: str) -> dict[str, Any]:
    """What is at Stripe behind a page."""
    return demo_stripe.api("GET", f"{SESSIONS}/{url.rpartition('/')[2]}")


def status(demo_stripe: DemoStripe, url: str) -> str:
    return str(session(demo_stripe, url)["status"])


def test_pages_are_closed_before_the_account_is_deleted_or_nothing_is(
    alice: User, bob: User, go_to_checkout: GoToCheckout, demo_stripe: DemoStripe
) -> None:
    his = go_to_checkout(bob)
    hers = go_to_checkout(alice)
    visit = Subscriber(alice, hers.browser, demo_stripe).go_to_checkout(Plan.objects.get(name="Plus"))
    demo_stripe.api_faults(path=SESSIONS, status=500, times=4)
    with pytest.raises(PaymentUnavailable):
        delete(alice)
    assert User.objects.filter(pk=alice.pk).exists()

    delete(alice)

    assert not User.objects.filter(pk=alice.pk).exists()
    assert [status(demo_stripe, url) for url in (hers.url, visit, his.url)] == ["expired", "expired", "open"]
    assert hers.order.state == Order.State.EXPIRED
    assert PlanCheckout.objects.get(stripe_session=visit.rpartition("/")[2]).state == "expired"


def test_who_confirmed_while_stripe_was_away_presses_again(
    alice: User, go_to_checkout: GoToCheckout, demo_stripe: DemoStripe
) -> None:
    go_to_checkout(alice)
    alice.set_password(PASSWORD)
    alice.save()
    browser = Client()
    browser.force_login(alice, backend="django.contrib.auth.backends.ModelBackend")
    confirm = browser.post(DELETE, {"email": alice.email})["Location"]
    demo_stripe.api_faults(path=SESSIONS, status=500, times=4)
    failed = browser.post(confirm, {"password": PASSWORD})
    assert (failed.status_code, "Nothing was deleted" in failed.content.decode()) == (503, True)

    (form,) = re.findall(r'<form class="form"[^>]*>', failed.content.decode())
    action = re.search(r'action="([^"]*)"', form)
    again = browser.post(action[1] if action else confirm, {"email": alice.email})

    assert again.headers.get("Location") == "/"
    assert not User.objects.filter(pk=alice.pk).exists()


def test_what_was_paid_a_moment_ago_is_no_obstacle(
    alice: User, go_to_checkout: GoToCheckout, demo_stripe: DemoStripe
) -> None:
    demo_stripe.faults(drop=True)
    paid, by_bank, over = (go_to_checkout(alice) for _ in range(3))
    visit = Subscriber(alice, paid.browser, demo_stripe).go_to_checkout(Plan.objects.get(name="Plus"))
    demo_stripe.pay(paid.url)
    demo_stripe.act(by_bank.url, "bank")
    demo_stripe.api("POST", f"{SESSIONS}/{over.session}/expire")
    demo_stripe.pay(visit)
    unknown = go_to_checkout(alice).order
    Order.objects.filter(pk=unknown.pk).update(stripe_session=f"cs_test_{unknown.pk}")

    delete(alice)

    assert [row.order.state for row in (paid, by_bank, over)] == ["paid", "pending", "expired"]
    begun = session(demo_stripe, visit)["subscription"]
    assert Subscription.objects.get(stripe_id=begun).status == "canceled"


@pytest.mark.parametrize(("status", "calls"), [(401, 2), (403, 1)], ids=["revoked", "may-read-but-not-end"])
def test_nothing_is_deleted_while_stripe_does_not_take_our_key(
    alice: User, go_to_checkout: GoToCheckout, demo_stripe: DemoStripe, status: int, calls: int
) -> None:
    page = go_to_checkout(alice)
    subscriber = Subscriber(alice, page.browser, demo_stripe)
    for path in (SESSIONS, "/v1/subscriptions"):
        demo_stripe.api_faults(path=path, status=status, times=calls)
        with pytest.raises(RequestRefused):
            delete(User.objects.get(pk=alice.pk))
        assert User.objects.filter(pk=alice.pk).exists()
        if path == SESSIONS:
            assert page.order.state == session(demo_stripe, page.url)["status"] == "open"
            subscriber.subscribe(Plan.objects.get(name="Plus"))
        else:
            assert subscriber.at_stripe()["status"] == subscriber.subscription.status == "active"


def test_pages_of_who_was_deleted_by_staff_are_closed_soon(
    alice: User, bob: User, go_to_checkout: GoToCheckout, demo_stripe: DemoStripe
) -> None:
    first, second, his = go_to_checkout(alice), go_to_checkout(alice), go_to_checkout(bob)
    erase(alice)

    demo_stripe.api_faults(path=SESSIONS, status=500, times=4)
    calls = len(demo_stripe.requests(SESSIONS))
    tasks.close_pages_of_nobody()
    assert len(demo_stripe.requests(SESSIONS)) == calls + 4, "who is away is not asked for each"
    demo_stripe.api_faults(path=f"{SESSIONS}/{first.session}", status=403, times=2)
    tasks.close_pages_of_nobody()
    assert (first.order.state, second.order.state) == ("open", "expired"), "one keeps nobody from the other"
    tasks.close_pages_of_nobody()
    assert [status(demo_stripe, page.url) for page in (first, second, his)] == ["expired", "expired", "open"]
    assert first.order.state == "expired"
