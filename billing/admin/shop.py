"""Packs, what was ordered, and what Stripe told us."""

import json
from decimal import Decimal
from typing import Any

from django.contrib import admin
from django.db.models import OuterRef, QuerySet, Subquery, Sum
from django.db.models.functions import Coalesce
from django.http import Http404, HttpRequest, HttpResponse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin
from unfold.contrib.filters.admin import ChoicesCheckboxFilter
from unfold.decorators import action, display

from billing.admin import refunds, replays
from billing.admin.reading import (
    NOTHING,
    DaysFilter,
    ReadOnlyAdmin,
    credits_column,
    links_to,
    person_column,
    time_column,
)
from billing.credits import CREDITS_PER_USD
from billing.models import MoneyBack, Order, Pack, StripeEvent
from billing.templatetags.credits import decimal_credits, money


@admin.register(Pack)
class PackAdmin(ModelAdmin):
    """What is on offer. Orders keep what they were made for, so changing a pack changes no order."""

    list_display = ["name", "pack_credits", "pack_price", "bonus_count", "on_sale", "position"]
    list_editable = ["on_sale", "position"]
    list_display_links = ["name"]
    fields = ["name", "credits", "price_cents", "currency", "on_sale", "position"]
    actions = None

    @display(description="credits", ordering="credits")
    def pack_credits(self, pack: Pack) -> str:
        return decimal_credits(pack.credits)

    @display(description="price", ordering="price_cents")
    def pack_price(self, pack: Pack) -> str:
        return money(pack.price_cents, pack.currency)

    @display(description="against list price", empty_value=NOTHING)
    def bonus_count(self, pack: Pack) -> str | None:
        """How many more credits than the money would buy at one cent a credit; told for dollars only."""
        if pack.currency != "usd":
            return None
        listed = Decimal(pack.price_cents) * CREDITS_PER_USD / 100
        return f"{(pack.credits / listed - 1) * 100:+.1f} %"


@admin.register(Order)
class OrderAdmin(ReadOnlyAdmin):
    """What people chose to buy and what became of it."""

    list_display = [
        *("ordered", "person", "bought", "bought_credits", "paid_price"),
        *("state_label", "paid", "id"),
    ]
    list_filter = [("state", ChoicesCheckboxFilter), ("created_at", DaysFilter)]
    list_select_related = ["user", "pack", "plan"]
    search_fields = ["user__email", "stripe_session", "stripe_payment_intent"]
    search_help_text = "E-mail, id, Stripe session or payment"
    id_fields = ["pk"]
    fields = [
        *("id", "person", "bought", "bought_credits", "paid_price", "really_paid", "paid_back"),
        *("state_label", "ordered", "paid", "stripe_session", "stripe_payment_intent", "became"),
    ]
    readonly_fields = [
        *("person", "bought", "bought_credits", "paid_price", "really_paid", "paid_back", "state_label"),
        *("ordered", "paid", "became"),
    ]
    actions_detail = ["refund"]

    person = person_column
    bought_credits = credits_column("credits_microcredits", "credits")
    ordered = time_column("created_at", "ordered")
    paid = time_column("paid_at", "paid")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Order]:
        back = MoneyBack.objects.filter(order=OuterRef("pk")).order_by().values("order")
        disputed = back.filter(reversal__startswith="dispute:")
        return (
            super().get_queryset(request).annotate(back_cents=_sum_of(back), disputed_cents=_sum_of(disputed))
        )

    def has_refund_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return refunds.allowed(request)

    @action(description="Refund", permissions=["refund"], icon="undo", url_path="refund")
    def refund(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Give money back, and take the credits back that it had bought."""
        order = self.get_object(request, object_id)
        if order is None:
            raise Http404
        return refunds.refund(request, order, self.admin_site)

    @display(description="price", ordering="amount_cents")
    def paid_price(self, order: Order) -> str:
        return money(order.amount_cents, order.currency)

    @display(description="really paid", empty_value=NOTHING)
    def really_paid(self, order: Order) -> str | None:
        return None if order.paid_cents is None else money(order.paid_cents, order.currency)

    @display(description="paid back", empty_value=NOTHING)
    def paid_back(self, order: Order) -> str | None:
        """By refunds and disputes, less what came back of it."""
        back = order.back_cents  # type: ignore[attr-defined]
        return money(back, order.currency) if back else None

    @display(
        description="state",
        ordering="state",
        label={
            Order.State.PAID.label: "success",
            **dict.fromkeys((Order.State.PENDING.label, "Partly refunded", "Refunded"), "warning"),
            **dict.fromkeys((Order.State.FAILED.label, "Disputed"), "danger"),
        },
    )
    def state_label(self, order: Order) -> str:
        """What became of it, and of the money since."""
        if order.disputed_cents > 0:  # type: ignore[attr-defined]
            return "Disputed"
        if order.back_cents > 0:  # type: ignore[attr-defined]
            return "Refunded" if order.back_cents >= (order.paid_cents or 0) else "Partly refunded"  # type: ignore[attr-defined]
        return order.get_state_display()

    @display(description="bought", ordering="source")
    def bought(self, order: Order) -> str:
        """The pack or the plan; who chose an amount has neither."""
        return str(order.plan or order.pack or "Own amount")

    @display(description="transfers")
    def became(self, order: Order) -> SafeString | None:
        return links_to(order.transfers.select_related("debit").order_by("pk"), signed=True) or None


def _sum_of(rows: QuerySet[MoneyBack, Any]) -> Coalesce:
    return Coalesce(Subquery(rows.annotate(sum=Sum("cents")).values("sum")), 0)


@admin.register(StripeEvent)
class StripeEventAdmin(ReadOnlyAdmin):
    """Events as Stripe sent them, and what became of each."""

    list_display = ["received", "type", "outcome_label", "error", "id"]
    list_filter = [("outcome", ChoicesCheckboxFilter), ("received_at", DaysFilter)]
    search_fields = ["id", "type"]
    search_help_text = "Event id or type"
    fields = ["id", "type", "outcome_label", "error", "received", "payload_read"]
    readonly_fields = ["outcome_label", "received", "payload_read"]
    actions = ["replay_selected"]
    actions_detail = ["replay"]

    received = time_column("received_at", "received")

    def get_queryset(self, request: HttpRequest) -> QuerySet[StripeEvent]:
        found = super().get_queryset(request)
        # A list of a hundred payloads of many kilobytes would be read to show none of them.
        listing = (
            request.resolver_match and request.resolver_match.url_name == "billing_stripeevent_changelist"
        )
        return found.defer("payload") if listing else found

    def has_replay_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return replays.allowed(request)

    @action(description="Replay", permissions=["replay"], icon="replay", url_path="replay")
    def replay(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Have the event handled once more."""
        event = self.get_object(request, object_id)
        if event is None:
            raise Http404
        return replays.replay(request, event, self.admin_site)

    @admin.action(description="Replay", permissions=["replay"])
    def replay_selected(self, request: HttpRequest, events: QuerySet[StripeEvent]) -> HttpResponse | None:
        return replays.replay_selected(request, events, self.admin_site)

    @display(description="outcome", ordering="outcome", label={"handled": "success", "failed": "danger"})
    def outcome_label(self, event: StripeEvent) -> str:
        return event.outcome

    @display(description="payload")
    def payload_read(self, event: StripeEvent) -> SafeString:
        return format_html(
            '<pre class="payload">{}</pre>', json.dumps(event.payload, indent=2, ensure_ascii=False)
        )
