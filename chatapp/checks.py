"""Checks of the configuration that need the database or other apps; settings.py refuses the rest."""

from datetime import timedelta
from typing import Any

from django.core.checks import CheckMessage, Tags, Warning, register
from django.db.utils import DatabaseError
from django.utils import timezone

from billing.models import LanguageModel, Price

RETIREMENT_NOTICE = timedelta(days=30)


@register(Tags.database)
def models_on_sale_can_be_sold(databases: Any = None, **_kwargs: Any) -> list[CheckMessage]:
    """Warn of models that retire soon, or that have no price and are therefore not offered."""
    if not databases:
        return []
    try:
        on_sale = list(LanguageModel.objects.filter(on_sale=True))
        priced = set(Price.objects.in_force().values_list("model_id", flat=True))
    except DatabaseError:
        return []  # before the first migration there is nothing to check
    found: list[CheckMessage] = []
    for model in on_sale:
        if model.retires_within(RETIREMENT_NOTICE.days, today=timezone.now().date()):
            found.append(
                Warning(
                    f"{model.id} is on sale and retires on {model.retires_on}.",
                    hint="Take it off sale in the admin, or offer its successor first.",
                    id="chatapp.W001",
                )
            )
        if model.id not in priced:
            found.append(
                Warning(
                    f"{model.id} is on sale without a price in force, so nobody can choose it.",
                    hint="Add a price in the admin, or take it off sale.",
                    id="chatapp.W002",
                )
            )
    return found
