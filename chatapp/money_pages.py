"""The operator's pages of money: a summary of a span of days, and tables per day, model and user, each also as CSV."""

from datetime import UTC, date, timedelta
from functools import partial
from typing import Any
from urllib.parse import urlencode

from django import forms
from django.core.exceptions import PermissionDenied, ValidationError
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from unfold.sites import UnfoldAdminSite

from accounts.models import User
from billing.models import LanguageModel, Transfer
from billing.templatetags.credits import money as written
from chatapp import money
from chatapp.money import Filters, Line, Span

# Who may see what everybody used, paid and has.
NEEDED = [
    "accounts.view_user",
    "billing.view_account",
    "billing.view_order",
    "billing.view_transfer",
    "conversations.view_turn",
]
LINES_ON_A_PAGE = 100
DAYS_AT_FIRST = 30
GIVEN = ["bought", "welcome", "granted", "adjusted"]
TAKEN = ["expired", "refunded", "disputed"]
TITLES = {
    "turns": "Turns",
    "failed": "Failed",
    "prompt_tokens": "Prompt",
    "output_tokens": "Output",
    "charged": "Revenue",
    "cost": "Cost",
    "house": "House",
    "margin": "Margin",
    "overrun": "Overruns",
    "bought": "Bought",
    "welcome": "Welcome",
    "granted": "Promotions",
    "adjusted": "Adjusted",
    "expired": "Expired",
    "refunded": "Refunded",
    "disputed": "Disputed",
}
KEPT = ["first", "last", "model", "user", "q", "o", "p"]
OF_MODELS = [name for name in TITLES if name not in GIVEN + TAKEN]


class SpanForm(forms.Form):
    """What the pages are of. Whatever is not asked for is not filtered by; no days are the last thirty."""

    first = forms.DateField(required=False, label="From", widget=forms.DateInput({"type": "date"}))
    last = forms.DateField(required=False, label="To", widget=forms.DateInput({"type": "date"}))
    model = forms.CharField(required=False, max_length=80, widget=forms.HiddenInput)
    user = forms.UUIDField(required=False, widget=forms.HiddenInput)
    q = forms.CharField(required=False, max_length=100, label="E-mail")

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        last = cleaned.get("last") or max(cleaned.get("first") or date.min, _today())
        first = cleaned.get("first") or last - timedelta(days=DAYS_AT_FIRST - 1)
        if first > last:
            raise ValidationError("The first day comes after the last.")
        return {**cleaned, "first": first, "last": last}

    @property
    def span(self) -> Span:
        return Span(self.cleaned_data["first"], self.cleaned_data["last"])

    @property
    def filters(self) -> Filters:
        asked = self.cleaned_data
        return Filters(model=asked["model"], user=asked["user"], words=asked["q"])


def urls(site: UnfoldAdminSite) -> list[URLPattern]:
    return [
        path("money/", site.admin_view(partial(summary, site=site)), name="money"),
        path("money/<slug:group>/", site.admin_view(partial(table, site=site)), name="money_table"),
        path("money/<slug:group>.csv", site.admin_view(export), name="money_csv"),
    ]


def allowed(request: HttpRequest) -> bool:
    return request.user.has_perms(NEEDED)


def summary(request: HttpRequest, *, site: UnfoldAdminSite) -> HttpResponse:
    """What came in, what was earned, and what is owed: each figure with what it means."""
    form = _asked(request)
    context = _context(request, form, site, group="")
    if form.is_valid():
        owed = money.owed(form.span)
        context |= {
            "total": (total := money.table("day", form.span, limit=0).total),
            "paid": _paid(total.paid),
            "paid_back": _paid(total.paid_back),
            "kept": _paid(total.kept),
            "owed": owed,
            "movements": [
                (kind.label, owed.movements[kind]) for kind in Transfer.Kind if kind in owed.movements
            ],
        }
    return TemplateResponse(request, "admin/money/summary.html", context)


def table(request: HttpRequest, group: str, *, site: UnfoldAdminSite) -> HttpResponse:
    """The lines per day, model or user, sorted as asked, with their total."""
    form = _asked(request, group)
    context = _context(request, form, site, group)
    if form.is_valid():
        sort = request.GET.get("o", "")
        number = max(1, int(page)) if (page := request.GET.get("p", "1")).isdecimal() and len(page) < 9 else 1
        found = money.table(
            group,
            form.span,
            form.filters,
            sort=sort,
            limit=LINES_ON_A_PAGE,
            offset=(number - 1) * LINES_ON_A_PAGE,
        )
        columns = OF_MODELS if group == "model" or form.filters.model else list(TITLES)
        pages = Paginator(range(found.count), LINES_ON_A_PAGE)
        context |= {
            "headings": _headings(request, group, columns, sort),
            "lines": [_row(line, columns, group, form) for line in found.lines],
            "total": _row(found.total, columns, group, form),
            "count": found.count,
            "has_paid": columns is not OF_MODELS,
            "page_links": _page_links(request, pages, number),
            "csv_url": f"{reverse('admin:money_csv', args=[group])}?{_kept(request, o=None, p=None)}",
        }
    return TemplateResponse(request, "admin/money/table.html", context)


def export(request: HttpRequest, group: str) -> HttpResponse:
    """All lines of the table as CSV."""
    form = _asked(request, group)
    if not form.is_valid():
        raise Http404("There is no such span of days.")
    found = money.table(group, form.span, form.filters, sort=request.GET.get("o", ""))
    text = money.as_csv(found.lines, group, sorted(found.total.kept))
    response = HttpResponse(text, "text/csv; charset=utf-8")
    name = f"money-per-{group}-{form.span.first}-{form.span.last}.csv"
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    return response


def _asked(request: HttpRequest, group: str = "day") -> SpanForm:
    if not allowed(request):
        raise PermissionDenied
    if group not in money.KEYS:
        raise Http404(f"Money is told per {', '.join(money.KEYS)}.")
    return SpanForm({name: request.GET.get(name, "") for name in SpanForm.base_fields})


def _context(request: HttpRequest, form: SpanForm, site: UnfoldAdminSite, group: str) -> dict[str, Any]:
    tabs = {"Summary": reverse("admin:money")}
    tabs |= {f"Per {name}": reverse("admin:money_table", args=[name]) for name in money.KEYS}
    kept = _kept(request, o=None, p=None, model=None, user=None, q=None)
    context = {
        **site.each_context(request),
        "title": f"Money per {group}" if group else "Money",
        "form": form,
        "group": group,
        "tabs": [(title, f"{url}?{kept}", url == request.path) for title, url in tabs.items()],
        "spans": [
            (title, f"?{_kept(request, p=None, first=f'{first}', last=f'{last}')}")
            for title, (first, last) in _spans(_today()).items()
        ],
    }
    if form.is_valid():
        context |= {"span": form.span, "of": _of(request, form.filters)}
    return context


def _of(request: HttpRequest, filters: Filters) -> list[tuple[str, str]]:
    """What the lines are filtered by, each with the way out of it."""
    found = []
    if filters.model:
        model = LanguageModel.objects.filter(pk=filters.model).first()
        found.append((str(model or filters.model), f"?{_kept(request, model=None, p=None)}"))
    if filters.user:
        person = User.objects.filter(pk=filters.user).first()
        found.append((str(person or "a deleted person"), f"?{_kept(request, user=None, p=None)}"))
    return found


def _headings(request: HttpRequest, group: str, columns: list[str], sort: str) -> list[dict[str, str]]:
    """Each sorts by its column, at first from the most to the least."""
    titles = {"label": group.capitalize(), **{name: TITLES[name] for name in columns}}
    headings = []
    for name, title in titles.items():
        turned = name if sort == f"-{name}" else f"-{name}"
        arrow = {name: "ascending", f"-{name}": "descending"}.get(sort, "")
        headings.append({"title": title, "url": f"?{_kept(request, o=turned, p=None)}", "sorted": arrow})
    return headings


def _row(line: Line, columns: list[str], group: str, form: SpanForm) -> dict[str, Any]:
    """A line as it is written; its name leads to its days, and a day to its people."""
    first, last = form.span.first, form.span.last
    query = {"model": form.filters.model, "user": form.filters.user or "", "first": first, "last": last}
    if group == "day":
        query |= {"first": line.label or "", "last": line.label or ""}
    else:
        query[group] = line.key or ""
    narrower = reverse("admin:money_table", args=["user" if group == "day" else "day"])
    return {
        "name": line.named,
        "url": f"{narrower}?{urlencode(query)}" if line.key else "",
        "cells": [(getattr(line, name), name in money.CREDITS) for name in columns],
        "money": [_paid(line.paid), _paid(line.paid_back)],
    }


def _paid(paid: dict[str, int]) -> str:
    return " + ".join(written(cents, currency) for currency, cents in sorted(paid.items())) or "–"


def _page_links(request: HttpRequest, pages: Paginator, number: int) -> list[tuple[str, str]]:
    if pages.num_pages == 1:
        return []
    return [
        (str(page), "" if page == number else f"?{_kept(request, p=str(page))}")
        for page in pages.get_elided_page_range(min(number, pages.num_pages))
    ]


def _kept(request: HttpRequest, **changes: str | None) -> str:
    """The query of this page with these changes; None leaves a word out."""
    kept = {name: value for name, value in request.GET.items() if name in KEPT} | changes
    return urlencode({name: value for name, value in kept.items() if value})


def _today() -> date:
    return timezone.now().astimezone(UTC).date()


def _spans(today: date) -> dict[str, tuple[date, date]]:
    month = today.replace(day=1)
    before = month - timedelta(days=1)
    return {
        "Today": (today, today),
        "7 days": (today - timedelta(days=6), today),
        "30 days": (today - timedelta(days=29), today),
        "This month": (month, today),
        "Last month": (before.replace(day=1), before),
        "This year": (today.replace(month=1, day=1), today),
    }
