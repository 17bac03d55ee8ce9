"""The ledger: accounts, the transfers between them, the holds on wallets, and the lots that expire.

Every movement of credits is one Transfer: it debits one account and credits one other by the same amount, so
all accounts always sum to zero. Rows are appended and never changed; a mistake is mended by a further transfer.
What a person sees as their balance is kept on their wallet by PostgreSQL's own triggers (migration
0002_ledger_rules), in the statement that inserts the transfer; nothing else can write it. House accounts, which
take part in every transfer, keep no balance: a row that all turns update would make them wait for each other.

Amounts are integers of microcredits (10⁻⁶ credit; 1 credit = US$0.01) and always positive: the direction of a
transfer is told by its two accounts.

Credits that expire are a Lot of their own beside the balance that counts them. Lots are used before other credits,
soonest expiry first; each use is a row, and what is left when the day comes is booked as a transfer like any other.
What remains of all of a wallet's lots is never more than it has (migration 0022_lots_repay_debts): lots repay a debt
when they come, and a refund that leaves less uses them up. So an expiry takes no wallet below zero.
"""

import uuid

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

from billing.models.shop import Order


class Account(models.Model):
    """Where credits are: a person's wallet, or one of the house's accounts."""

    class Kind(models.TextChoices):
        WALLET = "wallet", "wallet"
        STRIPE = "stripe", "bought through Stripe"
        SIGNUP = "signup", "given at sign-up"
        PROMOTIONS = "promotions", "given as promotions"
        ADJUSTMENTS = "adjustments", "adjusted by the operator"
        USAGE = "usage", "used for answers"
        OVERRUNS = "overruns", "usage above holds, borne by the house"
        EXPIRED = "expired", "expired unused"

    kind = models.CharField(max_length=16, choices=Kind.choices)
    user = models.OneToOneField(
        settings.AUTH_USER_MODEL,
        models.SET_NULL,
        null=True,
        blank=True,
        related_name="wallet",
        help_text="Whose wallet this is. Empty for house accounts and for wallets of deleted people.",
    )
    balance = models.BigIntegerField(default=0, editable=False, help_text="Microcredits; wallets only.")
    held = models.BigIntegerField(default=0, editable=False, help_text="Microcredits of pending holds.")
    is_demo = models.BooleanField(
        default=False,
        db_default=False,
        editable=False,
        help_text="Of a login that everybody knows: no sign-up, also when it was deleted.",
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint("kind", condition=~Q(kind="wallet"), name="one_house_account_per_kind"),
            models.CheckConstraint(
                condition=Q(kind="wallet") | Q(user=None, balance=0, held=0),
                name="only_wallets_have_owners_and_balances",
            ),
            models.CheckConstraint(condition=Q(held__gte=0), name="held_is_never_negative"),
        ]
        permissions = [("adjust_credits", "Can give and take people's credits")]

    def __str__(self) -> str:
        return f"{self.get_kind_display()}{f' of {self.user}' if self.user_id else ''}"

    @property
    def available(self) -> int:
        """Microcredits that can be spent now."""
        return self.balance - self.held


class Hold(models.Model):
    """Credits set aside before a turn starts, until it is settled or released; its id is the turn's."""

    class State(models.TextChoices):
        PENDING = "pending"
        SETTLED = "settled"
        RELEASED = "released"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    # Only pending holds are looked for by account: an index of all others would be one to choose wrongly.
    account = models.ForeignKey(Account, models.PROTECT, related_name="holds", editable=False, db_index=False)
    amount = models.BigIntegerField(editable=False, help_text="Microcredits")
    state = models.CharField(max_length=8, choices=State.choices, default=State.PENDING, editable=False)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    ended_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(amount__gt=0), name="hold_amount_is_positive"),
            models.CheckConstraint(
                condition=Q(state="pending", ended_at=None)
                | (~Q(state="pending") & Q(ended_at__isnull=False)),
                name="hold_has_ended_unless_pending",
            ),
        ]
        indexes = [
            models.Index(fields=["account"], condition=Q(state="pending"), name="pending_holds_of_account"),
        ]

    def __str__(self) -> str:
        return f"{self.state} hold {self.id}"


class Transfer(models.Model):
    """One movement of credits. Append-only: PostgreSQL refuses to update, delete or truncate.

    `key` is the idempotency key: what must happen once says so by its key, such as `charge:<turn>`.
    """

    class Kind(models.TextChoices):
        SIGNUP = "signup", "Welcome credits"
        PURCHASE = "purchase", "Credits bought"
        GRANT = "grant", "Promotional credits"
        CHARGE = "charge", "Answer"
        OVERRUN = "overrun", "Usage above a hold"
        ADJUSTMENT = "adjustment", "Adjustment"
        REFUND = "refund", "Refund"
        DISPUTE = "dispute", "Dispute"
        EXPIRY = "expiry", "Expired unused"

    key = models.CharField(max_length=200, unique=True, editable=False)
    kind = models.CharField(max_length=16, choices=Kind.choices, editable=False)
    # The indexes below begin with these.
    debit = models.ForeignKey(Account, models.PROTECT, related_name="debits", editable=False, db_index=False)
    credit = models.ForeignKey(
        Account, models.PROTECT, related_name="credits", editable=False, db_index=False
    )
    amount = models.BigIntegerField(editable=False, help_text="Microcredits")
    balance_after = models.BigIntegerField(
        null=True,
        editable=False,
        help_text="Of the wallet that took part, in microcredits; checked by PostgreSQL.",
    )
    hold = models.ForeignKey(Hold, models.PROTECT, null=True, related_name="transfers", editable=False)
    order = models.ForeignKey(Order, models.PROTECT, null=True, related_name="transfers", editable=False)
    # Of what a grant or a purchase brings; such credits are a Lot from then on.
    expires_at = models.DateTimeField(null=True, editable=False)
    source = models.ForeignKey(
        "self",
        models.PROTECT,
        null=True,
        related_name="expiries",
        editable=False,
        help_text="Of an expiry: the transfer that brought what has expired.",
    )
    reason = models.CharField(max_length=300, blank=True, editable=False)
    made_by = models.CharField(
        max_length=254, blank=True, editable=False, help_text="The operator who did it."
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(amount__gt=0), name="transfer_amount_is_positive"),
            models.CheckConstraint(condition=~Q(debit=F("credit")), name="transfer_has_two_accounts"),
            models.CheckConstraint(
                condition=~Q(kind__in=["charge", "overrun"]) | Q(hold__isnull=False),
                name="charges_and_overruns_settle_a_hold",
            ),
            models.CheckConstraint(
                condition=~Q(kind="purchase") | Q(order__isnull=False), name="purchase_fulfils_an_order"
            ),
            models.CheckConstraint(
                condition=~Q(kind__in=["adjustment", "grant"]) | (~Q(reason="") & ~Q(made_by="")),
                name="adjustments_and_grants_say_who_and_why",
            ),
            models.CheckConstraint(
                condition=Q(kind="expiry", source__isnull=False) | (~Q(kind="expiry") & Q(source=None)),
                name="an_expiry_and_nothing_else_has_a_source",
            ),
            models.CheckConstraint(
                condition=Q(kind__in=["grant", "purchase"]) | Q(expires_at=None),
                name="only_grants_and_purchases_expire",
            ),
            models.UniqueConstraint("hold", condition=Q(kind="charge"), name="one_charge_per_hold"),
            models.UniqueConstraint("hold", condition=Q(kind="overrun"), name="one_overrun_per_hold"),
            models.UniqueConstraint("credit", condition=Q(kind="signup"), name="one_welcome_per_wallet"),
            models.UniqueConstraint("order", condition=Q(kind="purchase"), name="one_purchase_per_order"),
        ]
        indexes = [
            models.Index(fields=["debit", "-id"], name="transfers_by_debit"),
            models.Index(fields=["credit", "-id"], name="transfers_by_credit"),
            models.Index(fields=["created_at"], name="transfers_by_time"),
        ]

    def __str__(self) -> str:
        return self.key


class Lot(models.Model):
    """Credits that expire, brought by one transfer. PostgreSQL makes the row, and keeps what remains, by trigger."""

    transfer = models.OneToOneField(
        Transfer, models.PROTECT, primary_key=True, related_name="lot", editable=False
    )
    account = models.ForeignKey(Account, models.PROTECT, related_name="lots", editable=False)
    amount = models.BigIntegerField(editable=False, help_text="Microcredits")
    remaining = models.BigIntegerField(editable=False, help_text="Microcredits not used and not expired")
    expires_at = models.DateTimeField(editable=False)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(amount__gt=0, remaining__gte=0, remaining__lte=F("amount")),
                name="a_lot_has_what_remains_of_it",
            ),
        ]
        indexes = [
            models.Index(fields=["account", "expires_at"], condition=Q(remaining__gt=0), name="lots_to_use"),
            models.Index(fields=["expires_at"], condition=Q(remaining__gt=0), name="lots_to_expire"),
        ]

    def __str__(self) -> str:
        return f"lot {self.pk}"


class LotUse(models.Model):
    """How much of a lot one transfer used. Written by PostgreSQL's trigger alone, and never changed."""

    lot = models.ForeignKey(Lot, models.PROTECT, related_name="uses", editable=False, db_index=False)
    transfer = models.ForeignKey(Transfer, models.PROTECT, related_name="lot_uses", editable=False)
    amount = models.BigIntegerField(editable=False, help_text="Microcredits")
    remaining_after = models.BigIntegerField(editable=False, help_text="Microcredits that it left of the lot")

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(amount__gt=0), name="lot_use_amount_is_positive"),
            models.CheckConstraint(
                condition=Q(remaining_after__gte=0), name="lot_use_leaves_no_less_than_nothing"
            ),
            models.UniqueConstraint("lot", "transfer", name="one_use_per_lot_and_transfer"),
        ]
        indexes = [models.Index(fields=["lot", "-id"], name="uses_of_lot")]

    def __str__(self) -> str:
        return f"{self.amount} of lot {self.lot_id}"


class WelcomedAddress(models.Model):
    """An e-mail address that had the welcome credits, as a keyed hash: all that stays of it when its account goes."""

    hash = models.CharField(max_length=64, primary_key=True, editable=False)

    def __str__(self) -> str:
        return self.hash
