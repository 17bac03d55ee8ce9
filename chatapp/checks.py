"""Checks of the configuration that need the database or other apps; settings.py refuses the rest.

What they find about the catalogue, the operator reads on the dashboard too.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Info, Tags, Warning, register
from django.db.utils import DatabaseError
from django.utils import timezone

from billing.models import LanguageModel, Price

RETIREMENT_NOTICE = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Concern:
    """Something about a model on sale that the operator should know, and what to do about it."""

    id: str
    model_id: str
    sentence: str
    hint: str


def priced_models() -> dict[LanguageModel, Price | None]:
    """The models on sale, each with its price in force."""
    prices = {price.model_id: price for price in Price.objects.in_force()}
    return {model: prices.get(model.id) for model in LanguageModel.objects.filter(on_sale=True)}


def concerns(models: dict[LanguageModel, Price | None]) -> list[Concern]:
    """Models on sale that retire soon, or that have no price and are therefore not offered."""
    found = []
    for model, price in models.items():
        if model.retires_within(RETIREMENT_NOTICE.days, today=timezone.now().date()):
            found.append(
                Concern(
                    "chatapp.W001",
                    model.id,
                    f"{model.id} is on sale and retires on {model.retires_on}.",
                    "Take it off sale in the admin, or offer its successor first.",
                )
            )
        if price is None:
            found.append(
                Concern(
                    "chatapp.W002",
                    model.id,
                    f"{model.id} is on sale without a price in force, so nobody can choose it.",
                    "Add a price in the admin, or take it off sale.",
                )
            )
    return found


def sold_at_cost(models: dict[LanguageModel, Price | None]) -> list[str]:
    """Those whose price in force has no margin: no markup and no fee."""
    return [model.id for model, price in models.items() if price and price.markup <= 1 and not price.flat_fee]


@register(Tags.database)
def models_on_sale_can_be_sold(databases: Any = None, **_kwargs: Any) -> list[CheckMessage]:
    """Warn of what `concerns` finds."""
    if not databases:
        return []
    try:
        found = concerns(priced_models())
    except DatabaseError:
        return []  # before the first migration there is nothing to check
    return [Warning(concern.sentence, hint=concern.hint, id=concern.id) for concern in found]


@register(Tags.database)
def long_conversations_can_be_summed_up(databases: Any = None, **_kwargs: Any) -> list[CheckMessage]:
    """Tell that they are only cut, where SUMMARY_MODEL cannot be asked and is not said to be off."""
    if not databases or settings.SUMMARY_MODEL == "off":
        return []
    try:
        price = Price.objects.select_related("model").in_force().filter(model=settings.SUMMARY_MODEL).first()
    except DatabaseError:
        return []
    if price is not None and price.model.can_be_asked:
        return []
    hint = "Name a model that is in the admin with a price in force and whose provider has a key, or say off."
    sentence = f"SUMMARY_MODEL ({settings.SUMMARY_MODEL}) cannot be asked: long conversations are only cut."
    return [Warning(sentence, hint=hint, id="chatapp.W003")]


@register(Tags.database)
def models_on_sale_earn_something(databases: Any = None, **_kwargs: Any) -> list[CheckMessage]:
    """Tell, as information, which models are sold at what the provider asks."""
    if not databases:
        return []
    try:
        at_cost = sold_at_cost(priced_models())
    except DatabaseError:
        return []
    if not at_cost:
        return []
    hint = "Set a markup or a fee by a new row of the price book, if answers are to earn something."
    return [Info(f"Sold at cost, without a margin: {', '.join(at_cost)}.", hint=hint, id="chatapp.I001")]
