"""The models on sale and the price book.

A price that has come into force is never changed, not even one that no turn was held at yet: a turn may be
opening with it at this moment. It is replaced by a newer row. Rows that still lie ahead can be changed and deleted.
"""

from typing import Any
from urllib.parse import urlencode

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import OuterRef, Prefetch, QuerySet, Subquery
from django.db.models.functions import Now
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.views.decorators.http import require_POST
from unfold.admin import ModelAdmin
from unfold.contrib.filters.admin import RelatedCheckboxFilter
from unfold.decorators import action, display

from billing import pricing
from billing.admin.price_form import TIER, USD, Preview, PriceForm
from billing.admin.reading import number_column, over, time_column
from billing.models import LanguageModel, Price
from billing.templatetags.amounts import amount
from billing.templatetags.credits import decimal_credits


@admin.register(LanguageModel)
class LanguageModelAdmin(ModelAdmin):
    """The models on sale. What they cost is in the price book."""

    list_display = [
        *("name", "id", "on_sale", "position", "turn_credits"),
        *("longest_answer_tokens", "whole_context_tokens", "retires_on"),
    ]
    list_editable = ["on_sale", "position"]
    list_filter = ["on_sale"]
    fields = [
        *("id", "name", "description", "context_tokens", "max_output_tokens", "answer_tokens"),
        *("history_tokens", "thinks", "on_sale", "retires_on", "position"),
    ]
    actions = None

    longest_answer_tokens = number_column("answer_tokens", "answer")
    whole_context_tokens = number_column("context_tokens", "context")

    def get_queryset(self, request: HttpRequest) -> QuerySet[LanguageModel]:
        in_force = Prefetch("prices", Price.objects.in_force(), to_attr="prices_in_force")
        return super().get_queryset(request).prefetch_related(in_force)

    def get_readonly_fields(self, request: HttpRequest, obj: LanguageModel | None = None) -> list[str]:
        # Turns and prices point to the name under which the provider knows it.
        return ["id"] if obj else []

    def has_delete_permission(self, request: HttpRequest, obj: LanguageModel | None = None) -> bool:
        # Turns and usage name their model for ever: it is taken off sale instead.
        return False

    @display(description="typical turn", empty_value="no price: not offered")
    def turn_credits(self, model: LanguageModel) -> SafeString | None:
        prices: list[Price] = model.prices_in_force  # type: ignore[attr-defined]
        return amount(pricing.charge(pricing.SHORT, prices[0])) if prices else None


@admin.register(Price)
class PriceAdmin(ModelAdmin):
    """The price book: US$ per million tokens as the provider asks, and our markup."""

    form = PriceForm
    list_display = [
        *("model", "begins", "standing", "asked_and_earned_credits", "markup_and_fee_count"),
        *("in_usd", "out_usd", "cache_usd"),
    ]
    list_filter = [("model", RelatedCheckboxFilter)]
    list_filter_submit = True
    list_fullwidth = True
    list_select_related = ["model"]
    list_display_links = ["model", "begins"]
    actions = None
    actions_detail = ["replace"]
    fieldsets = [
        (None, {"fields": ["model", "effective_from"]}),
        ("US$ per million tokens", {"fields": USD}),
        ("Our share", {"fields": ["markup", "flat_fee"]}),
        ("A dearer tier for large prompts", {"fields": TIER}),
    ]
    change_form_after_template = "admin/billing/price/live_preview.html"

    begins = time_column("effective_from", "from")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Price]:
        newest = Price.objects.filter(model=OuterRef("model"), effective_from__lte=Now()).order_by(
            "-effective_from"
        )
        return super().get_queryset(request).annotate(in_force=Subquery(newest.values("pk")[:1]), now=Now())

    def get_urls(self) -> list[URLPattern]:
        preview = self.admin_site.admin_view(require_POST(self.preview))
        return [path("preview/", preview, name="billing_price_preview"), *super().get_urls()]

    def preview(self, request: HttpRequest) -> HttpResponse:
        """What typical turns would cost at the price that the form holds; nothing is saved."""
        row = Price.objects.filter(pk=request.GET["price"]).first() if "price" in request.GET else None
        allowed = self.has_change_permission(request, row) if row else self.has_add_permission(request)
        if not allowed:
            raise PermissionDenied
        form = self.get_form(request, row, change=row is not None)(request.POST, instance=row)
        preview = Preview.of(form, told=request.POST.getlist("told"))
        return TemplateResponse(request, "admin/billing/price/preview.html", {"preview": preview})

    def get_fieldsets(self, request: HttpRequest, obj: Price | None = None) -> Any:
        fieldsets = list(super().get_fieldsets(request, obj))
        if obj is not None and not self.has_change_permission(request, obj):
            fieldsets.append(("What typical turns cost", {"fields": ["typical_turns"]}))
        return fieldsets

    def get_readonly_fields(self, request: HttpRequest, obj: Price | None = None) -> list[str]:
        return ["typical_turns"]

    def has_change_permission(self, request: HttpRequest, obj: Price | None = None) -> bool:
        return super().has_change_permission(request, obj) and (obj is None or _lies_ahead(obj))

    def has_delete_permission(self, request: HttpRequest, obj: Price | None = None) -> bool:
        return super().has_delete_permission(request, obj) and (obj is None or _lies_ahead(obj))

    def has_replace_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return self.has_add_permission(request)

    @action(description="New row from this one", permissions=["replace"], icon="content_copy")
    def replace(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """The form for a new row, filled in with this one's prices."""
        price = self.get_object(request, object_id)
        if price is None:
            raise Http404
        names = ["model_id", "markup", "flat_fee", *USD, *TIER]
        filled = {name.removesuffix("_id"): getattr(price, name) for name in names}
        filled_in = urlencode({name: value for name, value in filled.items() if value is not None})
        return redirect(f"{reverse('admin:billing_price_add')}?{filled_in}")

    @display(description="", label={"in force": "success", "lies ahead": "warning"})
    def standing(self, price: Price) -> str:
        if price.pk == price.in_force:  # type: ignore[attr-defined]
            return "in force"
        return "lies ahead" if price.effective_from > price.now else "past"  # type: ignore[attr-defined]

    @display(description="markup", ordering="markup")
    def markup_and_fee_count(self, price: Price) -> SafeString:
        fee = f"fee {decimal_credits(price.flat_fee)}" if price.flat_fee else ""
        return over(f"× {decimal_credits(price.markup)}", fee)

    @display(description="input $", ordering="input_usd")
    def in_usd(self, price: Price) -> SafeString:
        """And at which prompts a dearer tier begins."""
        tier = "" if price.tier_tokens is None else f"tier > {price.tier_tokens:,}"
        return over(decimal_credits(price.input_usd), tier)

    @display(description="output $", ordering="output_usd")
    def out_usd(self, price: Price) -> str:
        return decimal_credits(price.output_usd)

    @display(description="cache $", ordering="cache_read_usd")
    def cache_usd(self, price: Price) -> SafeString:
        """To read from it, and to write for 5 minutes or for an hour."""
        writes = map(decimal_credits, (price.cache_write_5m_usd, price.cache_write_1h_usd))
        return over(f"read {decimal_credits(price.cache_read_usd)}", f"write {', '.join(writes)}")

    @display(description="typical turn")
    def asked_and_earned_credits(self, price: Price) -> SafeString:
        asked = pricing.charge(pricing.SHORT, price)
        earned = asked - pricing.cost(pricing.SHORT, price)
        return over(amount(asked), format_html("earns {}", amount(earned)))

    @display(description="")
    def typical_turns(self, price: Price) -> SafeString:
        lines = [(example, None) for example in pricing.examples(price)]
        return render_to_string("admin/billing/price/examples.html", {"lines": lines})


def _lies_ahead(price: Price) -> bool:
    """By the database's clock, which also decides what a turn is held at."""
    return Price.objects.filter(pk=price.pk, effective_from__gt=Now(), turns=None).exists()
