"""POST /billing/checkout/: from a pack to Stripe's page, through the real SDK."""

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models.functions import Now
from django.test import Client
from pytest_django.fixtures import Settings

from accounts.models import User
from billing.checkout import Purchase, open_checkout
from billing.errors import PaymentUnavailable
from billing.models import Customer, Order, Pack
from billing.stripe_gateway import client as stripe_client
from chatapp.local.demo_stripe.client import DemoStripe
from tests.billing.conftest import GoToCheckout
from tests.conftest import SignIn
from tests.stack import Stack

SESSIONS = "/v1/checkout/sessions"


@pytest.fixture
def starter(committed_db: None) -> Pack:
    return Pack.objects.get(name="Starter")


@pytest.fixture
def odd_pack(committed_db: None) -> Iterator[Pack]:
    """One more pack, for tests that change it."""
    pack = Pack.objects.create(name="Odd", credits=Decimal("123.5"), price_cents=777, position=99)
    yield pack
    pack.delete()


def test_buying_leads_to_stripes_page(
    alice: User, go_to_checkout: GoToCheckout, demo_stripe: DemoStripe, stack: Stack
) -> None:
    checkout = go_to_checkout(alice)

    order = checkout.order
    assert checkout.url == f"{stack.stripe_url}/c/pay/{checkout.session}"
    assert (order.user, order.state, order.paid_at) == (alice, Order.State.OPEN, None)
    assert (order.credits_microcredits, order.amount_cents, order.currency) == (500_000_000, 500, "usd")
    session = demo_stripe.api("GET", f"{SESSIONS}/{checkout.session}?expand[]=line_items")
    assert session["client_reference_id"] == session["metadata"]["order"] == str(order.pk)
    assert (session["amount_total"], session["currency"], session["mode"]) == (500, "usd", "payment")
    assert session["customer"] == alice.stripe_customer.stripe_id
    assert session["invoice_creation"]["enabled"] is True
    assert session["expires_at"] == int((order.created_at + timedelta(hours=1)).timestamp())
    assert session["success_url"] == f"{stack.url}/billing/return/?session_id={{CHECKOUT_SESSION_ID}}"
    assert session["cancel_url"] == f"{stack.url}/billing/?cancelled=1"
    (item,) = session["line_items"]["data"]
    assert (item["description"], item["quantity"], item["price"]["unit_amount"]) == ("500 credits", 1, 500)


def test_the_order_is_the_idempotency_key(
    alice: User, go_to_checkout: GoToCheckout, demo_stripe: DemoStripe
) -> None:
    checkout = go_to_checkout(alice)
    (request,) = demo_stripe.requests(SESSIONS)
    customer = Customer.objects.get(user=alice).stripe_id
    assert request["idempotency_key"] == f"checkout:{checkout.order.pk}:{customer}"


def test_a_double_click_opens_one_checkout(
    alice: User, sign_in: SignIn, demo_stripe: DemoStripe, starter: Pack
) -> None:
    browser = sign_in(alice)
    form = {"pack": starter.pk, "order": str(uuid.uuid4())}
    with ThreadPoolExecutor(5) as clicks:
        answers = list(clicks.map(lambda _: browser.post("/billing/checkout/", data=form), range(5)))
    assert [answer.status_code for answer in answers] == [303] * 5
    assert len({answer.headers["location"] for answer in answers}) == 1
    assert [str(order.pk) for order in alice.orders.all()] == [form["order"]]


def test_two_buttons_are_two_orders(alice: User, go_to_checkout: GoToCheckout) -> None:
    first, second = go_to_checkout(alice), go_to_checkout(alice)
    assert first.session != second.session
    assert alice.orders.count() == 2


def test_a_button_that_was_paid_for_buys_again(
    alice: User, sign_in: SignIn, demo_stripe: DemoStripe, starter: Pack
) -> None:
    browser = sign_in(alice)
    form = {"pack": starter.pk, "order": str(uuid.uuid4())}
    first = browser.post("/billing/checkout/", data=form).headers["location"]
    demo_stripe.act(first, "pay")
    demo_stripe.idle()

    second = browser.post("/billing/checkout/", data=form).headers["location"]

    assert second != first
    assert set(alice.orders.values_list("state", flat=True)) == {Order.State.PAID, Order.State.OPEN}


def test_an_old_button_buys_anew(
    alice: User, sign_in: SignIn, demo_stripe: DemoStripe, starter: Pack
) -> None:
    browser = sign_in(alice)
    form = {"pack": starter.pk, "order": str(uuid.uuid4())}
    first = browser.post("/billing/checkout/", data=form).headers["location"]
    Order.objects.filter(pk=form["order"]).update(created_at=Now() - timedelta(hours=2))

    assert browser.post("/billing/checkout/", data=form).headers["location"] != first


def test_nobody_can_press_anothers_button(
    alice: User, charlie: User, go_to_checkout: GoToCheckout, sign_in: SignIn, starter: Pack
) -> None:
    hers = go_to_checkout(alice)
    before = hers.order

    answer = sign_in(charlie).post("/billing/checkout/", data={"pack": starter.pk, "order": str(before.pk)})

    assert answer.status_code == 303
    assert answer.headers["location"] != hers.url
    assert charlie.orders.get().pk != before.pk
    assert hers.order == before
    assert hers.order.user == alice


@pytest.mark.parametrize(
    ("pack", "sentence"),
    [
        ("", "Choose a pack of credits."),
        ("999999", "This pack is not on sale."),
        ("99999999999999999999999", "This pack is not on sale."),
        ("-1", "This pack is not on sale."),
        ("1 OR 1=1", "This pack is not on sale."),
        ("\x00", "Null characters are not allowed."),
    ],
)
def test_a_pack_that_does_not_exist_is_refused(
    alice: User, sign_in: SignIn, pack: str, sentence: str
) -> None:
    answer = sign_in(alice).post("/billing/checkout/", data={"pack": pack})
    assert answer.status_code == 400
    assert sentence in answer.text
    assert not alice.orders.exists()


def test_a_pack_off_sale_is_refused_and_not_shown(alice: User, sign_in: SignIn, odd_pack: Pack) -> None:
    Pack.objects.filter(pk=odd_pack.pk).update(on_sale=False)
    browser = sign_in(alice)
    answer = browser.post("/billing/checkout/", data={"pack": odd_pack.pk})
    assert answer.status_code == 400
    assert "This pack is not on sale." in answer.text
    assert not alice.orders.exists()
    assert "Odd" not in browser.get("/billing/").text


def test_an_order_id_that_is_none_is_refused(alice: User, sign_in: SignIn, starter: Pack) -> None:
    answer = sign_in(alice).post("/billing/checkout/", data={"pack": starter.pk, "order": "../../etc"})
    assert answer.status_code == 400
    assert not alice.orders.exists()


def test_a_price_changed_meanwhile_does_not_change_the_order(
    alice: User, sign_in: SignIn, demo_stripe: DemoStripe, odd_pack: Pack
) -> None:
    browser = sign_in(alice)
    url = browser.post("/billing/checkout/", data={"pack": odd_pack.pk}).headers["location"]
    Pack.objects.filter(pk=odd_pack.pk).update(credits=Decimal(1), price_cents=99_999)

    demo_stripe.act(url, "pay")
    demo_stripe.idle()

    order = alice.orders.get()
    assert (order.state, order.credits_microcredits, order.amount_cents) == ("paid", 123_500_000, 777)
    assert order.transfers.get().amount == 123_500_000


def test_stripe_away_costs_nothing_and_the_same_button_works_later(
    alice: User, sign_in: SignIn, demo_stripe: DemoStripe, starter: Pack
) -> None:
    browser = sign_in(alice)
    form = {"pack": starter.pk, "order": str(uuid.uuid4())}
    demo_stripe.api_faults(path=SESSIONS, status=500, times=4)

    answer = browser.post("/billing/checkout/", data=form)

    assert answer.status_code == 503
    assert "cannot be reached now. Nothing was charged" in answer.text
    assert "Available now" in answer.text, "the rest of the page is still there"
    assert len(demo_stripe.requests(SESSIONS)) == 4, "tried once and three times more"
    assert browser.post("/billing/checkout/", data=form).status_code == 303
    assert [str(order.pk) for order in alice.orders.all()] == [form["order"]]


def test_a_stripe_that_hangs_is_given_up_on(
    alice: User, demo_stripe: DemoStripe, starter: Pack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stripe_client, "TIMEOUT_SECONDS", (0.2, 0.2))
    demo_stripe.api_faults(path=SESSIONS, hang_seconds=2, times=4)
    with pytest.raises(PaymentUnavailable, match="cannot be reached"):
        open_checkout(
            user=alice,
            purchase=Purchase.of_pack(starter),
            order_id=None,
            success_url="http://x.test/",
            cancel_url="http://x.test/",
        )
    assert len(demo_stripe.requests(SESSIONS)) == 4


def test_a_lost_answer_opens_no_second_session(
    alice: User, go_to_checkout: GoToCheckout, demo_stripe: DemoStripe
) -> None:
    demo_stripe.api_faults(path=SESSIONS, lose_answer=True)
    checkout = go_to_checkout(alice)
    assert len(demo_stripe.requests(SESSIONS)) == 2
    sessions = demo_stripe.api("GET", f"{SESSIONS}?limit=100")["data"]
    opened = [row["id"] for row in sessions if row["client_reference_id"] == str(checkout.order.pk)]
    assert opened == [checkout.session]


def test_what_stripe_refuses_is_said_and_not_retried(
    alice: User, sign_in: SignIn, demo_stripe: DemoStripe, odd_pack: Pack
) -> None:
    Pack.objects.filter(pk=odd_pack.pk).update(price_cents=1)
    answer = sign_in(alice).post("/billing/checkout/", data={"pack": odd_pack.pk})
    assert answer.status_code == 503
    assert "did not accept this. Nothing was charged." in answer.text
    assert len(demo_stripe.requests(SESSIONS)) == 1


def test_without_a_key_buying_is_off_and_says_so(
    db: None, alice: User, client: Client, settings: Settings
) -> None:
    settings.STRIPE_SECRET_KEY = ""
    client.force_login(alice, backend="django.contrib.auth.backends.ModelBackend")
    page = client.get("/billing/")
    assert page.status_code == 200
    assert "Buying credits is switched off on this site" in page.content.decode()
    assert "Buy<span" not in page.content.decode()
    answer = client.post("/billing/checkout/", {"pack": Pack.objects.get(name="Starter").pk})
    assert answer.status_code == 503
    assert "Buying credits is switched off on this site." in answer.content.decode()
    assert not alice.orders.exists()


def test_a_form_from_elsewhere_is_refused(alice: User, sign_in: SignIn, starter: Pack) -> None:
    browser = sign_in(alice)
    del browser.headers["X-CSRFToken"]
    assert browser.post("/billing/checkout/", data={"pack": starter.pk}).status_code == 403
    assert not alice.orders.exists()


def test_looking_buys_nothing(alice: User, sign_in: SignIn, starter: Pack) -> None:
    assert sign_in(alice).get("/billing/checkout/", params={"pack": starter.pk}).status_code == 405
    assert not alice.orders.exists()


def test_a_key_that_may_not_make_customers_still_sells(
    alice: User, go_to_checkout: GoToCheckout, demo_stripe: DemoStripe
) -> None:
    """Stripe's restricted keys are allowed this and not that."""
    demo_stripe.api_faults(path="/v1/customers", status=403, times=1)
    checkout = go_to_checkout(alice)
    session = demo_stripe.api("GET", f"{SESSIONS}/{checkout.session}")
    assert (session["customer"], session["customer_email"]) == (None, alice.email)


@pytest.mark.parametrize("currency", ["USD", "us", "", "u$d"])
def test_a_currency_is_three_small_letters(currency: str, db: None) -> None:
    pack = Pack(name="Odd", credits=1, price_cents=100, currency=currency)
    with pytest.raises(ValidationError, match="currency"):
        pack.full_clean()
    with pytest.raises(IntegrityError, match="pack_has_a_currency"), transaction.atomic():
        pack.save()
