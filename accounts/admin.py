"""How the operator sees what signs people in: keys, addresses, second factors, and the groups of staff.

The page of a person stands in chatapp/admin.py, above the apps, since it also shows their credits and turns.
"""

from typing import Any, cast

from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.socialaccount.models import SocialAccount, SocialApp, SocialToken
from django.contrib import admin, messages
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth.admin import GroupAdmin
from django.contrib.auth.models import Group
from django.db.models import Model
from django.db.models.functions import Now
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from unfold.admin import ModelAdmin, TabularInline
from unfold.decorators import action, display
from unfold.enums import ActionVariant

from accounts.models import ApiKey, User

# Their pages would show secrets, or change behind allauth's back what the person's own pages change properly.
for hidden in (Authenticator, EmailAddress, SocialAccount, SocialApp, SocialToken, Group):
    admin.site.unregister(hidden)


def keep_in_log(request: HttpRequest, changed: Model, message: str) -> None:
    """Keep in the admin's log what this member of staff did to a row on a page that is none of Django's."""
    operator = cast(User, request.user)
    LogEntry.objects.log_actions(operator.pk, [changed], CHANGE, message, single_object=True)


@admin.register(Group)
class StaffGroupAdmin(GroupAdmin, ModelAdmin):
    """Django's groups of permissions in the look of this admin. Who changes one gives rights: superusers."""

    actions = None

    def has_add_permission(self, request: HttpRequest) -> bool:
        return request.user.is_superuser

    def has_change_permission(self, request: HttpRequest, obj: Group | None = None) -> bool:
        return request.user.is_superuser

    def has_delete_permission(self, request: HttpRequest, obj: Group | None = None) -> bool:
        return request.user.is_superuser


@admin.register(ApiKey)
class ApiKeyAdmin(ModelAdmin):
    """The keys of everybody: shown without their secret, which nobody has, and revoked for good."""

    list_display = ["name", "prefix", "user", "created_at", "last_used_at", "is_active"]
    list_filter = [("revoked_at", admin.EmptyFieldListFilter)]
    list_select_related = ["user"]
    search_fields = ["prefix", "user__email"]
    search_help_text = "Prefix or e-mail"
    fields = ["name", "prefix", "user", "created_at", "last_used_at", "revoked_at"]
    show_full_result_count = False
    actions = None
    actions_detail = ["revoke"]

    @display(description="active", boolean=True)
    def is_active(self, key: ApiKey) -> bool:
        return key.revoked_at is None

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: ApiKey | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: ApiKey | None = None) -> bool:
        # A person is deleted with their keys, which Django allows only who may delete both.
        return request.user.is_superuser

    def has_revoke_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return request.user.has_perm("accounts.change_apikey")

    @action(description="Revoke", permissions=["revoke"], variant=ActionVariant.DANGER)
    def revoke(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """End a key after asking once; ending it twice is the same as once."""
        key = self.get_object(request, object_id)
        if key is None:
            raise Http404
        if request.method != "POST":
            context = {
                **self.admin_site.each_context(request),
                "opts": self.opts,
                "original": key,
                "title": "Revoke this key?",
                "sentence": f"Programs that use “{key.name}” ({key.prefix}…) of {key.user} stop working at once.",
                "button": "Revoke the key",
                "variant": "danger",
            }
            return TemplateResponse(request, "admin/ask_once.html", context)
        if ApiKey.objects.filter(pk=key.pk, revoked_at=None).update(revoked_at=Now()):
            keep_in_log(request, key, "Revoked.")
            messages.success(request, f"The key “{key.name}” of {key.user} no longer works.")
        return redirect("admin:accounts_apikey_change", key.pk)


class OnlyShown(TabularInline):
    """Rows of a person that are changed elsewhere."""

    extra = 0
    tab = True

    def has_add_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        return False


class ApiKeysOfPerson(OnlyShown):
    model = ApiKey
    fields = readonly_fields = ["name", "prefix", "created_at", "last_used_at", "revoked_at"]
    show_change_link = True


class AddressesOfPerson(OnlyShown):
    model = EmailAddress
    verbose_name_plural = "addresses"
    fields = readonly_fields = ["email", "verified", "primary"]


class SecondFactorsOfPerson(OnlyShown):
    """Which second factors a person has, never their secrets."""

    model = Authenticator
    verbose_name = "second factor"
    verbose_name_plural = "second factors"
    fields = readonly_fields = ["type", "created_at", "last_used_at"]
