"""Usage as the operator sees it: every ended turn, their totals, and tables per day, model and user."""

from itertools import islice
from typing import Any

from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ORDER_VAR, PAGE_VAR
from django.core.exceptions import PermissionDenied
from django.db.models import F
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
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
from chatapp.streaming import usage_report
from chatapp.streaming.models import UsageRecord

# Longer tables are for the CSV.
LINES_SHOWN = 400
TOKENS = ["in_tokens", "out_tokens", "read_tokens", "write_5m_tokens", "write_1h_tokens"]


@admin.register(UsageRecord)
class UsageRecordAdmin(ReadOnlyAdmin):
    """The list of turns and the grouped tables are one page with the same filters, search and totals."""

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

    def get_urls(self) -> list[URLPattern]:
        return [
            path(
                "by/<slug:group>/", self.admin_site.admin_view(self.table), name="streaming_usagerecord_table"
            ),
            path(
                "by/<slug:group>.csv",
                self.admin_site.admin_view(self.export),
                name="streaming_usagerecord_csv",
            ),
            *super().get_urls(),
        ]

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        response = super().changelist_view(request, extra_context)
        if found := _found(response):
            found |= {"total": usage_report.total(found["cl"].queryset), "tabs": _tabs(request)}
        return response

    def table(self, request: HttpRequest, group: str) -> HttpResponse:
        """The records that the filters leave, added up per day, model or user."""
        self._require(group)
        response = self.changelist_view(request, {"group": group, "title": f"Usage per {group}"})
        if (found := _found(response)) and isinstance(response, TemplateResponse):
            lines = list(islice(usage_report.grouped(found["cl"].queryset, group), LINES_SHOWN + 1))
            csv = reverse("admin:streaming_usagerecord_csv", args=[group])
            found |= {
                "lines": lines[:LINES_SHOWN],
                "has_more_lines": len(lines) > LINES_SHOWN,
                "csv_url": csv + _filters(request),
            }
            response.template_name = "admin/streaming/usagerecord/table.html"
        return response

    def export(self, request: HttpRequest, group: str) -> HttpResponse:
        """The table as CSV, under the same filters."""
        self._require(group)
        if not self.has_view_permission(request):
            raise PermissionDenied
        try:
            found = self.get_changelist_instance(request).queryset
        except IncorrectLookupParameters:
            raise Http404("There is no such filter.") from None
        table = usage_report.as_csv(usage_report.grouped(found, group), group)
        response = HttpResponse(table, "text/csv; charset=utf-8")
        response["Content-Disposition"] = f'attachment; filename="usage-per-{group}.csv"'
        return response

    def _require(self, group: str) -> None:
        if group not in usage_report.GROUPS:
            raise Http404(f"Usage is grouped by {', '.join(usage_report.GROUPS)}.")


def _found(response: HttpResponse) -> dict[str, Any] | None:
    """What a list's page is about to show; None when Django answers with something else, such as a redirect."""
    if isinstance(response, TemplateResponse) and response.context_data and "cl" in response.context_data:
        return response.context_data
    return None


def _tabs(request: HttpRequest) -> list[dict[str, Any]]:
    """The list and the tables, each under the filters of now."""
    urls = {"Turns": reverse("admin:streaming_usagerecord_changelist")}
    for group in usage_report.GROUPS:
        urls[f"Per {group}"] = reverse("admin:streaming_usagerecord_table", args=[group])
    filters = _filters(request)
    return [
        {"title": title, "url": url + filters, "here": url == request.path} for title, url in urls.items()
    ]


def _filters(request: HttpRequest) -> str:
    """The query of this page, without what belongs to its list alone: the page and the order."""
    kept = request.GET.copy()
    for name in (PAGE_VAR, ORDER_VAR):
        kept.pop(name, None)
    return f"?{kept.urlencode()}" if kept else ""
