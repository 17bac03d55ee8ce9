"""POST /billing/checkout/ with an amount of one's own choice, promotion codes, and Stripe's invoices."""

import re
import uuid
from decimal import Decimal
from html import escape

import pytest
from django.test import Client
from pytest_django.fixtures import Settings

from accounts.models import User
from billing.models import Order, Pack
from chatapp.local.demo_stripe.client import DemoStripe
from tests.billing.books import unguarded
from tests.billing.test_fulfilment import bought
from tests.conftest import SignIn

CHECKOUT = "/billing/checkout/"


@pytest.mark.parametrize(
    ("typed", "cents"),
    [("5", 500), ("12.5", 1250), ("12.34", 1234), ("500", 50_000), ("5.00", 500), (" 7 ", 700)],
)
def test_an_amount_buys_credits_at_par(
    alice: User, sign_in: SignIn, demo_stripe: DemoStripe, typed: str, cents: int
) -> None:
    url = sign_in(alice).post(CHECKOUT, data={"amount": typed}).headers["location"]
    demo_stripe.act(url, "pay")
    demo_stripe.idle()
    order = alice.orders.get()
    assert (order.state, order.pack, order.amount_cents, order.paid_cents) == ("paid", None, cents, cents)
    # One credit is one cent.
    assert bought(alice) == order.credits_microcredits == cents * 1_000_000


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        ("", "Write an amount in US dollars, such as 25 or 12.50."),
        ("4.99", "The least you can buy is $5."),
        ("0", "The least you can buy is $5."),
        ("-20", "The least you can buy is $5."),
        ("500.01", "The most you can buy at once is $500."),
        ("1e9", "The most you can buy at once is $500."),
        ("99999999999999999999", "Write an amount in US dollars"),
        ("1e99999999", "Write an amount in US dollars"),
        ("10.005", "An amount has at most two places after the point."),
        ("twenty", "Write an amount in US dollars"),
        ("NaN", "Write an amount in US dollars"),
        ("Infinity", "Write an amount in US dollars"),
        ("$20", "Write an amount in US dollars"),
        ("20 ; DROP", "Write an amount in US dollars"),
        ("\x00", "Write an amount in US dollars"),
    ],
)
def test_an_amount_that_cannot_be_bought_is_refused(
    alice: User, sign_in: SignIn, demo_stripe: DemoStripe, typed: str, sentence: str
) -> None:
    answer = sign_in(alice).post(CHECKOUT, data={"amount": typed})
    assert answer.status_code == 400
    assert f'id="amount-wrong"><p>{sentence}' in answer.text
    (field,) = re.findall(r'<input [^>]*id="amount"[^>]*>', answer.text)
    assert f' value="{escape(typed)}" ' in field
    assert 'aria-invalid="true" aria-describedby="amount-wrong amount-help"' in field
    assert not alice.orders.exists()
    assert demo_stripe.requests() == []


def test_a_pack_and_an_amount_are_not_bought_together(
    alice: User, sign_in: SignIn, demo_stripe: DemoStripe
) -> None:
    pack = Pack.objects.get(name="Starter")
    answer = sign_in(alice).post(CHECKOUT, data={"pack": pack.pk, "amount": "20"})
    assert answer.status_code == 400
    assert "Choose a pack of credits or an amount, not both." in answer.text
    assert not alice.orders.exists()


def test_the_bounds_are_settings(alice: User, db: None, client: Client, settings: Settings) -> None:
    settings.TOPUP_MINIMUM, settings.TOPUP_MAXIMUM = Decimal("2.50"), Decimal(30)
    client.force_login(alice, backend="django.contrib.auth.backends.ModelBackend")
    assert "From $2.50 to $30. Each dollar brings 100 credits." in client.get("/billing/").content.decode()
    for typed, sentence in (("2.49", "The least you can buy is $2.50."), ("31", "at once is $30.")):
        assert sentence in client.post(CHECKOUT, {"amount": typed}).content.decode()
    of_topup = client.post(CHECKOUT, {"amount": "31", "keep_card": "on"})
    assert (of_topup.status_code, of_topup.context["amount_form"]) == (400, None), (
        "not in a form it was not typed in"
    )
    assert 'role="alert">The most you can buy at once is $30.' in of_topup.content.decode()


def test_one_button_buys_one_amount(alice: User, sign_in: SignIn, demo_stripe: DemoStripe) -> None:
    browser, button = sign_in(alice), str(uuid.uuid4())
    urls = {
        browser.post(CHECKOUT, data={"amount": typed, "order": button}).headers["location"]
        for typed in ("20", "20", "20.00")
    }
    assert len(urls) == 1
    other = browser.post(CHECKOUT, data={"amount": "30", "order": button}).headers["location"]
    assert other not in urls
    assert sorted(alice.orders.values_list("amount_cents", flat=True)) == [2000, 3000]


# --- Promotion codes


def test_a_promotion_code_takes_from_the_price_and_not_from_the_credits(
    alice: User, sign_in: SignIn, demo_stripe: DemoStripe
) -> None:
    browser = sign_in(alice)
    url = browser.post(CHECKOUT, data={"amount": "20"}).headers["location"]
    way_back = demo_stripe.pay(url, code="HALF")
    demo_stripe.idle()
    assert way_back
    assert "You paid $10 instead of $20 and have" in browser.get(way_back).text
    order = alice.orders.get()
    assert (order.state, order.amount_cents, order.paid_cents) == ("paid", 2000, 1000)
    assert bought(alice) == 2_000_000_000


def test_a_code_for_the_whole_price_is_credited(
    alice: User, sign_in: SignIn, demo_stripe: DemoStripe
) -> None:
    browser = sign_in(alice)
    url = browser.post(CHECKOUT, data={"amount": "20"}).headers["location"]
    way_back = demo_stripe.pay(url, code="FREE")
    demo_stripe.idle()
    assert way_back
    assert "You paid $0 instead of $20 and have" in browser.get(way_back).text
    order = alice.orders.get()
    assert (order.state, order.amount_cents, order.paid_cents) == ("paid", 2000, 0)
    assert bought(alice) == 2_000_000_000
    assert browser.get(f"/billing/orders/{order.pk}/invoice/").status_code == 303


# --- Invoices


def test_a_payment_leads_to_its_invoice_at_stripe(
    alice: User, sign_in: SignIn, demo_stripe: DemoStripe
) -> None:
    browser = sign_in(alice)
    url = browser.post(CHECKOUT, data={"amount": "20"}).headers["location"]
    order = alice.orders.get()
    link = f"/billing/orders/{order.pk}/invoice/"
    assert browser.get(link).status_code == 404, "not paid yet"
    demo_stripe.act(url, "pay")
    demo_stripe.idle()

    assert f'href="{link}"' in browser.get("/billing/").text
    answer = browser.get(link)

    order.refresh_from_db()
    assert answer.status_code == 303
    assert answer.headers["location"] == f"{demo_stripe.url}/i/{order.stripe_invoice}"


def test_an_invoice_that_came_later_is_found(alice: User, sign_in: SignIn, demo_stripe: DemoStripe) -> None:
    browser = sign_in(alice)
    url = browser.post(CHECKOUT, data={"amount": "20"}).headers["location"]
    demo_stripe.act(url, "pay")
    demo_stripe.idle()
    order = alice.orders.get()
    invoice = order.stripe_invoice
    with unguarded("billing_order"):
        Order.objects.filter(pk=order.pk).update(stripe_invoice=None)

    assert browser.get(f"/billing/orders/{order.pk}/invoice/").headers["location"].endswith(f"/i/{invoice}")
    assert alice.orders.get().stripe_invoice == invoice


def test_nobody_reads_anothers_invoice(
    alice: User, bob: User, sign_in: SignIn, demo_stripe: DemoStripe
) -> None:
    url = sign_in(alice).post(CHECKOUT, data={"amount": "20"}).headers["location"]
    demo_stripe.act(url, "pay")
    demo_stripe.idle()
    asked_before = len(demo_stripe.requests())
    answer = sign_in(bob).get(f"/billing/orders/{alice.orders.get().pk}/invoice/")
    assert answer.status_code == 404
    assert len(demo_stripe.requests()) == asked_before, "Stripe is not even asked"


def test_stripe_away_is_said_on_the_page(alice: User, sign_in: SignIn, demo_stripe: DemoStripe) -> None:
    browser = sign_in(alice)
    url = browser.post(CHECKOUT, data={"amount": "20"}).headers["location"]
    demo_stripe.act(url, "pay")
    demo_stripe.idle()
    demo_stripe.api_faults(path="/v1/invoices/", status=500, times=4)
    answer = browser.get(f"/billing/orders/{alice.orders.get().pk}/invoice/")
    assert answer.status_code == 503
    assert "cannot be reached now" in answer.text
