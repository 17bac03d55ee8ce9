"""The operator's page of a person: it shows what all apps know of them, so it stands above the apps.

And the log of what staff did.
"""

from typing import Any

from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.admin import UserAdmin
from django.db.models import Count, F, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import URLPattern, path, reverse
from django.utils.decorators import method_decorator
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.views.decorators.http import require_POST
from unfold.admin import ModelAdmin
from unfold.contrib.filters.admin import BooleanRadioFilter
from unfold.decorators import action, display
from unfold.enums import ActionVariant
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from accounts.admin import AddressesOfPerson, ApiKeysOfPerson, SecondFactorsOfPerson
from accounts.models import User
from billing.admin import adjustments, grants
from billing.admin.reading import (
    NOTHING,
    DaysFilter,
    Found,
    ReadOnlyAdmin,
    credits_column,
    time_column,
    uuid_in,
)
from chatapp import leaving
from chatapp.conversations.models import Turn


class NewPersonForm(UserCreationForm):
    class Meta:
        model = User
        fields = ["email", "name"]


class PersonForm(UserChangeForm):
    class Meta:
        model = User
        fields = "__all__"


@admin.register(User)
class PersonAdmin(UserAdmin, ModelAdmin):
    """People with their balance. Their addresses and keys are their own to change; credits are adjusted by transfer."""

    form = PersonForm
    add_form = NewPersonForm
    change_password_form = AdminPasswordChangeForm
    list_display = [
        *("email", "name", "available_credits", "held_credits", "turn_count"),
        *("joined", "seen", "is_active", "is_staff"),
    ]
    list_filter = [
        ("is_active", BooleanRadioFilter),
        ("is_staff", BooleanRadioFilter),
        ("date_joined", DaysFilter),
    ]
    list_filter_submit = True
    list_fullwidth = True
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    search_fields = ["email", "name"]
    search_help_text = "E-mail, name or id"
    ordering = ["-date_joined"]
    fieldsets = [
        (None, {"fields": ["email", "name", "is_active", "joined", "seen", "password"]}),
        ("Credits", {"fields": ["available_credits", "held_credits", "turn_count", "elsewhere"]}),
        ("Rights", {"fields": ["is_staff", "is_superuser", "groups"]}),
    ]
    add_fieldsets = [(None, {"fields": ["email", "name", "usable_password", "password1", "password2"]})]
    readonly_fields = [
        "joined",
        "seen",
        "available_credits",
        "held_credits",
        "turn_count",
        "elsewhere",
    ]
    # Rights are given to groups, never to one person alone.
    filter_horizontal = []
    inlines = [ApiKeysOfPerson, AddressesOfPerson, SecondFactorsOfPerson]
    actions = ["grant_to_selected"]
    actions_detail = ["adjust_credits", "grant_credits"]

    available_credits = credits_column("available", "available")
    held_credits = credits_column("held", "held")
    joined = time_column("date_joined", "joined")
    seen = time_column("last_login", "last login")

    def get_queryset(self, request: HttpRequest) -> QuerySet[User]:
        turns = Turn.objects.filter(user=OuterRef("pk")).order_by().values("user")
        counted = Coalesce(Subquery(turns.annotate(count=Count("pk")).values("count")), 0)
        return (
            super()
            .get_queryset(request)
            .select_related("wallet")
            .annotate(
                # A wallet is opened when its owner first looks at it.
                available=Coalesce(F("wallet__balance") - F("wallet__held"), 0),
                held=Coalesce(F("wallet__held"), 0),
                turns_counted=counted,
            )
        )

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[Found]:
        return Found

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[User], search_term: str
    ) -> tuple[QuerySet[User], bool]:
        wanted = uuid_in(search_term)
        if wanted is not None:
            return queryset.filter(pk=wanted), False
        return super().get_search_results(request, queryset, search_term)

    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> list[str]:
        fixed = list(super().get_readonly_fields(request, obj))
        if obj is not None:
            # An address is a login: it changes only through allauth, which verifies the new one.
            fixed.append("email")
        if not request.user.is_superuser:
            fixed += ["is_staff", "is_superuser", "groups"]
        return fixed

    def get_inlines(self, request: HttpRequest, obj: User | None) -> list[Any]:
        return self.inlines if obj else []

    def has_change_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        """Staff cannot change staff, above all not their passwords: only a superuser can."""
        allowed = super().has_change_permission(request, obj)
        if isinstance(obj, User) and (obj.is_staff or obj.is_superuser):
            return allowed and request.user.is_superuser
        return allowed

    def has_delete_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        return request.user.is_active and request.user.is_superuser

    def delete_model(self, request: HttpRequest, obj: User) -> None:
        leaving.erase(obj)

    def has_adjust_credits_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return adjustments.allowed(request)

    @display(description="turns", ordering="turns_counted")
    def turn_count(self, user: User) -> int:
        return user.turns_counted  # type: ignore[attr-defined]

    @display(description="see also")
    def elsewhere(self, user: User) -> SafeString:
        """The lists of what is this person's."""
        of_user, wallet = f"user__id__exact={user.pk}", getattr(user, "wallet", None)
        lists = [
            ("Conversations", "conversations_conversation", of_user),
            ("Turns", "conversations_turn", of_user),
            ("Usage", "streaming_usagerecord", of_user),
            ("Guard findings", "streaming_guardfinding", of_user),
            ("Orders", "billing_order", of_user),
            *([("Transfers", "billing_transfer", f"wallet={wallet.pk}")] if wallet else []),
        ]
        return format_html_join(
            " · ",
            '<a class="link" href="{}?{}">{}</a>',
            ((reverse(f"admin:{view}_changelist"), query, title) for title, view, query in lists),
        )

    @action(
        description="Adjust credits",
        permissions=["adjust_credits"],
        url_path="adjust-credits",
        icon="exposure",
        variant=ActionVariant.PRIMARY,
    )
    def adjust_credits(self, request: HttpRequest, object_id: str) -> HttpResponse:
        person = self.get_object(request, object_id)
        if person is None:
            raise Http404
        return adjustments.adjust(request, person, self.admin_site)

    @action(
        description="Give promotional credits",
        permissions=["adjust_credits"],
        url_path="grant-credits",
        icon="redeem",
    )
    def grant_credits(self, request: HttpRequest, object_id: str) -> HttpResponse:
        person = self.get_object(request, object_id)
        if person is None:
            raise Http404
        return grants.grant(request, person, self.admin_site)

    @admin.action(description="Give promotional credits", permissions=["adjust_credits"])
    def grant_to_selected(self, request: HttpRequest, people: QuerySet[User]) -> HttpResponse:
        return grants.choose(request, people, self.admin_site)

    @method_decorator(require_POST)
    def grant_to_many(self, request: HttpRequest) -> HttpResponse:
        return grants.grant_to_many(request, self.admin_site)

    def get_urls(self) -> list[URLPattern]:
        many = self.admin_site.admin_view(self.grant_to_many)
        return [path("grant-credits/", many, name="accounts_user_grant_to_many"), *super().get_urls()]

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        # People are deleted one by one, after a look at who it is.
        return {
            name: entry for name, entry in super().get_actions(request).items() if name != "delete_selected"
        }


@admin.register(LogEntry)
class LogEntryAdmin(ReadOnlyAdmin):
    """Who of the staff changed or read what."""

    list_display = ["when", "user", "what", "content_type", "object_repr", "change"]
    list_filter = [("action_time", DaysFilter)]
    list_select_related = ["user", "content_type"]
    search_fields = ["user__email", "object_repr", "change_message"]
    search_help_text = "E-mail of staff, name of what was changed, or what was done"
    fields = ["when", "user", "what", "content_type", "object_repr", "change"]
    readonly_fields = ["when", "what", "change"]

    when = time_column("action_time", "time")

    @display(description="action", ordering="action_flag")
    def what(self, entry: LogEntry) -> str:
        return entry.get_action_flag_display()

    @display(description="change", empty_value=NOTHING)
    def change(self, entry: LogEntry) -> SafeString | None:
        message = entry.get_change_message()
        return format_html("{}", message) if message else None
