"""How rows are read in the admin: pages on which nothing can be changed, amounts that line up, links to people.

A column whose name ends in `_credits`, `_tokens`, `_count`, `_ms`, `_usd` or `_price` is a number: css/admin.css
sets it flush right.
"""

import uuid
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, ClassVar

from django.contrib.admin import ShowFacets
from django.contrib.admin.utils import quote
from django.db.models import Model, Q, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe
from unfold.admin import ModelAdmin
from unfold.contrib.filters.admin import RangeDateFilter
from unfold.decorators import display
from unfold.views import ChangeList

from accounts.models import User
from billing.models import Account, Transfer
from billing.templatetags.amounts import amount

NOTHING = "–"


class Found(ChangeList):
    """A list that says how many rows it has, and how many there are in all only where it leaves some out."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        if not self.query and not self.has_active_filters:
            self.full_result_count = self.result_count


class ReadOnlyAdmin(ModelAdmin):
    """Rows that are written elsewhere and only read here: no add, change or delete, for nobody.

    A search for an id looks it up by index in `id_fields`; other words are searched for in `search_fields`.
    """

    actions: list[str] | None = None
    list_filter_submit = True
    list_fullwidth = True
    show_full_result_count = False
    # Counting every choice of every filter would read the whole table once for each.
    show_facets = ShowFacets.NEVER
    id_fields: ClassVar[list[str]] = []

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return Found

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        wanted = uuid_in(search_term)
        if wanted is None or not self.id_fields:
            return super().get_search_results(request, queryset, search_term)
        return queryset.filter(Q.create([(name, wanted) for name in self.id_fields], connector=Q.OR)), False


class DaysFilter(RangeDateFilter):
    """From a day to a day, both whole; days are UTC's. A date that is none does not filter."""

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        first, last = (_day(self.used_parameters.get(f"{self.field_path}_{end}")) for end in ("from", "to"))
        if first:
            queryset = queryset.filter(**{f"{self.field_path}__gte": datetime.combine(first, time(), UTC)})
        if last:
            after = datetime.combine(last, time(), UTC) + timedelta(days=1)
            queryset = queryset.filter(**{f"{self.field_path}__lt": after})
        return queryset


def credits_column(field: str, description: str) -> Callable[[Any, Any], SafeString | None]:
    """A column of microcredits kept in `field`, sortable."""

    @display(description=description, ordering=field, empty_value=NOTHING)
    def column(self: Any, row: Any) -> SafeString | None:
        value = getattr(row, field)
        return None if value is None else amount(value)

    return column


def number_column(field: str, description: str) -> Callable[[Any, Any], str | None]:
    """A column of whole numbers kept in `field`, sortable, with their thousands apart."""

    @display(description=description, ordering=field, empty_value=NOTHING)
    def column(self: Any, row: Any) -> str | None:
        value = getattr(row, field)
        return None if value is None else f"{value:,}"

    return column


def time_column(field: str, description: str) -> Callable[[Any, Any], SafeString | None]:
    """A column of moments kept in `field`, sortable: short, in UTC, to the second for who points at it."""

    @display(description=description, ordering=field, empty_value=NOTHING)
    def column(self: Any, row: Any) -> SafeString | None:
        value = getattr(row, field)
        if value is None:
            return None
        at = value.astimezone(UTC)
        return format_html(
            '<time class="moment" title="{}">{}</time>', f"{at:%Y-%m-%d %H:%M:%S} UTC", f"{at:%Y-%m-%d %H:%M}"
        )

    return column


def over(value: SafeString | str, part: SafeString | str) -> SafeString:
    """A value, and in small below it what belongs to it, if anything."""
    return format_html('{} <small class="part">{}</small>', value, part) if part else format_html("{}", value)


def link(view: str, key: Any, text: object) -> SafeString:
    """A link to one row's page in the admin."""
    return format_html('<a class="link" href="{}">{}</a>', reverse(f"admin:{view}", args=[quote(key)]), text)


def links_to(transfers: Iterable[Transfer], *, signed: bool = False) -> SafeString:
    """Transfers one below the other: what each was, and how much; `signed`: with a minus if it left a wallet."""
    rows = (
        (
            link("billing_transfer_change", transfer.pk, transfer.get_kind_display()),
            amount(
                -transfer.amount if signed and transfer.debit.kind == Account.Kind.WALLET else transfer.amount
            ),
        )
        for transfer in transfers
    )
    return format_html_join(mark_safe("<br>"), "{} {}", rows)


def person(user: User | None) -> SafeString | str:
    """A link to whose row it is; rows outlive people."""
    return "deleted" if user is None else link("accounts_user_change", user.pk, user.email)


@display(description="user", ordering="user__email")
def person_column(self: Any, row: Any) -> SafeString | str:
    """The column of a row's `user`, which the list has selected with it."""
    return person(row.user)


def uuid_in(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text.strip())
    except ValueError:
        return None


def _day(text: Any) -> date | None:
    try:
        return date.fromisoformat(text)
    except (TypeError, ValueError):
        return None
