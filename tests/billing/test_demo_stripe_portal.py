"""The demo Stripe's customer portal, by its forms and in a browser."""

from collections.abc import Iterator
from typing import Any

import pytest
import stripe
from playwright.sync_api import Browser, Page, expect

from tests.billing.own_stripe import Own, order
from tests.browser import Pages

DESKTOP: Any = {"viewport": {"width": 1280, "height": 800}, "color_scheme": "light"}
PHONE: Any = {"viewport": {"width": 360, "height": 740}, "color_scheme": "dark"}


@pytest.fixture
def alice(own: Own) -> stripe.Customer:
    return own.client.v1.customers.create({"email": "alice<i>@example.org"})


@pytest.fixture
def subscription(own: Own, alice: stripe.Customer) -> str:
    """Alice's, to $20.00 a month."""
    product = own.client.v1.products.create({"name": "Plus"})
    price = own.client.v1.prices.create(
        {
            "product": product.id,
            "currency": "usd",
            "unit_amount": 2000,
            "recurring": {"interval": "month"},
        }
    )
    items = [{"price": price.id}]
    changes: Any = {"mode": "subscription", "payment_intent_data": None, "line_items": items}
    return str(own.buy(**changes, customer=alice.id, customer_email=None).subscription)


@pytest.fixture
def portal(own: Own, alice: stripe.Customer) -> str:
    """Where Alice's portal is."""
    made = own.client.v1.billing_portal.sessions.create(
        {"customer": alice.id, "return_url": "http://shop.test/billing/"}
    )
    assert made.customer == alice.id
    return made.url


@pytest.fixture
def pages(own: Own, browser: Browser) -> Iterator[Pages]:
    pages = Pages(browser, own.demo.url)
    yield pages
    pages.close()
    assert not pages.problems, "\n".join(pages.problems)


def fits(page: Page) -> None:
    """Nothing makes the page scroll sideways."""
    page.wait_for_load_state()  # its style sheets are there
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_the_portal_of_somebody_who_has_nothing(own: Own, portal: str) -> None:
    page = own.demo.page(portal)
    assert "Demo Stripe: no money moves" in page
    assert "alice&lt;i&gt;@example.org" in page
    for none in ("No subscription.", "No card is kept.", "No invoices yet."):
        assert none in page
    assert 'href="http://shop.test/billing/"' in page
    assert "There is no such portal" in own.demo.page(f"{own.demo.url}/p/session/bps_none")


def test_a_portal_is_of_somebody_and_leads_back(own: Own, alice: stripe.Customer) -> None:
    sessions = own.client.v1.billing_portal.sessions
    with pytest.raises(stripe.InvalidRequestError) as refused:
        sessions.create({"customer": "cus_none", "return_url": "http://shop.test/"})
    assert refused.value.param == "customer"
    with pytest.raises(stripe.InvalidRequestError) as refused:
        sessions.create({"customer": alice.id})
    assert refused.value.param == "return_url"


def test_anothers_subscription_cannot_be_touched(own: Own, portal: str, subscription: str) -> None:
    bob = own.client.v1.customers.create({"email": "bob@example.org"})
    his = own.client.v1.billing_portal.sessions.create(
        {"customer": bob.id, "return_url": "http://shop.test/"}
    )
    assert own.demo.act(his.url, "cancel", subscription=subscription) is None
    assert own.client.v1.subscriptions.retrieve(subscription).cancel_at_period_end is False
    assert own.demo.act(portal, "cancel", subscription=subscription) is not None
    assert own.client.v1.subscriptions.retrieve(subscription).cancel_at_period_end is True


def test_another_card_pays_from_now_on(
    own: Own, alice: stripe.Customer, portal: str, subscription: str
) -> None:
    own.demo.act(portal, "card")
    settings = own.client.v1.customers.retrieve(alice.id).invoice_settings
    assert settings is not None
    card = own.client.v1.payment_methods.retrieve(str(settings.default_payment_method)).card
    assert card is not None
    assert card.last4 == "5556"
    default = own.client.v1.subscriptions.retrieve(subscription).default_payment_method
    assert default == settings.default_payment_method


@pytest.mark.parametrize("options", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_a_person_looks_after_a_subscription(
    own: Own, portal: str, subscription: str, pages: Pages, options: Any
) -> None:
    page = pages.open(**options)
    page.goto(portal)
    expect(page.get_by_role("note")).to_have_text("Demo Stripe: no money moves")
    expect(page.get_by_text("Visa •••• 4242")).to_be_visible()
    expect(page.get_by_text("$20.00 per month · Renews on")).to_be_visible()
    fits(page)
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_text("Ends on")).to_be_visible()
    assert own.client.v1.subscriptions.retrieve(subscription).cancel_at_period_end is True
    page.get_by_role("button", name="Resume").click()
    expect(page.get_by_text("Renews on")).to_be_visible()
    assert own.client.v1.subscriptions.retrieve(subscription).cancel_at_period_end is False

    own.demo.renew(subscription, outcome="failed")
    page.reload()
    expect(page.get_by_text("past due")).to_be_visible()
    fits(page)
    page.get_by_role("listitem").filter(has_text="open").get_by_role("link").click()
    pay = page.get_by_role("button", name="Pay $20.00")
    expect(pay).to_be_visible()
    fits(page)
    pay.click()
    expect(page.get_by_text("· paid")).to_be_visible()
    assert own.client.v1.subscriptions.retrieve(subscription).status == "active"


@pytest.mark.parametrize("options", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_a_person_types_a_promotion_code(own: Own, pages: Pages, options: Any) -> None:
    session = own.client.v1.checkout.sessions.create(order(allow_promotion_codes=True))
    page = pages.open(**options)
    page.goto(str(session.url))
    code = page.get_by_label("Promotion code")
    code.fill("NONE")
    code.press("Enter")
    expect(page.get_by_role("alert")).to_have_text("This code is invalid.")
    code.fill("half")
    page.get_by_role("button", name="Apply").click()
    expect(page.get_by_role("button", name="Pay $2.50")).to_be_visible()
    expect(code).to_have_value("HALF")
    fits(page)
    code.fill("FREE")
    code.press("Enter")
    expect(page.get_by_role("button", name="Complete order")).to_be_visible()
    fits(page)
