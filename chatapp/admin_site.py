"""The admin as a site: who is let in, what its pages may run, and how one finds one's way in it."""

from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any, cast

from allauth.account.decorators import secure_admin_login
from allauth.mfa.models import Authenticator
from allauth.mfa.utils import is_mfa_enabled
from csp.constants import UNSAFE_EVAL
from csp.decorators import csp_update
from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.urls import URLPattern, URLResolver, reverse
from django.utils.decorators import method_decorator
from unfold.sites import UnfoldAdminSite

from accounts.models import User
from chatapp import money_pages

View = Callable[..., HttpResponseBase]

FACTORS = [Authenticator.Type.TOTP, Authenticator.Type.WEBAUTHN]


class OperatorSite(UnfoldAdminSite):
    """Django's admin behind allauth's door: its login, its rate limits, its second factor."""

    index_title = "Dashboard"

    def admin_view(self, view: View, cacheable: bool = False) -> View:
        # Unfold's pages are Alpine's, which compiles the expressions in their attributes with `new Function`; its
        # build without that does not understand them. So the admin's pages, and no other, may evaluate strings.
        # Inline scripts and styles stay forbidden: `each_context` and templates/admin/base.html avoid them.
        may_evaluate = csp_update({"script-src": [UNSAFE_EVAL]})
        return may_evaluate(super().admin_view(self._behind_second_factor(view), cacheable))

    def get_urls(self) -> list[URLPattern | URLResolver]:
        return [*money_pages.urls(self), *super().get_urls()]

    def each_context(self, request: HttpRequest) -> dict[str, Any]:
        # Unfold writes colours into an inline <style>; ours come from css/admin.css.
        return {**super().each_context(request), "colors": None}

    @method_decorator(secure_admin_login)
    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Anonymous visitors go to the site's own login; who is signed in and not staff is refused with 403."""
        return redirect("admin:index")

    def password_change(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """The site's own page, which asks for the old password, limits tries and tells the owner by mail."""
        return redirect("account_change_password")

    def _behind_second_factor(self, view: View) -> View:
        @wraps(view)
        def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            # The site let them in already: this is staff.
            if settings.STAFF_NEED_SECOND_FACTOR and not is_mfa_enabled(
                cast(User, request.user), types=FACTORS
            ):
                messages.info(
                    request,
                    "The admin needs a second factor. Set up an authenticator app or a passkey, then open it again.",
                )
                return redirect("mfa_index")
            return view(request, *args, **kwargs)

        return guarded


def account_links(request: HttpRequest) -> list[dict[str, str]]:
    """The links below the operator's own name."""
    return [
        {"title": "Settings", "link": reverse("settings")},
        {"title": "Change password", "link": reverse("account_change_password")},
        {"title": "Second factor", "link": reverse("mfa_index")},
    ]


def sidebar(request: HttpRequest) -> list[dict[str, Any]]:
    """What this member of staff may see, grouped by what they come for."""
    return [
        {
            "title": "",
            "items": [
                {"title": "Dashboard", "icon": "monitoring", "link": reverse("admin:index")},
                *_money(request),
            ],
        },
        *_groups(
            request,
            People=[
                ("Users", "group", "accounts.user"),
                ("API keys", "key", "accounts.apikey"),
                ("Groups", "badge", "auth.group"),
                ("What staff did", "history", "admin.logentry"),
            ],
            Chat=[
                ("Conversations", "forum", "conversations.conversation"),
                ("Turns", "bolt", "conversations.turn"),
                ("Usage", "bar_chart", "streaming.usagerecord"),
                ("Guard findings", "shield", "streaming.guardfinding"),
                ("House usage", "home_work", "streaming.houseusage"),
            ],
            Credits=[
                ("Transfers", "swap_horiz", "billing.transfer"),
                ("Holds", "hourglass_top", "billing.hold"),
                ("Accounts", "account_balance_wallet", "billing.account"),
            ],
            Shop=[
                ("Orders", "receipt_long", "billing.order"),
                ("Stripe events", "webhook", "billing.stripeevent"),
                ("Discrepancies", "difference", "billing.discrepancy"),
                ("Reconciliations", "rule", "billing.reconciliation"),
                ("Packs", "sell", "billing.pack"),
                ("Plans", "event_repeat", "billing.plan"),
                ("Subscriptions", "autorenew", "billing.subscription"),
                ("Automatic top-ups", "battery_charging_full", "billing.autotopup"),
            ],
            Catalogue=[
                ("Language models", "neurology", "billing.languagemodel"),
                ("Price book", "price_change", "billing.price"),
            ],
        ),
    ]


def _money(request: HttpRequest) -> list[dict[str, str]]:
    if not money_pages.allowed(request):
        return []
    return [{"title": "Money", "icon": "payments", "link": reverse("admin:money")}]


def _groups(request: HttpRequest, **groups: Iterable[tuple[str, str, str]]) -> list[dict[str, Any]]:
    shown = []
    for title, entries in groups.items():
        items = [
            {"title": name, "icon": icon, "link": reverse(f"admin:{label.replace('.', '_')}_changelist")}
            for name, icon, label in entries
            if _may_view(request, label)
        ]
        if items:
            shown.append({"title": title, "separator": True, "items": items})
    return shown


def _may_view(request: HttpRequest, label: str) -> bool:
    app, _, model = label.partition(".")
    return request.user.has_perm(f"{app}.view_{model}") or request.user.has_perm(f"{app}.change_{model}")
