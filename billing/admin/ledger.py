"""The books, to be read: whatever the operator does to credits is a transfer, made by billing.ledger."""

from typing import Any

from django.contrib import admin
from django.db.models import BigIntegerField, Case, F, OuterRef, Q, QuerySet, Subquery, Sum, When
from django.db.models.functions import Coalesce
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.utils import timezone
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import ChoicesCheckboxFilter
from unfold.decorators import display

from billing.admin.reading import (
    NOTHING,
    DaysFilter,
    ReadOnlyAdmin,
    credits_column,
    link,
    links_to,
    person,
    person_column,
    time_column,
)
from billing.models import Account, Hold, Lot, Transfer
from billing.templatetags.amounts import amount

# The newest lots of a wallet; a subscription brings one each period.
MOST_LOTS = 100


def _moved(side: str) -> Coalesce:
    """Microcredits of all transfers that name an account as their `side`."""
    sums = (
        Transfer.objects.filter(**{side: OuterRef("pk")}).order_by().values(side).annotate(sum=Sum("amount"))
    )
    return Coalesce(Subquery(sums.values("sum")), 0, output_field=BigIntegerField())


@admin.register(Account)
class AccountAdmin(ReadOnlyAdmin):
    """Wallets with the balance that PostgreSQL keeps, and the house's accounts with the sum of their transfers."""

    list_display = ["whose", "kind", "sum_credits", "held_credits", "available_credits", "opened"]
    list_filter = [("kind", ChoicesCheckboxFilter)]
    search_fields = ["user__email"]
    search_help_text = "E-mail"
    ordering = ["kind", "-pk"]
    fields = ["kind", "person", "sum_credits", "held_credits", "available_credits", "opened", "lots"]
    readonly_fields = ["person", "sum_credits", "held_credits", "available_credits", "opened", "lots"]

    person = person_column
    sum_credits = credits_column("sum", "balance")
    held_credits = credits_column("held", "held")
    available_credits = credits_column("left", "available")
    opened = time_column("created_at", "opened")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Account]:
        # A house account keeps no balance. PostgreSQL adds up the transfers of those rows only, not of wallets.
        kept = When(kind=Account.Kind.WALLET, then=F("balance"))
        left = When(kind=Account.Kind.WALLET, then=F("balance") - F("held"))
        return (
            super()
            .get_queryset(request)
            .select_related("user")
            .annotate(sum=Case(kept, default=_moved("credit") - _moved("debit")), left=Case(left))
        )

    @display(description="credits that expire", empty_value=NOTHING)
    def lots(self, account: Account) -> SafeString | None:
        """Each lot of a wallet that has something left, or expired lately: in the order in which they are used."""
        lots = account.lots.select_related("transfer").order_by("-expires_at")[:MOST_LOTS]
        context = {"lots": reversed(lots), "now": timezone.now()}
        return render_to_string("admin/billing/lots.html", context) if lots else None

    @display(description="account", ordering="user__email")
    def whose(self, account: Account) -> str:
        return _name(account) if account.kind == Account.Kind.WALLET else "The house"


class WalletFilter(admin.SimpleListFilter):
    """The transfers of one wallet, on either side. Nobody chooses from all wallets: the page of a person asks."""

    title = parameter_name = "wallet"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        asked = request.GET.get("wallet", "")
        return [(asked, f"Account {asked}")] if asked.isdecimal() else []

    def queryset(self, request: HttpRequest, queryset: QuerySet[Transfer]) -> QuerySet[Transfer]:
        wallet = self.value()
        return queryset.filter(Q(debit=int(wallet)) | Q(credit=int(wallet))) if wallet else queryset


@admin.register(Transfer)
class TransferAdmin(ReadOnlyAdmin):
    """Every movement of credits. From the wallet's side: + is what came in, − what went out."""

    list_display = ["made", "kind", "giver", "taker", "signed_credits", "after_credits", "why", "key"]
    list_filter = [("kind", ChoicesCheckboxFilter), ("created_at", DaysFilter), WalletFilter]
    list_select_related = ["debit__user", "credit__user"]
    search_fields = ["debit__user__email", "credit__user__email", "key"]
    search_help_text = "E-mail, key, or id of an order or turn"
    id_fields = ["hold", "order"]
    ordering = ["-pk"]
    fields = [
        *("key", "kind", "giver", "taker", "signed_credits", "after_credits", "reason", "made_by", "made"),
        *("expires", "left_credits", "source_link", "hold_link", "order_link"),
    ]
    readonly_fields = [
        *("giver", "taker", "signed_credits", "after_credits", "made"),
        *("expires", "left_credits", "source_link", "hold_link", "order_link"),
    ]

    made = time_column("created_at", "time")
    expires = time_column("expires_at", "credits expire")
    after_credits = credits_column("balance_after", "balance after")

    @display(description="from")
    def giver(self, transfer: Transfer) -> SafeString:
        return link("billing_account_change", transfer.debit_id, _name(transfer.debit))

    @display(description="to")
    def taker(self, transfer: Transfer) -> SafeString:
        return link("billing_account_change", transfer.credit_id, _name(transfer.credit))

    @display(description="amount", ordering="amount")
    def signed_credits(self, transfer: Transfer) -> SafeString:
        if transfer.debit.kind == Account.Kind.WALLET:
            return amount(-transfer.amount)
        return amount(transfer.amount, sign="+" if transfer.credit.kind == Account.Kind.WALLET else "")

    @display(description="why")
    def why(self, transfer: Transfer) -> str:
        until = f"until {transfer.expires_at:%Y-%m-%d %H:%M}" if transfer.expires_at else ""
        return " – ".join(filter(None, [transfer.reason, until, transfer.made_by]))

    @display(description="left of them", empty_value=NOTHING)
    def left_credits(self, transfer: Transfer) -> SafeString | None:
        lot = Lot.objects.filter(pk=transfer.pk).first()
        return amount(lot.remaining) if lot else None

    @display(description="expired from", empty_value=NOTHING)
    def source_link(self, transfer: Transfer) -> SafeString | None:
        source = transfer.source
        return link("billing_transfer_change", source.pk, source.get_kind_display()) if source else None

    @display(description="hold")
    def hold_link(self, transfer: Transfer) -> SafeString | None:
        return link("billing_hold_change", transfer.hold_id, transfer.hold_id) if transfer.hold_id else None

    @display(description="order")
    def order_link(self, transfer: Transfer) -> SafeString | None:
        return (
            link("billing_order_change", transfer.order_id, transfer.order_id) if transfer.order_id else None
        )


@admin.register(Hold)
class HoldAdmin(ReadOnlyAdmin):
    """Credits set aside for turns; a hold has its turn's id."""

    list_display = ["id", "owner", "amount_credits", "state", "began", "ended"]
    list_filter = [("state", ChoicesCheckboxFilter), ("created_at", DaysFilter)]
    list_select_related = ["account__user"]
    search_fields = ["account__user__email"]
    search_help_text = "E-mail, or id of a turn"
    id_fields = ["pk"]
    ordering = ["-created_at"]
    fields = ["id", "owner", "amount_credits", "state", "began", "ended", "became"]
    readonly_fields = ["owner", "amount_credits", "began", "ended", "became"]

    amount_credits = credits_column("amount", "amount")
    began = time_column("created_at", "began")
    ended = time_column("ended_at", "ended")

    @display(description="user", ordering="account__user__email")
    def owner(self, hold: Hold) -> SafeString | str:
        return person(hold.account.user)

    @display(description="became")
    def became(self, hold: Hold) -> SafeString | None:
        """The transfers that settled it."""
        return links_to(hold.transfers.order_by("pk")) or None


def _name(account: Account) -> str:
    if account.kind != Account.Kind.WALLET:
        return f"House: {account.get_kind_display()}"
    return account.user.email if account.user else f"Wallet {account.pk} of a deleted person"
