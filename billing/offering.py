"""What the billing page offers a person: packs, an amount of choice, plans, automatic top-ups, and what they paid."""

import uuid
from typing import Any

from django.conf import settings
from django.db.models import Sum

from accounts.models import User
from billing import subscriptions, topups
from billing.checkout import offer
from billing.models import AutoTopUp, Order, Pack, Plan

PAYMENTS_SHOWN = 12


def on_offer(user: User) -> dict[str, Any]:
    """The context of templates/billing/offers.html, plans.html, auto_topup.html and payments.html."""
    rule = AutoTopUp.objects.filter(user=user).select_related("pack").first()
    packs = list(Pack.objects.filter(on_sale=True))
    paid = user.orders.filter(state=Order.State.PAID).select_related("pack", "plan")
    payments = paid.annotate(back_cents=Sum("money_back__cents", default=0))
    return {
        "offers": [offer(pack) for pack in packs],
        "amount_order": uuid.uuid4(),
        "least_amount": settings.TOPUP_MINIMUM,
        "most_amount": settings.TOPUP_MAXIMUM,
        "plans": list(Plan.objects.filter(on_sale=True)),
        "subscription": subscriptions.of(user),
        "topup": rule,
        "topup_packs": [pack for pack in packs if pack.currency == "usd"],
        "topup_order": uuid.uuid4(),
        "pay_order": uuid.uuid4(),
        "topup_buys": topups.what(rule) if rule else None,
        "topup_spent_cents": topups.spent_this_month(user) if rule else 0,
        "payments": list(payments.order_by("-paid_at")[:PAYMENTS_SHOWN]),
    }
