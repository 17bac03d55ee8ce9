"""What Stripe's books and ours do not agree on, as the operator sees it and resolves it."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.db import IntegrityError, transaction
from django.db.models.functions import Now
from django.test import Client
from django.utils import timezone
from playwright.sync_api import Page, expect
from pytest_django.fixtures import Settings

from accounts.models import User
from billing.models import Discrepancy, Order, Reconciliation
from tests.admin.conftest import browser_of
from tests.admin.desk import allow, page, text_of
from tests.admin.test_pages import assert_fits
from tests.billing.books import CREDIT, order

LIST = "/admin/billing/discrepancy/"


def discrepancy(found: Order | None, **columns: object) -> Discrepancy:
    run = Reconciliation.objects.create(since=timezone.now() - timedelta(days=3), ended_at=Now())
    return Discrepancy.objects.create(
        **{
            "run": run,
            "kind": "not_paid",
            "stripe_id": "pi_1",
            "order": found,
            "says": "The order is paid in our books, and Stripe has no payment for it.",
            "expected": "no payment",
            "found": "$5 paid",
            **columns,
        }
    )


def resolve(desk: Client, found: Discrepancy, note: str) -> str:
    return text_of(desk.post(f"{LIST}{found.pk}/resolve/", {"note": note}, follow=True))


def test_what_stands_open_is_told_on_the_first_page(desk: Client, alice: User) -> None:
    Discrepancy.objects.all().delete()
    Reconciliation.objects.all().delete()
    assert "differ" not in page(desk, "/admin/")
    found = discrepancy(order(alice, CREDIT))
    assert "Our books and Stripe’s differ in 1 place. Look into it." in page(desk, "/admin/")
    discrepancy(None)
    assert "differ in 2 places. Look into them." in page(desk, "/admin/")
    resolve(desk, found, "A gift.")
    Discrepancy.objects.exclude(pk=found.pk).update(mended=True)
    assert "differ" not in page(desk, "/admin/")


def test_a_comparison_that_failed_is_told_until_one_does_not(desk: Client, alice: User) -> None:
    run = Reconciliation.objects.create(since=Now(), ended_at=Now(), error="Stripe was away.")
    assert "The last comparison with Stripe failed: Stripe was away." in page(desk, "/admin/")
    assert "failed" in page(desk, "/admin/billing/reconciliation/")
    assert "Stripe was away." in page(desk, f"/admin/billing/reconciliation/{run.pk}/change/")
    Reconciliation.objects.create(
        began_at=timezone.now() + timedelta(seconds=1), since=Now(), ended_at=Now(), checked={"orders": 1234}
    )
    assert "The last comparison" not in page(desk, "/admin/")
    assert "1,234 orders" in page(desk, "/admin/billing/reconciliation/")


def test_the_list_is_filtered_by_what_became_of_them(desk: Client, alice: User) -> None:
    of_alice = order(alice, CREDIT)
    discrepancy(of_alice, says="This one stands open.")
    discrepancy(of_alice, says="This one is mended.", mended=True)
    discrepancy(of_alice, says="That is done.", resolved_at=Now(), resolved_by="o@x", note="Yes")
    for state, says in (
        ("open", "This one stands open."),
        ("mended", "This one is mended."),
        ("resolved", "That is done."),
    ):
        shown = page(desk, LIST, q=alice.email, state=state)
        assert says in shown
        assert "Found 1 discrepancy" in shown or "1 discrepancy" in shown
    assert "3 discrepancies" in page(desk, LIST, q=str(of_alice.pk))


def test_links_lead_to_the_order_and_to_stripe(desk: Client, alice: User, settings: Settings) -> None:
    of_alice = order(alice, CREDIT)
    settings.STRIPE_SECRET_KEY = "sk_live_x"
    for stripe_id, place in (
        ("pi_1", "payments/pi_1"),
        ("in_1", "invoices/in_1"),
        ("re_1", "search?query=re_1"),
        ("cs_live_1", "search?query=cs_live_1"),
        ('"><script>', "search?query=%22%3E%3Cscript%3E"),
    ):
        found = discrepancy(of_alice, stripe_id=stripe_id)
        shown = desk.get(f"{LIST}{found.pk}/change/").content.decode()
        assert f'href="https://dashboard.stripe.com/{place}"' in shown
        assert f'href="/admin/billing/order/{of_alice.pk}/change/"' in shown
    settings.STRIPE_SECRET_KEY = "rk_test_x"
    assert "dashboard.stripe.com/test/search" in desk.get(f"{LIST}{found.pk}/change/").content.decode()
    nowhere = discrepancy(None, stripe_id="")
    assert "dashboard.stripe.com" not in desk.get(f"{LIST}{nowhere.pk}/change/").content.decode()


def test_resolving_says_what_was_done_and_by_whom(desk: Client, alice: User, operator: User) -> None:
    found = discrepancy(order(alice, CREDIT))
    assert "our books have $5 paid" in page(desk, f"{LIST}{found.pk}/resolve/")
    said = resolve(desk, found, " Refunded   by hand,\nsee the mail. ")
    assert f"Resolved by {operator.email}: Refunded by hand, see the mail." in said
    found.refresh_from_db()
    assert (found.resolved_by, found.note) == (operator.email, "Refunded by hand, see the mail.")
    assert found.resolved_at is not None
    logged = LogEntry.objects.get(object_id=str(found.pk), user=operator)
    assert logged.change_message == "Resolved: Refunded by hand, see the mail."

    assert "It does not stand open any more." in resolve(desk, found, "Another word")
    found.refresh_from_db()
    assert found.note == "Refunded by hand, see the mail."


@pytest.mark.parametrize("note", ["", "  \n ", "x" * 301])
def test_resolving_needs_a_note(note: str, desk: Client, alice: User) -> None:
    found = discrepancy(order(alice, CREDIT))
    assert desk.post(f"{LIST}{found.pk}/resolve/", {"note": note}).status_code == 200
    found.refresh_from_db()
    assert found.resolved_at is None


def test_what_was_mended_is_not_resolved(desk: Client, alice: User) -> None:
    found = discrepancy(order(alice, CREDIT), mended=True)
    assert "It does not stand open any more." in resolve(desk, found, "Seen")


def test_postgresql_wants_to_know_who_resolved_it_and_how(alice: User) -> None:
    found = discrepancy(order(alice, CREDIT))
    for columns in ({"resolved_at": Now()}, {"resolved_by": "o@x"}, {"resolved_at": Now(), "note": "x"}):
        with pytest.raises(IntegrityError, match="who_resolves_says_how"), transaction.atomic():
            Discrepancy.objects.filter(pk=found.pk).update(**columns)


def test_who_may_look_may_not_resolve(alice: User, clerk: User, charlie: User) -> None:
    found = discrepancy(order(alice, CREDIT))
    urls = [LIST, f"{LIST}{found.pk}/change/", f"{LIST}{found.pk}/resolve/"]
    resolving = urls[2]
    desk = browser_of(clerk)
    assert [desk.get(url).status_code for url in urls] == [403] * 3

    desk = browser_of(allow(clerk, "billing.view_discrepancy"))
    assert [desk.get(url).status_code for url in urls] == [200, 200, 403]
    assert desk.post(resolving, {"note": "Mine"}).status_code == 403
    assert resolving not in desk.get(urls[1]).content.decode()

    for outsider in (browser_of(charlie), Client()):
        assert outsider.post(resolving, {"note": "Mine"}).status_code in {302, 404}
    found.refresh_from_db()
    assert found.resolved_at is None

    desk = browser_of(allow(clerk, "billing.change_discrepancy"))
    assert f"Resolved by {clerk.email}" in resolve(desk, found, "Mine")


def test_nothing_of_it_is_edited_or_deleted(desk: Client, alice: User) -> None:
    found = discrepancy(order(alice, CREDIT))
    for rows in (f"{LIST}{found.pk}", f"/admin/billing/reconciliation/{found.run_id}"):
        assert desk.post(f"{rows}/change/", {"mended": "on"}).status_code == 403
        assert desk.post(f"{rows}/delete/", {"post": "yes"}).status_code == 403
    assert desk.get(f"{LIST}add/").status_code == 403


def test_an_operator_resolves_it_in_a_browser(
    alice: User, operator: User, page_of: Callable[..., Page]
) -> None:
    found = discrepancy(order(alice, CREDIT))
    shown = page_of(operator)
    shown.goto("/admin/")
    shown.get_by_role("link", name="Look into").click()
    shown.wait_for_url(f"**{LIST}?state=open")
    shown.goto(f"{LIST}?q={alice.email}&state=open")
    expect(shown.get_by_text(found.says)).to_be_visible()
    shown.goto(f"{LIST}{found.pk}/change/")
    shown.get_by_role("link", name="Resolve").click()
    shown.set_viewport_size({"width": 360, "height": 800})
    shown.get_by_label("Note").fill("Paid by bank transfer")
    assert_fits(shown, "the form")
    shown.get_by_role("button", name="Resolve").click()
    expect(shown.get_by_text(f"Resolved by {operator.email}: Paid by bank transfer")).to_be_visible()
