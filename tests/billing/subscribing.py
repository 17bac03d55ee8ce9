"""A person who subscribes, and what came of it."""

from dataclasses import dataclass

import httpx

from accounts.models import User
from billing.models import Order, Plan, Subscription
from chatapp.local.demo_stripe.client import DemoStripe

CREDIT = 1_000_000
CREATED = "customer.subscription.created"
UPDATED = "customer.subscription.updated"
DELETED = "customer.subscription.deleted"
INVOICE_PAID = "invoice.paid"
INVOICE_FAILED = "invoice.payment_failed"


@dataclass
class Subscriber:
    """A person and their browser on our site, with Stripe at hand."""

    user: User
    browser: httpx.Client
    stripe: DemoStripe

    def go_to_checkout(self, plan: Plan) -> str:
        """Press Subscribe: the URL of Stripe's page."""
        answer = self.browser.post("/billing/subscribe/", data={"plan": plan.pk})
        assert answer.status_code == 303, answer.text
        return answer.headers["location"]

    def subscribe(self, plan: Plan) -> Subscription:
        """All the way, and every event of it."""
        self.stripe.act(self.go_to_checkout(plan), "pay")
        self.stripe.idle()
        return self.subscription

    def change(self, **data: object) -> httpx.Response:
        """What is asked of the subscription on our page."""
        return self.browser.post("/billing/subscription/", data=data)

    def change_to(self, plan: Plan) -> httpx.Response:
        """Press the button of the page that says what a change costs."""
        return self.change(plan=plan.pk, price_cents=plan.price_cents)

    @property
    def subscription(self) -> Subscription:
        return self.user.subscriptions.get()

    @property
    def periods(self) -> list[Order]:
        """What was credited for periods, oldest first."""
        return list(self.user.orders.filter(source=Order.Source.SUBSCRIPTION).order_by("created_at"))

    @property
    def bought(self) -> list[int]:
        """Whole credits of each period's purchase, oldest first."""
        return [order.transfers.get(kind="purchase").amount // CREDIT for order in self.periods]

    def at_stripe(self) -> dict[str, object]:
        return self.stripe.api("GET", f"/v1/subscriptions/{self.subscription.stripe_id}")
