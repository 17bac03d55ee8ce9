"""What the operator sees of the turns: what each used, with totals; and what the prompt guard found."""

from typing import Any

from django.contrib import admin
from django.db.models import F, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import ChoicesCheckboxFilter, RelatedCheckboxFilter
from unfold.decorators import display

from billing.admin.reading import (
    DaysFilter,
    ReadOnlyAdmin,
    credits_column,
    link,
    number_column,
    person_column,
    time_column,
)
from billing.templatetags.amounts import amount
from chatapp.streaming import guard, usage_report
from chatapp.streaming.models import GuardFinding, HouseUsage, UsageRecord

TOKENS = ["in_tokens", "out_tokens", "read_tokens", "write_5m_tokens", "write_1h_tokens"]


@admin.register(UsageRecord)
class UsageRecordAdmin(ReadOnlyAdmin):
    """The list of turns, above it the totals of all that its filters and search leave."""

    list_display = [
        *("ended", "person", "model", "state", "charged_credits", "cost_credits", "margin_credits"),
        *(*TOKENS, "first_ms", "whole_ms"),
    ]
    list_filter = [
        ("ended_at", DaysFilter),
        ("model", RelatedCheckboxFilter),
        ("state", ChoicesCheckboxFilter),
    ]
    list_select_related = ["user", "model"]
    list_before_template = "admin/streaming/usagerecord/totals.html"
    search_fields = ["user__email"]
    search_help_text = "E-mail, or id of a turn or conversation"
    id_fields = ["pk", "conversation_id", "user"]
    fields = [
        *("turn_link", "person", "conversation_id", "model", "provider", "state", *TOKENS),
        *("charged_credits", "cost_credits", "margin_credits", "first_ms", "whole_ms", "ended", "recorded"),
    ]
    readonly_fields = [
        *("turn_link", "person", *TOKENS, "charged_credits", "cost_credits", "margin_credits"),
        *("first_ms", "whole_ms", "ended", "recorded"),
    ]

    person = person_column
    charged_credits = credits_column("charged", "charged")
    cost_credits = credits_column("cost", "cost")
    in_tokens = number_column("input_tokens", "input")
    out_tokens = number_column("output_tokens", "output")
    read_tokens = number_column("cache_read_tokens", "read")
    write_5m_tokens = number_column("cache_write_5m_tokens", "write 5 m")
    write_1h_tokens = number_column("cache_write_1h_tokens", "write 1 h")
    first_ms = number_column("first_token_ms", "first, ms")
    whole_ms = number_column("duration_ms", "all, ms")
    ended = time_column("ended_at", "ended")
    recorded = time_column("recorded_at", "recorded")

    @display(description="margin", ordering=F("charged") - F("cost"))
    def margin_credits(self, record: UsageRecord) -> SafeString:
        return amount(record.charged - record.cost)

    @display(description="turn")
    def turn_link(self, record: UsageRecord) -> SafeString:
        return link("conversations_turn_change", record.turn_id, record.turn_id)

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        response = super().changelist_view(request, extra_context)
        # Django may answer with something else than the list, such as a redirect.
        if isinstance(response, TemplateResponse) and response.context_data and "cl" in response.context_data:
            response.context_data["total"] = usage_report.total(response.context_data["cl"].queryset)
        return response


class RuleFilter(admin.SimpleListFilter):
    title = "rule"
    parameter_name = "rule"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return list(guard.RULES.items())

    def queryset(self, request: HttpRequest, queryset: QuerySet[GuardFinding]) -> QuerySet[GuardFinding]:
        return queryset.filter(rules__contains=[self.value()]) if self.value() in guard.RULES else queryset


@admin.register(GuardFinding)
class GuardFindingAdmin(ReadOnlyAdmin):
    """The messages that broke rules of the prompt guard, without what they said."""

    list_display = ["found", "person", "rule_names", "policy", "length", "turn"]
    list_filter = [("found_at", DaysFilter), RuleFilter, ("policy", ChoicesCheckboxFilter)]
    list_select_related = ["user"]
    search_fields = ["user__email", "text_sha256"]
    search_help_text = "E-mail, id of a turn or user, or SHA-256 of a text"
    id_fields = ["turn_id", "user"]
    fields = readonly_fields = [
        *("found", "person", "what_rules_say", "policy", "length", "text_sha256", "turn")
    ]

    person = person_column
    found = time_column("found_at", "found")
    length = number_column("text_length", "characters")

    @display(description="rules")
    def rule_names(self, finding: GuardFinding) -> str:
        return ", ".join(finding.rules)

    @display(description="rules")
    def what_rules_say(self, finding: GuardFinding) -> str:
        return "; ".join(guard.RULES.get(rule, rule) for rule in finding.rules)

    @display(description="turn")
    def turn(self, finding: GuardFinding) -> SafeString | str:
        if finding.policy == GuardFinding.Policy.REFUSE:
            return f"{finding.turn_id} (not opened)"
        return link("conversations_turn_change", finding.turn_id, finding.turn_id)


@admin.register(HouseUsage)
class HouseUsageAdmin(ReadOnlyAdmin):
    """What the house asked a model for by itself, and paid."""

    list_display = [*("ended", "purpose", "person", "model", "cost_credits"), *TOKENS]
    list_filter = [
        ("ended_at", DaysFilter),
        ("purpose", ChoicesCheckboxFilter),
        ("model", RelatedCheckboxFilter),
    ]
    list_select_related = ["user", "model"]
    search_fields = ["user__email"]
    search_help_text = "E-mail, or id of a conversation"
    id_fields = ["conversation_id", "user"]
    fields = [
        *("purpose", "person", "conversation_id", "model", "price_link", "provider_request"),
        *(*TOKENS, "cost_credits", "ended"),
    ]
    readonly_fields = ["person", "price_link", *TOKENS, "cost_credits", "ended"]

    person = person_column
    cost_credits = credits_column("cost", "cost")
    in_tokens = number_column("input_tokens", "input")
    out_tokens = number_column("output_tokens", "output")
    read_tokens = number_column("cache_read_tokens", "read")
    write_5m_tokens = number_column("cache_write_5m_tokens", "write 5 m")
    write_1h_tokens = number_column("cache_write_1h_tokens", "write 1 h")
    ended = time_column("ended_at", "ended")

    @display(description="price")
    def price_link(self, usage: HouseUsage) -> SafeString:
        return link("billing_price_change", usage.price_id, usage.price)
