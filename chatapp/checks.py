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
from chatapp.streaming import house

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
def the_house_can_ask_its_models(databases: Any = None, **_kwargs: Any) -> list[CheckMessage]:
    """Tell what is not done where a model that works for the house cannot be asked and is not said to be off."""
    if not databases:
        return []
    hint = "Name a model that is in the admin with a price in force and whose provider has a key, or say off."
    found: list[CheckMessage] = []
    for setting, id, instead in (
        ("SUMMARY_MODEL", "chatapp.W003", "long conversations are only cut"),
        ("TITLE_MODEL", "chatapp.W004", "conversations are called by their first words"),
    ):
        model = getattr(settings, setting)
        try:
            works = model == "off" or house.writer(model) is not None
        except DatabaseError:
            continue  # before the first migration there is nothing to check
        if not works:
            found.append(Warning(f"{setting} ({model}) cannot be asked: {instead}.", hint=hint, id=id))
    return found


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
