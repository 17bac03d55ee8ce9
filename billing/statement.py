"""A person's statement: every movement of their credits in words: on the page, in the file, over the API."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from billing import answers, currencies, workings
from billing.answers import Answer
from billing.credits import to_credits
from billing.models import Account, LotUse, Order, Transfer
from billing.templatetags.credits import decimal_credits, money

Kind = Transfer.Kind


@dataclass(frozen=True, slots=True)
class LotPart:
    """How much of a movement came from credits that expire, and what those were; in microcredits."""

    amount: int
    of: str

    def __str__(self) -> str:
        return f"{decimal_credits(to_credits(self.amount))} of it {self.of}"


@dataclass(frozen=True, slots=True)
class Payment:
    """Money that was paid, after what a promotion code took from the price: with all places of its currency."""

    amount: Decimal
    currency: str


@dataclass(frozen=True, slots=True)
class Line:
    """One movement as the wallet's owner sees it: `amount` is signed, amounts are in microcredits.

    `left` is what remains of credits that came and can be used until `expires_at`. `answer` is what a charge was for,
    `payment` what a purchase was paid with.
    """

    id: int
    at: datetime
    kind: str
    what: str
    words: str
    amount: int
    balance_after: int
    turn: UUID | None
    order: UUID | None
    expires_at: datetime | None = None
    left: int | None = None
    lot_parts: Sequence[LotPart] = ()
    answer: Answer | None = None
    payment: Payment | None = None

    @property
    def reference(self) -> str:
        """The id of the order, or of the turn, by which support can find it."""
        return str(self.order or self.turn or "")

    @property
    def detail(self) -> str:
        """All that is to be said beside `what`, in one line of text."""
        said = [self.words]
        if self.answer:
            where = f"in “{self.answer.title}”" if self.answer.conversation else "in a chat deleted since"
            said.append(f"{self.answer.model_name} {where}")
        if self.expires_at:
            said.append(f"usable until {_moment(self.expires_at)}")
        said += map(str, self.lot_parts)
        return ", ".join(part for part in said if part)

    @property
    def description(self) -> str:
        return f"{self.what}: {self.detail}" if self.detail else self.what

    @property
    def change(self) -> "Figure":
        return figure(self.amount, sign="+")

    @property
    def charged(self) -> "Figure":
        """What went out, without its sign."""
        return figure(-self.amount)

    @property
    def balance(self) -> "Figure":
        return figure(self.balance_after)

    @property
    def parts(self) -> list[workings.Part]:
        """How the price of an answer comes about."""
        return workings.parts(self.answer, -self.amount) if self.answer else []

    @property
    def borne_by_house(self) -> int:
        """What of the price went above the hold and was not charged."""
        return workings.borne_by_house(self.answer, -self.amount) if self.answer else 0

    @property
    def above_tier(self) -> int | None:
        return workings.above_tier(self.answer) if self.answer else None


@dataclass(frozen=True, slots=True)
class Figure:
    """An amount to its last microcredit: `cents` such as "−1,204.56" and the four places that follow."""

    cents: str
    rest: str

    @property
    def is_round(self) -> bool:
        return self.rest == "0000"


def figure(microcredits: int, *, sign: str = "") -> Figure:
    """`sign` stands before what is positive; what is negative has its minus in any case."""
    text = f"{to_credits(abs(microcredits)):,.6f}"
    return Figure(cents=f"{'−' if microcredits < 0 else sign}{text[:-4]}", rest=text[-4:])


def lines(transfers: Sequence[Transfer], wallet: Account) -> list[Line]:
    """Movements of `wallet`, as `billing.movements` finds them, in words."""
    turns = [transfer.hold_id for transfer in transfers if transfer.hold_id]
    told = answers.book().answers(wallet.user, turns) if wallet.user and turns else {}
    uses = _lot_uses(transfers)
    return [
        Line(
            id=transfer.pk,
            at=transfer.created_at,
            kind=transfer.kind,
            what=transfer.get_kind_display(),
            words=_words(transfer, incoming=transfer.credit_id == wallet.pk),
            amount=transfer.amount if transfer.credit_id == wallet.pk else -transfer.amount,
            balance_after=transfer.balance_after or 0,
            turn=transfer.hold_id,
            order=transfer.order_id,
            expires_at=transfer.expires_at,
            left=transfer.lot.remaining if transfer.expires_at else None,
            lot_parts=uses.get(transfer.pk, ()),
            answer=told.get(transfer.hold_id) if transfer.hold_id else None,
            payment=_payment(transfer),
        )
        for transfer in transfers
    ]


def _payment(transfer: Transfer) -> Payment | None:
    order = transfer.order
    if order is None or transfer.kind != Kind.PURCHASE:
        return None
    return Payment(currencies.amount(order.paid_cents or 0, order.currency), order.currency)


def _lot_uses(transfers: Iterable[Transfer]) -> dict[int, list[LotPart]]:
    """What each transfer took from credits that expire. An expiry is about nothing else, so it need not say so."""
    spent = [transfer.pk for transfer in transfers if transfer.kind == Kind.CHARGE]
    uses: dict[int, list[LotPart]] = defaultdict(list)
    found = LotUse.objects.filter(transfer__in=spent).select_related("lot__transfer__order__plan")
    for use in found.order_by("lot__expires_at", "lot"):
        uses[use.transfer_id].append(LotPart(use.amount, _credits_of(use.lot.transfer)))
    return uses


def _words(transfer: Transfer, *, incoming: bool) -> str:
    """What a movement was for, as far as billing knows."""
    match Kind(transfer.kind):
        case Kind.SIGNUP:
            return "A gift to begin with"
        case Kind.PURCHASE if transfer.order:
            return _bought(transfer.order)
        case Kind.REFUND if not transfer.reason:
            return (
                "Given back to you: the refund did not go through"
                if incoming
                else "Credits taken back for money given back"
            )
        case Kind.DISPUTE if not transfer.reason:
            return (
                "Given back to you: the payment stands"
                if incoming
                else "Credits taken back for a disputed payment"
            )
        case Kind.EXPIRY if transfer.source:
            until = transfer.source.expires_at
            day = f" by {_moment(until)}" if until else ""
            return f"Not used{day}: {_credits_of(transfer.source)}"
    return transfer.reason


def _bought(order: Order) -> str:
    price = money(order.amount_cents, order.currency)
    if order.paid_cents is not None and order.paid_cents != order.amount_cents:
        paid = f"paid {money(order.paid_cents, order.currency)} instead of {price} through Stripe"
    else:
        paid = f"paid {price} through Stripe"
    if order.source == Order.Source.SUBSCRIPTION and order.plan:
        return f"Plan {order.plan.name}, {paid}"
    if order.source == Order.Source.AUTO_TOPUP:
        return f"Topped up automatically, {paid}"
    return f"P{paid[1:]}"


def _credits_of(transfer: Transfer) -> str:
    """What the credits are called that a transfer brought."""
    if transfer.kind == Kind.GRANT:
        return f"promotional credits ({transfer.reason})"
    if transfer.order and transfer.order.plan:
        return f"credits of plan {transfer.order.plan.name}"
    return "credits bought"


def _moment(at: datetime) -> str:
    return f"{at:%-d %b %Y, %H:%M} UTC"
