"""The statement and the chart on the billing page: what a query asks for, found and with the links around it."""

from typing import Any

from django.http import QueryDict
from django.urls import reverse
from django.utils.http import urlencode

from accounts.models import User
from billing import movements, notices, statement, usage_chart
from billing.models import Account
from billing.movements import Page
from billing.statement_form import StatementForm

LINES_PER_PAGE = 25


def shown(query: QueryDict, user: User, wallet: Account) -> dict[str, Any]:
    """The context of templates/billing/statement.html, use.html and low_balance.html.

    `statement_problems` is what is wrong with the query, in sentences; then there are no lines.
    """
    form = StatementForm(query, user=user)
    periods = usage_chart.periods(wallet)
    month = query.get("month", "")
    period = next((period for period in periods if period.month == month), None)
    problems = form.problems
    if period is None:
        problems = f"There is no chart of that month. Choose one of the list. {problems}".strip()
    page = Page([], has_newer=False, has_older=False) if problems else _page(query, form, wallet)
    carried = {**form.chosen, **({"month": month} if month and period else {})}
    return {
        "statement_form": form,
        "statement_problems": problems,
        "is_filtered": bool(form.chosen),
        "lines": statement.lines(page.transfers, wallet),
        "newest": page.has_newer and _link(carried),
        "newer": page.has_newer and _link(carried, after=page.transfers[0].pk if page.transfers else 0),
        "older": page.has_older and _link(carried, before=page.transfers[-1].pk if page.transfers else 0),
        "file": f"{reverse('billing_statement')}{_query(form.chosen)}",
        "chart": usage_chart.chart(user, period or periods[0]),
        "periods": periods,
        "filters_kept": form.chosen,
        "notice": notices.notice_of(user),
    }


def _page(query: QueryDict, form: StatementForm, wallet: Account) -> Page:
    """The page after or before a line. One that cannot be is the nearest that can."""
    filters = form.filters
    if (after := _id(query.get("after", ""))) is not None:
        page = movements.newer(wallet, filters, than=after, limit=LINES_PER_PAGE)
        if page.has_newer:
            return page
    elif (before := _id(query.get("before", ""))) is not None:
        page = movements.older(wallet, filters, than=before, limit=LINES_PER_PAGE)
        if page.transfers:
            return page
    return movements.older(wallet, filters, than=None, limit=LINES_PER_PAGE)


def _id(text: str) -> int | None:
    # Python refuses to read a number of thousands of digits.
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None


def _link(carried: dict[str, str], **place: int) -> str:
    return f"{reverse('billing')}{_query({**carried, **place})}#statement"


def _query(values: dict[str, Any]) -> str:
    return f"?{urlencode(values)}" if values else ""
