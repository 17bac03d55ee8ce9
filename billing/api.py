"""Balance, models with their prices, and the statement, over the API."""

from datetime import date, datetime
from decimal import ROUND_CEILING, Context, Decimal
from typing import Any, Literal
from uuid import UUID

from django.http import HttpRequest
from ninja import Field, Query, Router, Schema
from pydantic import ValidationInfo, field_validator

from accounts.models import User
from billing import ledger, movements, statement
from billing.answers import Answer
from billing.credits import as_string
from billing.models import LanguageModel, Price
from billing.movements import KINDS, Filters
from billing.pricing import Rates, rates
from billing.statement import Line
from billing.statement_form import EARLIEST_DAY, LATEST_DAY
from billing.templatetags.credits import plain
from billing.workings import rates_per_million

router = Router(tags=["billing"])


class BalanceOut(Schema):
    available: str
    held: str


class MeOut(Schema):
    email: str
    name: str
    balance: BalanceOut


class RatesOut(Schema):
    """Credits per million tokens: with the markup where they are an offer, before it where `markup` stands beside."""

    input: str
    output: str
    cache_read: str
    cache_write_5m: str
    cache_write_1h: str


class TierOut(Schema):
    """Prices of every token once the prompt is larger than `above_tokens`."""

    above_tokens: int
    prices: RatesOut


class FallbackOut(Schema):
    """Who answers, at their own prices, when a model cannot begin; what can be held is the dearer of both."""

    id: str
    name: str
    prices: RatesOut
    tier: TierOut | None
    flat_fee: str


class ModelOut(Schema):
    id: str
    name: str
    description: str
    default: bool
    context_tokens: int
    max_output_tokens: int
    answer_tokens: int
    thinks: bool
    prices: RatesOut
    tier: TierOut | None
    flat_fee: str
    fallback: FallbackOut | None


class AnswerOut(Schema):
    """What a charge was for. `conversation` is null once it has been deleted.

    The charge is the tokens of each class times `rates`, credits per million tokens, all of it times `markup`, and
    `flat_fee`, rounded up to the sixth place, without what is `borne_by_house`: what went above the hold. `estimated`
    says that the tokens were counted from the text.
    """

    model: str
    model_name: str
    conversation: UUID | None
    title: str
    input_tokens: int
    output_tokens: int
    cache_read_input_tokens: int
    cache_creation_input_tokens: int
    cache_creation_1h_input_tokens: int
    rates: RatesOut
    markup: str
    flat_fee: str
    borne_by_house: str
    estimated: bool


class PaymentOut(Schema):
    """What was really paid, such as `"5.00"` of `"usd"`."""

    amount: str
    currency: str


class FromExpiringOut(Schema):
    """How much of a charge was taken from credits that expire, and from which."""

    amount: str
    of: str


class TransactionOut(Schema):
    """One movement of credits, in the words of the statement; `amount` is signed as the person sees it.

    Credits that came and can be used until `expires_at` have `left` of them.
    """

    id: int
    at: datetime
    kind: str
    what: str
    detail: str
    description: str
    amount: str
    balance_after: str
    turn: UUID | None
    order: UUID | None
    answer: AnswerOut | None
    payment: PaymentOut | None
    from_expiring: list[FromExpiringOut]
    expires_at: datetime | None
    left: str | None


class ModelsOut(Schema):
    items: list[ModelOut]
    next: None


class TransactionsOut(Schema):
    """A page of the statement; `next` is the `cursor` of the one after it."""

    items: list[TransactionOut]
    next: str | None


class Statement(Schema):
    """Which movements: of one kind, for answers by one model or in one conversation, of whole days in UTC."""

    cursor: int | None = Field(None, ge=1, description="`next` of the page before.")
    limit: int = Field(50, ge=1, le=200, description="Movements a page.")
    kind: Literal[tuple(kind.value for kind in KINDS)] | None = Field(  # type: ignore[valid-type]
        None, description="Only movements of this kind."
    )
    model: str | None = Field(None, description="Only answers by this model.")
    conversation: UUID | None = Field(None, description="Only answers in this conversation.")
    from_: date | None = Field(
        None, alias="from", ge=EARLIEST_DAY, le=LATEST_DAY, description="The first day, in UTC."
    )
    to: date | None = Field(None, ge=EARLIEST_DAY, le=LATEST_DAY, description="The last day, in UTC.")

    @field_validator("model")
    @classmethod
    def model_is_known(cls, model: str | None) -> str | None:
        if model is not None and not LanguageModel.objects.filter(pk=model).exists():
            raise ValueError("There is no such model. GET /api/v1/models lists those on offer.")
        return model

    @field_validator("to")
    @classmethod
    def days_are_in_order(cls, to: date | None, info: ValidationInfo) -> date | None:
        first = info.data.get("from_")
        if to is not None and first is not None and first > to:
            raise ValueError("The first day is after the last.")
        return to

    @property
    def filters(self) -> Filters:
        return Filters(
            kind=self.kind,
            model=self.model,
            conversation=self.conversation,
            first=self.from_,
            last=self.to,
        )


@router.get("me", response=MeOut)
def me(request: HttpRequest) -> MeOut:
    """Who the caller is and what they can spend."""
    user: User = request.auth  # type: ignore[attr-defined]
    wallet = ledger.wallet_of(user)
    balance = BalanceOut(available=as_string(wallet.available), held=as_string(wallet.held))
    return MeOut(email=user.email, name=user.name, balance=balance)


@router.get("models", response=ModelsOut)
def models(request: HttpRequest) -> dict[str, Any]:
    """What can be chosen, the default first, with prices and limits."""
    return {"items": models_offered(), "next": None}


@router.get("transactions", response=TransactionsOut)
def transactions(request: HttpRequest, page: Query[Statement]) -> dict[str, Any]:
    """The statement: every movement of credits, newest first, with what it was for."""
    wallet = ledger.wallet_of(request.auth)  # type: ignore[attr-defined]
    found = movements.older(wallet, page.filters, than=page.cursor, limit=page.limit)
    return {
        "items": [transaction_out(line) for line in statement.lines(found.transfers, wallet)],
        "next": str(found.transfers[-1].pk) if found.has_older else None,
    }


def models_offered() -> list[ModelOut]:
    """The models on sale, in the operator's order; the first is the default."""
    on_sale = LanguageModel.objects.on_sale().select_related("fallback")
    prices = {price.model_id: price for price in Price.objects.in_force()}
    return [_model_out(model, prices, default=index == 0) for index, model in enumerate(on_sale)]


def _model_out(model: LanguageModel, prices: dict[str, Price], *, default: bool) -> ModelOut:
    other = model.standby
    return ModelOut(
        id=model.pk,
        name=model.name,
        description=model.description,
        default=default,
        context_tokens=model.context_tokens,
        max_output_tokens=model.max_output_tokens,
        answer_tokens=model.answer_tokens,
        thinks=model.thinks,
        fallback=FallbackOut(id=other.pk, name=other.name, **_price_out(prices[other.pk]))
        if other is not None and other.pk in prices
        else None,
        **_price_out(prices[model.pk]),
    )


def _price_out(price: Price) -> dict[str, Any]:
    tier = None
    if price.tier_tokens is not None:
        above = rates(price, prompt_tokens=price.tier_tokens + 1)
        tier = TierOut(above_tokens=price.tier_tokens, prices=_rates_out(above, price.markup))
    below = _rates_out(rates(price, prompt_tokens=0), price.markup)
    return {"prices": below, "tier": tier, "flat_fee": f"{price.flat_fee:.6f}"}


def _rates_out(rate: Rates, markup: Decimal) -> RatesOut:
    # Microcredits per token are credits per million tokens. What is finer than six places counts in full, so that
    # what is worked out from these, such as what a message can cost at most, is never too low.
    up = Context(prec=50, rounding=ROUND_CEILING)
    six = Decimal("0.000001")
    return RatesOut(
        **{name: f"{up.quantize(getattr(rate, name) * markup, six):f}" for name in Rates.__dataclass_fields__}
    )


def transaction_out(line: Line) -> TransactionOut:
    return TransactionOut(
        id=line.id,
        at=line.at,
        kind=line.kind,
        what=line.what,
        detail=line.detail,
        description=line.description,
        amount=as_string(line.amount),
        balance_after=as_string(line.balance_after),
        turn=line.turn,
        order=line.order,
        answer=_answer_out(line.answer, line) if line.answer else None,
        payment=PaymentOut(amount=f"{line.payment.amount:f}", currency=line.payment.currency)
        if line.payment
        else None,
        from_expiring=[FromExpiringOut(amount=as_string(part.amount), of=part.of) for part in line.lot_parts],
        expires_at=line.expires_at,
        left=None if line.left is None else as_string(line.left),
    )


def _answer_out(answer: Answer, line: Line) -> AnswerOut:
    rates = rates_per_million(answer)
    return AnswerOut(
        model=answer.model,
        model_name=answer.model_name,
        conversation=answer.conversation,
        title=answer.title,
        input_tokens=answer.usage.input_tokens,
        output_tokens=answer.usage.output_tokens,
        cache_read_input_tokens=answer.usage.cache_read_tokens,
        cache_creation_input_tokens=answer.cache_write_tokens,
        cache_creation_1h_input_tokens=answer.usage.cache_write_1h_tokens,
        rates=RatesOut(**{name: plain(getattr(rates, name)) for name in Rates.__dataclass_fields__}),
        markup=plain(answer.price.markup),
        flat_fee=f"{answer.price.flat_fee:.6f}",
        borne_by_house=as_string(line.borne_by_house),
        estimated=answer.estimated,
    )
