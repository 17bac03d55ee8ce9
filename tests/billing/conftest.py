"""Buying: the demo Stripe of the running stack, and a person who goes to its checkout."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import httpx
import pytest

from accounts.models import User
from billing.models import Order, Pack
from chatapp.local.demo_stripe.client import DemoStripe
from tests.billing.own_stripe import Endpoint, Own, serving_endpoint
from tests.conftest import SignIn
from tests.stack import Stack

UNTIL_TOLD = 3600.0


@pytest.fixture
def demo_stripe(stack: Stack) -> Iterator[DemoStripe]:
    """Well-behaved at first; a bank answers when the test says so."""
    demo = DemoStripe(stack.stripe_url)
    demo.reset()
    demo.bank_answers_after(UNTIL_TOLD)
    yield demo
    demo.reset()


@dataclass
class Checkout:
    """A person on Stripe's page: `browser` is theirs, on our site."""

    browser: httpx.Client
    url: str
    session: str

    @property
    def order(self) -> Order:
        return Order.objects.get(stripe_session=self.session)

    def come_back(self) -> httpx.Response:
        return self.browser.get("/billing/return/", params={"session_id": self.session})


GoToCheckout = Callable[[User], Checkout]


@pytest.fixture
def go_to_checkout(demo_stripe: DemoStripe, sign_in: SignIn) -> GoToCheckout:
    """`go_to_checkout(alice)` presses Buy for the 500 credits of the first pack."""

    def go_to_checkout(user: User) -> Checkout:
        browser = sign_in(user)
        answer = browser.post("/billing/checkout/", data={"pack": Pack.objects.get(name="Starter").pk})
        assert answer.status_code == 303, answer.text
        url = answer.headers["location"]
        return Checkout(browser=browser, url=url, session=url.rpartition("/")[2])

    return go_to_checkout


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with serving_endpoint() as endpoint:
        yield endpoint


@pytest.fixture
def own(endpoint: Endpoint) -> Iterator[Own]:
    own = Own(endpoint.url)
    with own.served():
        yield own
