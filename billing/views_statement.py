"""The statement as a file, and what a person wants to be told of their balance."""

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from billing import ledger, notices
from billing.statement_file import as_csv
from billing.statement_form import LowBalanceForm, StatementForm
from billing.views import SeeOther, billing_page, person_of


@require_safe
@never_cache
@login_required
def statement_csv(request: HttpRequest) -> HttpResponse | StreamingHttpResponse:
    """The statement as a file, with the filters of the page."""
    user = person_of(request)
    form = StatementForm(request.GET, user=user)
    if form.problems:
        return HttpResponse(form.problems + "\n", status=400, content_type="text/plain; charset=utf-8")
    lines = as_csv(ledger.wallet_of(user), form.filters)
    response = StreamingHttpResponse(lines, content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="statement-{timezone.now():%Y-%m-%d}.csv"'
    return response


@require_POST
@login_required
def low_balance(request: HttpRequest) -> HttpResponse:
    """Set below which balance to be told by mail."""
    form = LowBalanceForm(request.POST)
    if not form.is_valid():
        problem = str(form.errors["threshold"][0])
        return billing_page(request, problem=problem, status=400)
    notices.set_low_balance(person_of(request), form.threshold_microcredits)
    messages.success(request, "Saved.")
    return SeeOther(reverse("billing") + "#low-balance")
