"""Plans, who subscribes to them, and who has themselves topped up."""

from django.contrib import admin
from django.db.models import Count, F, Model, Q, QuerySet
from django.http import HttpRequest
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe
from unfold.admin import ModelAdmin
from unfold.contrib.filters.admin import BooleanRadioFilter, ChoicesCheckboxFilter
from unfold.decorators import display

from billing.admin.reading import (
    NOTHING,
    DaysFilter,
    ReadOnlyAdmin,
    credits_column,
    link,
    number_column,
    person_column,
    time_column,
)
from billing.models import AutoTopUp, Order, Plan, Subscription
from billing.templatetags.credits import decimal_credits, money


@admin.register(Plan)
class PlanAdmin(ModelAdmin):
    """What can be subscribed to. Once somebody has chosen a plan its terms are fixed: a new offer is a new plan."""

    list_display = [
        "name",
        "plan_credits",
        "plan_price",
        "interval",
        "subscriber_count",
        "on_sale",
        "position",
    ]
    list_editable = ["on_sale", "position"]
    list_display_links = ["name"]
    fields = [
        *("name", "credits", "price_cents", "currency", "interval", "credits_last"),
        *("on_sale", "position", "stripe_price"),
    ]
    actions = None

    def get_queryset(self, request: HttpRequest) -> QuerySet[Plan]:
        live = ~Q(subscriptions__status__in=Subscription.ENDED)
        return super().get_queryset(request).annotate(subscribers=Count("subscriptions", filter=live))

    def get_readonly_fields(self, request: HttpRequest, obj: Plan | None = None) -> list[str]:
        terms = ["credits", "price_cents", "currency", "interval", "credits_last"]
        return ["stripe_price", *(terms if obj and obj.is_fixed else [])]

    def has_delete_permission(self, request: HttpRequest, obj: Plan | None = None) -> bool:
        return super().has_delete_permission(request, obj) and not (obj and obj.is_fixed)

    @display(description="credits", ordering="credits")
    def plan_credits(self, plan: Plan) -> str:
        return decimal_credits(plan.credits)

    @display(description="price", ordering="price_cents")
    def plan_price(self, plan: Plan) -> str:
        return money(plan.price_cents, plan.currency)

    subscriber_count = number_column("subscribers", "subscribers")


@admin.register(Subscription)
class SubscriptionAdmin(ReadOnlyAdmin):
    """Subscriptions as Stripe had them last. They are changed by their owners, or in Stripe's dashboard."""

    list_display = ["begun", "person", "plan", "status_label", "ends_with_period", "period_end", "odd_count"]
    list_filter = [
        ("status", ChoicesCheckboxFilter),
        ("cancel_at_period_end", BooleanRadioFilter),
        ("created_at", DaysFilter),
    ]
    list_select_related = ["user", "plan"]
    search_fields = ["user__email", "stripe_id", "orders__stripe_invoice"]
    search_help_text = "E-mail, Stripe subscription or invoice"
    fields = [
        *("person", "plan", "status_label", "period_end", "ends_with_period", "begun", "asked"),
        *("stripe_id", "refused_changes", "periods"),
    ]
    readonly_fields = [
        "person",
        "status_label",
        "period_end",
        "ends_with_period",
        "begun",
        "asked",
        "periods",
    ]

    person = person_column
    begun = time_column("created_at", "begun")
    period_end = time_column("current_period_end", "period ends")
    asked = time_column("as_of", "as Stripe had it at")
    odd_count = number_column("odd", "periods not paid at their price")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Subscription]:
        odd = ~Q(orders__paid_cents=F("orders__amount_cents"))
        return super().get_queryset(request).annotate(odd=Count("orders", filter=odd))

    @display(
        description="status",
        ordering="status",
        label={
            "active": "success",
            Subscription.Status.PAST_DUE.label: "danger",
            Subscription.Status.UNPAID.label: "danger",
        },
    )
    def status_label(self, subscription: Subscription) -> str:
        return subscription.get_status_display()

    @display(description="ends with its period", boolean=True, ordering="cancel_at_period_end")
    def ends_with_period(self, subscription: Subscription) -> bool:
        return subscription.cancel_at_period_end

    @display(description="periods")
    def periods(self, subscription: Subscription) -> SafeString | None:
        """Each with what was paid for it; what differs from the plan's price stands out."""
        orders = subscription.orders.select_related("plan").order_by("-created_at")
        rows = ((_order_link(order), _paid(order)) for order in orders)
        return format_html_join(mark_safe("<br>"), "{} {}", rows) or None


@admin.register(AutoTopUp)
class AutoTopUpAdmin(ReadOnlyAdmin):
    """Standing orders. Only their owners can change them: it is their money."""

    list_display = ["person", "below_credits", "buys", "cap_price", "state_label", "changed"]
    list_filter = [("enabled", BooleanRadioFilter), ("paused_because", ChoicesCheckboxFilter)]
    list_select_related = ["user", "pack"]
    search_fields = ["user__email"]
    search_help_text = "E-mail"
    fields = ["person", "below_credits", "buys", "cap_price", "state_label", "card", "changed"]
    readonly_fields = ["person", "below_credits", "buys", "cap_price", "state_label", "changed"]

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        # A person is deleted with theirs, which Django allows only who may delete both.
        return request.user.is_superuser

    person = person_column
    below_credits = credits_column("threshold_microcredits", "below")
    changed = time_column("changed_at", "changed")

    @display(description="buys", empty_value=NOTHING)
    def buys(self, rule: AutoTopUp) -> str | None:
        if rule.amount_cents is not None:
            return money(rule.amount_cents, "usd")
        return str(rule.pack) if rule.pack else None

    @display(description="at most a month", ordering="monthly_cap_cents")
    def cap_price(self, rule: AutoTopUp) -> str:
        return money(rule.monthly_cap_cents, "usd")

    @display(
        description="state",
        label={"on": "success", **dict.fromkeys(AutoTopUp.Pause.labels, "warning")},
    )
    def state_label(self, rule: AutoTopUp) -> str:
        return (rule.get_paused_because_display() or "on") if rule.enabled else "off"


def _order_link(order: Order) -> SafeString:
    return link("billing_order_change", order.pk, f"{order.created_at:%Y-%m-%d} {order.plan}")


def _paid(order: Order) -> SafeString | str:
    paid, price = (money(cents or 0, order.currency) for cents in (order.paid_cents, order.amount_cents))
    return paid if paid == price else format_html("<strong>{}, its price is {}</strong>", paid, price)
