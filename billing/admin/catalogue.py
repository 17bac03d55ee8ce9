"""The models on sale and the price book.

A price that has come into force is never changed, not even one that no turn was held at yet: a turn may be
opening with it at this moment. It is replaced by a newer row. Rows that still lie ahead can be changed and deleted.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db.models import OuterRef, Prefetch, QuerySet, Subquery
from django.db.models.expressions import DatabaseDefault
from django.db.models.functions import Now
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin
from unfold.contrib.filters.admin import RelatedCheckboxFilter
from unfold.decorators import action, display

from billing import pricing
from billing.admin.reading import number_column, time_column
from billing.models import LanguageModel, Price
from billing.pricing import Usage
from billing.templatetags.amounts import amount
from billing.templatetags.credits import decimal_credits

TYPICAL = Usage(input_tokens=1000, output_tokens=500)
KINDS = ["input", "output", "cache_write_5m", "cache_write_1h", "cache_read"]
PREVIEW = ["asked_credits", "costs_credits", "earned_credits"]
TIER = ["tier_tokens", *(f"tier_{kind}_usd" for kind in KINDS)]
# What the clocks of two hosts, and the time to fill in a form, may differ by.
LEEWAY = timedelta(minutes=5)


def usd_column(field: str, description: str) -> Callable[[Any, Price], str]:
    """A column of US$ per million tokens, without idle zeros."""

    @display(description=description, ordering=field)
    def column(self: Any, price: Price) -> str:
        return decimal_credits(getattr(price, field))

    return column


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
        *("thinks", "on_sale", "retires_on", "position"),
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
        return amount(pricing.charge(TYPICAL, prices[0])) if prices else None


class PriceForm(forms.ModelForm):
    """A row of the price book that lies ahead, or begins now."""

    class Meta:
        model = Price
        fields = ["model", "effective_from", *(f"{kind}_usd" for kind in KINDS), "markup", "flat_fee", *TIER]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "effective_from" in self.fields:
            field = self.fields["effective_from"]
            field.required = False
            field.help_text = (
                "UTC. Leave empty to begin at once; a price in force cannot be changed any more."
            )
            if isinstance(self.instance.effective_from, DatabaseDefault):
                self.initial["effective_from"] = None

    def clean_effective_from(self) -> Any:
        begins = self.cleaned_data["effective_from"]
        if begins is None:
            return Price._meta.get_field("effective_from").get_default()
        if begins < timezone.now() - LEEWAY:
            raise ValidationError(
                "A price cannot begin in the past: what was answered then has been paid for."
            )
        return begins

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        missing = [name for name in TIER if name not in self.errors and cleaned.get(name) is None]
        if 0 < len(missing) < len(TIER):
            for name in missing:
                self.add_error(name, "A tier needs its size and all five prices, or none of them.")
        begins, model = cleaned.get("effective_from"), cleaned.get("model")
        others = Price.objects.filter(model=model).exclude(pk=self.instance.pk)
        if isinstance(begins, datetime) and others.filter(effective_from=begins).exists():
            self.add_error("effective_from", "Another price of this model begins at this moment.")
        return cleaned


@admin.register(Price)
class PriceAdmin(ModelAdmin):
    """The price book: US$ per million tokens as the provider asks, and our markup."""

    form = PriceForm
    list_display = [
        *("model", "begins", "standing", "asked_credits", "earned_credits", "markup_count", "fee_credits"),
        *("in_usd", "out_usd", "write_5m_usd", "write_1h_usd", "read_usd", "above_tokens"),
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
        ("US$ per million tokens", {"fields": [f"{kind}_usd" for kind in KINDS]}),
        ("Our share", {"fields": ["markup", "flat_fee"]}),
        ("A dearer tier for large prompts", {"fields": TIER}),
        ("An answer of 500 tokens to a prompt of 1,000", {"fields": PREVIEW}),
    ]
    readonly_fields = PREVIEW

    begins = time_column("effective_from", "from")
    in_usd = usd_column("input_usd", "input $")
    out_usd = usd_column("output_usd", "output $")
    write_5m_usd = usd_column("cache_write_5m_usd", "write 5 m $")
    write_1h_usd = usd_column("cache_write_1h_usd", "write 1 h $")
    read_usd = usd_column("cache_read_usd", "read $")
    above_tokens = number_column("tier_tokens", "tier above")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Price]:
        newest = Price.objects.filter(model=OuterRef("model"), effective_from__lte=Now()).order_by(
            "-effective_from"
        )
        return super().get_queryset(request).annotate(in_force=Subquery(newest.values("pk")[:1]), now=Now())

    def get_fieldsets(self, request: HttpRequest, obj: Price | None = None) -> Any:
        fieldsets = super().get_fieldsets(request, obj)
        return fieldsets if obj else fieldsets[:-1]

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
        names = ["model_id", "markup", "flat_fee", *(f"{kind}_usd" for kind in KINDS), *TIER]
        filled = {name.removesuffix("_id"): getattr(price, name) for name in names}
        filled_in = urlencode({name: value for name, value in filled.items() if value is not None})
        return redirect(f"{reverse('admin:billing_price_add')}?{filled_in}")

    @display(description="", label={"in force": "success", "lies ahead": "warning"})
    def standing(self, price: Price) -> str:
        if price.pk == price.in_force:  # type: ignore[attr-defined]
            return "in force"
        return "lies ahead" if price.effective_from > price.now else "past"  # type: ignore[attr-defined]

    @display(description="markup", ordering="markup")
    def markup_count(self, price: Price) -> str:
        return f"× {decimal_credits(price.markup)}"

    @display(description="fee", ordering="flat_fee")
    def fee_credits(self, price: Price) -> str:
        return decimal_credits(price.flat_fee)

    @display(description="typical turn costs")
    def asked_credits(self, price: Price) -> SafeString:
        return amount(pricing.charge(TYPICAL, price))

    @display(description="of which the provider asks")
    def costs_credits(self, price: Price) -> SafeString:
        return amount(pricing.cost(TYPICAL, price))

    @display(description="earns")
    def earned_credits(self, price: Price) -> SafeString:
        return amount(pricing.charge(TYPICAL, price) - pricing.cost(TYPICAL, price))


def _lies_ahead(price: Price) -> bool:
    """By the database's clock, which also decides what a turn is held at."""
    return Price.objects.filter(pk=price.pk, effective_from__gt=Now(), turns=None).exists()
