"""Balance, models with their prices, and the statement, over the API."""

from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.http import HttpRequest
from ninja import Field, Query, Router, Schema

from accounts.models import User
from billing import ledger
from billing.credits import as_string
from billing.models import Account, LanguageModel, Price, Transfer
from billing.pricing import Rates, rates

router = Router(tags=["billing"])


class BalanceOut(Schema):
    available: str
    held: str


class MeOut(Schema):
    email: str
    name: str
    balance: BalanceOut


class RatesOut(Schema):
    """Credits per million tokens, markup included."""

    input: str
    output: str
    cache_read: str
    cache_write_5m: str
    cache_write_1h: str


class TierOut(Schema):
    """Prices of every token once the prompt is larger than `above_tokens`."""

    above_tokens: int
    prices: RatesOut


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


class TransactionOut(Schema):
    """One movement of credits; `amount` is signed as the person sees it."""

    id: int
    at: datetime
    kind: str
    description: str
    amount: str
    balance_after: str
    turn: UUID | None
    order: UUID | None


class Statement(Schema):
    cursor: int | None = Field(None, ge=1)
    limit: int = Field(50, ge=1, le=200)


@router.get("me", response=MeOut)
def me(request: HttpRequest) -> MeOut:
    """Who the caller is and what they can spend."""
    user: User = request.auth  # type: ignore[attr-defined]
    wallet = ledger.wallet_of(user)
    balance = BalanceOut(available=as_string(wallet.available), held=as_string(wallet.held))
    return MeOut(email=user.email, name=user.name, balance=balance)


@router.get("models", response=dict[str, Any])
def models(request: HttpRequest) -> dict[str, Any]:
    """What can be chosen, the default first, with prices and limits."""
    return {"items": models_offered(), "next": None}


@router.get("transactions", response=dict[str, Any])
def transactions(request: HttpRequest, page: Query[Statement]) -> dict[str, Any]:
    """The statement: every movement of credits, newest first, with what it was for."""
    wallet = ledger.wallet_of(request.auth)  # type: ignore[attr-defined]
    found = ledger.statement(wallet).select_related("order__pack")
    if page.cursor is not None:
        found = found.filter(pk__lt=page.cursor)
    rows = list(found[: page.limit + 1])
    more = len(rows) > page.limit
    rows = rows[: page.limit]
    return {
        "items": [_transaction_out(row, wallet) for row in rows],
        "next": str(rows[-1].pk) if more else None,
    }


def models_offered() -> list[ModelOut]:
    """The models on sale, in the operator's order; the first is the default."""
    on_sale = list(LanguageModel.objects.on_sale())
    prices = {price.model_id: price for price in Price.objects.in_force()}
    return [_model_out(model, prices[model.pk], default=index == 0) for index, model in enumerate(on_sale)]


def _model_out(model: LanguageModel, price: Price, *, default: bool) -> ModelOut:
    tier = None
    if price.tier_tokens is not None:
        above = rates(price, prompt_tokens=price.tier_tokens + 1)
        tier = TierOut(above_tokens=price.tier_tokens, prices=_rates_out(above, price.markup))
    return ModelOut(
        id=model.pk,
        name=model.name,
        description=model.description,
        default=default,
        context_tokens=model.context_tokens,
        max_output_tokens=model.max_output_tokens,
        answer_tokens=model.answer_tokens,
        thinks=model.thinks,
        prices=_rates_out(rates(price, prompt_tokens=0), price.markup),
        tier=tier,
        flat_fee=f"{price.flat_fee:.6f}",
    )


def _rates_out(rate: Rates, markup: Decimal) -> RatesOut:
    # Microcredits per token are credits per million tokens.
    return RatesOut(**{name: f"{getattr(rate, name) * markup:.6f}" for name in Rates.__dataclass_fields__})


def _transaction_out(transfer: Transfer, wallet: Account) -> TransactionOut:
    sign = 1 if transfer.credit_id == wallet.pk else -1
    return TransactionOut(
        id=transfer.pk,
        at=transfer.created_at,
        kind=transfer.kind,
        description=transfer.reason or transfer.get_kind_display(),
        amount=as_string(sign * transfer.amount),
        balance_after=as_string(transfer.balance_after or 0),
        turn=transfer.hold_id,
        order=transfer.order_id,
    )
