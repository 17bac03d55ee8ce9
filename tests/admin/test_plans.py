"""Plans, subscriptions and automatic top-ups as the operator sees them."""

from datetime import timedelta

import pytest
from django.contrib.auth.models import Permission
from django.test import Client
from django.utils import timezone

from accounts.models import User
from billing.models import AutoTopUp, Order, Pack, Plan, Subscription
from tests.admin.conftest import browser_of
from tests.billing.books import order, pay

ADMIN = "/admin/billing"
TERMS = {
    "credits": "500",
    "price_cents": "700",
    "currency": "usd",
    "interval": "year",
    "credits_last": "forever",
}


@pytest.fixture
def subscription(db: None, alice: User) -> Subscription:
    return Subscription.objects.create(
        user=alice,
        plan=Plan.objects.get(name="Plus"),
        stripe_id="sub_1",
        stripe_item="si_1",
        status="past_due",
        current_period_end=timezone.now() + timedelta(days=9),
        as_of=timezone.now(),
    )


def period(subscription: Subscription, paid_cents: int) -> Order:
    assert subscription.user
    made = order(
        *(subscription.user, 1),
        source="subscription",
        plan=subscription.plan,
        subscription=subscription,
        amount_cents=1000,
        stripe_invoice=f"in_{paid_cents}",
    )
    pay(made, paid_cents=paid_cents)
    return made


def test_a_plan_is_made_and_changed_until_it_is_chosen(desk: Client) -> None:
    made = desk.post(f"{ADMIN}/plan/add/", {"name": "Yearly", "on_sale": "on", "position": "5", **TERMS})
    assert made.status_code == 302, made.content.decode()
    plan = Plan.objects.get(name="Yearly")
    assert (plan.credits, plan.price_cents, plan.interval, plan.credits_last) == (500, 700, "year", "forever")
    page = f"{ADMIN}/plan/{plan.pk}/change/"
    cheaper = {**TERMS, "price_cents": "600"}
    desk.post(page, {"name": "Yearly", "on_sale": "on", "position": "5", **cheaper})
    plan.refresh_from_db()
    assert plan.price_cents == 600


def test_the_terms_of_a_chosen_plan_cannot_be_changed(desk: Client) -> None:
    plan = Plan.objects.get(name="Plus")
    # The tests of subscriptions, which commit, may have chosen it before.
    Plan.objects.filter(pk=plan.pk, stripe_price=None).update(stripe_price="price_1")
    page = f"{ADMIN}/plan/{plan.pk}/change/"
    assert 'name="price_cents"' not in desk.get(page).content.decode()
    desk.post(page, {"name": "Plus it is", "position": "3", **TERMS})
    after = Plan.objects.get(pk=plan.pk)
    assert (after.name, after.on_sale, after.position) == ("Plus it is", False, 3)
    assert (after.credits, after.price_cents, after.interval) == (plan.credits, 1000, "month")
    assert desk.post(f"{ADMIN}/plan/{plan.pk}/delete/", {"post": "yes"}).status_code == 403
    assert Plan.objects.filter(pk=plan.pk).exists()


@pytest.mark.parametrize(("field", "value"), [("credits", "0"), ("credits", "-5"), ("price_cents", "49")])
def test_a_plan_that_sells_nothing_is_refused(desk: Client, field: str, value: str) -> None:
    asked = {"name": "Odd", "position": "5", **TERMS, field: value}
    assert desk.post(f"{ADMIN}/plan/add/", asked).status_code == 200
    assert not Plan.objects.filter(name="Odd").exists()


def test_a_period_that_was_not_paid_at_its_price_stands_out(
    desk: Client, alice: User, subscription: Subscription
) -> None:
    period(subscription, 1000)
    period(subscription, 2500)
    listed = desk.get(f"{ADMIN}/subscription/").content.decode()
    assert alice.email in listed
    assert "past due" in listed
    shown = desk.get(f"{ADMIN}/subscription/{subscription.pk}/change/").content.decode()
    assert "$25, its price is $10" in shown
    assert shown.count("its price is") == 1
    assert desk.get(f"{ADMIN}/subscription/?q=in_2500").content.decode().count("sub_1") == listed.count(
        "sub_1"
    )


def test_subscriptions_and_standing_orders_are_only_read(
    desk: Client, alice: User, subscription: Subscription
) -> None:
    rule = AutoTopUp.objects.create(
        user=alice,
        enabled=True,
        threshold_microcredits=200_000_000,
        pack=Pack.objects.get(name="Starter"),
        monthly_cap_cents=2000,
        paused_because="refused",
    )
    listed = desk.get(f"{ADMIN}/autotopup/").content.decode()
    assert "the bank refused the payment" in listed
    assert "$20" in listed
    for page in (f"subscription/{subscription.pk}", f"autotopup/{rule.pk}"):
        assert desk.get(f"{ADMIN}/{page}/change/").status_code == 200
        assert desk.post(f"{ADMIN}/{page}/change/", {"status": "active"}).status_code == 403
    for kind in ("subscription", "autotopup"):
        assert desk.get(f"{ADMIN}/{kind}/add/").status_code == 403


def test_a_person_with_a_standing_order_can_be_deleted(
    desk: Client, alice: User, subscription: Subscription
) -> None:
    AutoTopUp.objects.create(user=alice, threshold_microcredits=1, amount_cents=500, monthly_cap_cents=500)
    assert desk.post(f"/admin/accounts/user/{alice.pk}/delete/", {"post": "yes"}).status_code == 302
    assert not User.objects.filter(pk=alice.pk).exists()
    subscription.refresh_from_db()
    assert subscription.user is None


def test_staff_see_what_they_have_a_right_to(clerk: User, subscription: Subscription) -> None:
    browser = browser_of(clerk)
    for kind in ("plan", "subscription", "autotopup"):
        assert browser.get(f"{ADMIN}/{kind}/").status_code == 403
    clerk.user_permissions.add(Permission.objects.get(codename="view_subscription"))
    assert browser.get(f"{ADMIN}/subscription/").status_code == 200
    assert browser.get(f"{ADMIN}/plan/").status_code == 403
