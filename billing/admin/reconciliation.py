"""What Stripe's books and ours do not agree on, and who looked into it."""

from typing import Any, cast
from urllib.parse import quote

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Count, Q, QuerySet
from django.db.models.functions import Now
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import ChoicesCheckboxFilter
from unfold.decorators import action, display
from unfold.widgets import UnfoldAdminTextareaWidget

from accounts.admin import keep_in_log
from accounts.models import User
from billing.admin.reading import NOTHING, DaysFilter, ReadOnlyAdmin, link, number_column, time_column
from billing.models import Discrepancy, Reconciliation

# Where Stripe's dashboard shows what an id begins with; its search finds the rest.
DASHBOARD = "https://dashboard.stripe.com"
PLACES = {"in": "invoices/", "pi": "payments/"}
SEARCH = "search?query="


class NoteForm(forms.Form):
    """What was done about a discrepancy."""

    note = forms.CharField(
        max_length=300,
        help_text="What was wrong, and what was done about it.",
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 3, "autofocus": True}),
    )

    def clean_note(self) -> str:
        return " ".join(self.cleaned_data["note"].split())


class StateFilter(admin.SimpleListFilter):
    """Open, mended, or resolved."""

    title = parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("open", "open"), ("mended", "mended"), ("resolved", "resolved")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Discrepancy]) -> QuerySet[Discrepancy]:
        match self.value():
            case "open":
                return queryset.filter(mended=False, resolved_at=None)
            case "mended":
                return queryset.filter(mended=True)
            case "resolved":
                return queryset.filter(resolved_at__isnull=False)
        return queryset


@admin.register(Discrepancy)
class DiscrepancyAdmin(ReadOnlyAdmin):
    """Found by the nightly comparison. What stands open waits for somebody to look into it, here and at Stripe."""

    list_display = ["found_at", "kind", "state_label", "says", "order_link", "stripe_link"]
    list_filter = [
        StateFilter,
        ("kind", ChoicesCheckboxFilter),
        ("created_at", DaysFilter),
    ]
    search_fields = ["stripe_id", "order__user__email"]
    search_help_text = "E-mail, id of an order, or Stripe's id"
    id_fields = ["order"]
    fields = [
        *("kind", "state_label", "says", "expected", "found", "order_link", "stripe_link"),
        *("found_at", "run", "resolved", "resolved_by", "note"),
    ]
    readonly_fields = ["state_label", "order_link", "stripe_link", "found_at", "resolved"]
    actions_detail = ["resolve"]

    found_at = time_column("created_at", "found at")
    resolved = time_column("resolved_at", "resolved")

    @display(
        description="state",
        label={"open": "danger", "mended": "success", "resolved": "info"},
    )
    def state_label(self, discrepancy: Discrepancy) -> str:
        if discrepancy.mended:
            return "mended"
        return "resolved" if discrepancy.resolved_at else "open"

    @display(description="order", empty_value=NOTHING)
    def order_link(self, discrepancy: Discrepancy) -> SafeString | None:
        order_id = discrepancy.order_id
        return link("billing_order_change", order_id, f"{str(order_id)[:8]}…") if order_id else None

    @display(description="at Stripe", ordering="stripe_id", empty_value=NOTHING)
    def stripe_link(self, discrepancy: Discrepancy) -> SafeString | None:
        stripe_id = discrepancy.stripe_id
        if not stripe_id:
            return None
        place = PLACES.get(stripe_id.partition("_")[0], SEARCH)
        mode = "/test" if "_test_" in settings.STRIPE_SECRET_KEY else ""
        return format_html(
            '<a class="link" href="{}{}/{}{}" title="{}" rel="noreferrer" target="_blank">{}…</a>',
            *(DASHBOARD, mode, place, quote(stripe_id, safe=""), stripe_id, stripe_id[:14]),
        )

    def has_resolve_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return request.user.has_perm("billing.change_discrepancy")

    @action(description="Resolve", permissions=["resolve"], icon="task_alt", url_path="resolve")
    def resolve(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Say what was done about it, under one's name; the first word stays."""
        discrepancy = self.get_object(request, object_id)
        if discrepancy is None:
            raise Http404
        if not self.has_resolve_permission(request):
            raise PermissionDenied
        form = NoteForm(request.POST or None)
        if form.is_valid():
            self._resolve(request, discrepancy, form.cleaned_data["note"])
            return redirect("admin:billing_discrepancy_change", discrepancy.pk)
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "original": discrepancy,
            "title": "Resolve",
            "form": form,
            "operator": request.user,
        }
        return TemplateResponse(request, "admin/billing/resolve.html", context)

    def _resolve(self, request: HttpRequest, discrepancy: Discrepancy, note: str) -> None:
        operator = cast(User, request.user)
        still_open = Discrepancy.objects.open().filter(pk=discrepancy.pk)
        if still_open.update(resolved_at=Now(), resolved_by=operator.email, note=note):
            keep_in_log(request, discrepancy, f"Resolved: {note}")
            messages.success(request, f"Resolved by {operator.email}: {note}")
        else:
            messages.error(request, "It does not stand open any more. Nothing was changed.")


@admin.register(Reconciliation)
class ReconciliationAdmin(ReadOnlyAdmin):
    """Each comparison with Stripe: how far it looked back, what it looked at, and what it found."""

    list_display = ["began", "back_to", "ended", "outcome_label", "compared", "mended_count", "open_count"]
    list_filter = [("began_at", DaysFilter)]
    fields = ["began", "back_to", "ended", "outcome_label", "error", "compared"]
    readonly_fields = ["began", "back_to", "ended", "outcome_label", "compared"]

    began = time_column("began_at", "began")
    back_to = time_column("since", "looked back to")
    ended = time_column("ended_at", "ended")
    mended_count = number_column("mended", "mended")
    open_count = number_column("left_open", "left open")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Reconciliation]:
        mended = Q(discrepancies__mended=True)
        return (
            super()
            .get_queryset(request)
            .annotate(
                mended=Count("discrepancies", filter=mended),
                left_open=Count("discrepancies", filter=~mended),
            )
        )

    @display(description="outcome", label={"complete": "success", "failed": "danger"})
    def outcome_label(self, run: Reconciliation) -> str:
        if run.ended_at is None:
            return "running"
        return "failed" if run.error else "complete"

    @display(description="compared", empty_value=NOTHING)
    def compared(self, run: Reconciliation) -> str | None:
        return ", ".join(f"{count:,} {name}" for name, count in run.checked.items()) or None
