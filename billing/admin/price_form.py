"""The form of a price: what it refuses, what it asks to confirm, and what typical turns would cost and earn."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django import forms
from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from django.db import connection
from django.db.models.expressions import DatabaseDefault

from billing import pricing
from billing.credits import as_string
from billing.models import Price
from billing.models.catalogue import KINDS
from billing.pricing import Example
from billing.templatetags.credits import decimal_credits

USD = [f"{kind}_usd" for kind in KINDS]
TIER = ["tier_tokens", *(f"tier_{kind}_usd" for kind in KINDS)]
LABELS = {field.name: field.verbose_name for field in Price._meta.fields}
# What takes so long to fill in begins at once when it is sent.
LEEWAY = timedelta(minutes=5)
# A price so many times the one in force, or so many times below it, is more often a slip than a decision.
SUSPICIOUS = 10


class PriceForm(forms.ModelForm):
    """A row of the price book that lies ahead, or begins now."""

    confirmed = forms.BooleanField(required=False)

    class Meta:
        model = Price
        fields = ["model", "effective_from", *USD, "markup", "flat_fee", *TIER]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "effective_from" in self.fields:
            field = self.fields["effective_from"]
            field.required = False
            field.help_text = (
                "UTC. Leave empty to begin at once; a price in force cannot be changed any more."
            )
            if isinstance(self.instance.effective_from, DatabaseDefault):
                self.initial["effective_from"] = None

    def clean_effective_from(self) -> Any:
        begins = self.cleaned_data["effective_from"]
        # By the database's clock, which decides what is in force, and refuses what begins before.
        with connection.cursor() as cursor:
            cursor.execute("SELECT statement_timestamp()")
            (now,) = cursor.fetchone()
        if begins is not None and begins < now - LEEWAY:
            raise ValidationError(
                "A price cannot begin in the past: what was answered then has been paid for."
            )
        return (
            Price._meta.get_field("effective_from").get_default()
            if begins is None or begins < now
            else begins
        )

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        missing = [name for name in TIER if name not in self.errors and cleaned.get(name) is None]
        if 0 < len(missing) < len(TIER):
            for name in missing:
                self.add_error(name, "A tier needs its size and all five prices, or none of them.")
        begins, model = cleaned.get("effective_from"), cleaned.get("model")
        others = Price.objects.filter(model=model).exclude(pk=self.instance.pk)
        if isinstance(begins, datetime) and others.filter(effective_from=begins).exists():
            self.add_error("effective_from", "Another price of this model begins at this moment.")
        return cleaned

    def _post_clean(self) -> None:
        """After the model's own rules, so that only a price that could be saved is asked about."""
        super()._post_clean()  # type: ignore[misc]
        if not self.errors and not self.cleaned_data["confirmed"] and self.doubts():
            # What they are stands below, with the tick that confirms them.
            self.add_error(
                None, ValidationError("Please confirm what stands below the prices.", code="doubt")
            )

    def typed_price(self) -> Price | None:
        """The price as typed so far, saved or not; None while a figure of it is missing or wrong."""
        if set(self.errors) & {*USD, *TIER, "markup", "flat_fee"}:
            return None
        return Price(**{name: self.cleaned_data[name] for name in (*USD, *TIER, "markup", "flat_fee")})

    def in_force(self) -> Price | None:
        """What the chosen model costs now."""
        model = self.cleaned_data.get("model")
        return Price.objects.in_force().filter(model=model).first() if model else None

    def doubts(self) -> list[str]:
        typed = self.typed_price()
        return doubts(typed, self.in_force()) if typed else []


def doubts(price: Price, in_force: Price | None) -> list[str]:
    """What an operator should look at twice before this price takes the place of the one in force."""
    found = []
    if in_force is not None:
        for name in (*USD, *TIER[1:], "flat_fee"):
            if (times := _times(getattr(price, name), getattr(in_force, name))) is not None:
                value, was = (decimal_credits(getattr(row, name)) for row in (price, in_force))
                found.append(f"{LABELS[name]} would be {times}: {value}, not {was}.")
        if not found:
            for turn, now in zip(pricing.examples(price), pricing.examples(in_force), strict=False):
                if (times := _times(Decimal(turn.charged), Decimal(now.charged))) is not None:
                    costs = f"{as_string(turn.charged)} credits, not {as_string(now.charged)}"
                    found.append(f"a {turn.name.lower()} would cost {times}: {costs}.")
    found += [
        f"a {example.name.lower()} would lose {as_string(-example.earned)} credits."
        for example in pricing.examples(price)
        if example.earned < 0
    ]
    return [sentence[0].upper() + sentence[1:] for sentence in found]


def _times(value: Decimal | None, before: Decimal | None) -> str | None:
    """How far a figure is from the one before, in words, if that is suspicious."""
    if not value or not before:
        return None
    if value >= before * SUSPICIOUS:
        return f"{value / before:,.0f} times what it is now"
    if value * SUSPICIOUS <= before:
        return f"1/{before / value:,.0f} of what it is now"
    return None


@dataclass(frozen=True, slots=True)
class Preview:
    """What typical turns would cost at the price being typed, beside what they cost now."""

    lines: list[tuple[Example, Example | None]]
    doubts: list[str]
    confirmed: bool
    problems: list[str]

    @classmethod
    def of(cls, form: PriceForm, *, told: Iterable[str] = ()) -> "Preview":
        """Without the problems that the page tells at their fields, as `told` has them."""
        form.full_clean()
        typed, in_force = form.typed_price(), form.in_force()
        problems = [
            f"{form.fields[name].label}: {message}" if name != NON_FIELD_ERRORS else str(message)
            for name, errors in form.errors.as_data().items()
            for error in errors
            if error.code not in ("required", "doubt")
            for message in error
        ]
        known = set(told)
        now = {example.name: example for example in pricing.examples(in_force)} if in_force else {}
        return cls(
            lines=[(example, now.get(example.name)) for example in pricing.examples(typed)] if typed else [],
            doubts=doubts(typed, in_force) if typed else [],
            confirmed=bool(form.cleaned_data.get("confirmed")),
            problems=[problem for problem in problems if problem not in known],
        )
