"""What people send to buy credits, to subscribe, and to have themselves topped up."""

from decimal import Decimal
from typing import Any

from django import forms
from django.conf import settings

from billing.checkout import Purchase
from billing.credits import to_credits, to_microcredits
from billing.models import Pack, Plan
from billing.templatetags.credits import money

# A balance that is always below it would be topped up until the cap each month.
HIGHEST_THRESHOLD = Decimal(100_000)
HIGHEST_CAP = Decimal(100_000)
WRONG_AMOUNT = "Write an amount in US dollars, such as 25 or 12.50."


def cents(dollars: Decimal) -> int:
    return int(dollars.scaleb(2))


def in_words(dollars: Decimal) -> str:
    return money(cents(dollars), "usd")


def _dollars(words: dict[str, str] | None = None, **kwargs: Any) -> forms.DecimalField:
    """A field for an amount of US dollars with its cents; `words` for what else can be wrong with it."""
    return forms.DecimalField(
        max_digits=12,
        decimal_places=2,
        error_messages={
            "invalid": WRONG_AMOUNT,
            "max_decimal_places": "An amount has at most two places after the point.",
            "max_digits": WRONG_AMOUNT,
            "max_whole_digits": WRONG_AMOUNT,
            **(words or {}),
        },
        **kwargs,
    )


class BillingForm(forms.Form):
    """A form whose mistakes are told in one sentence."""

    @property
    def first_error(self) -> str:
        """What is wrong, in one sentence for the person."""
        return next(str(error) for errors in self.errors.values() for error in errors)

    def clean_amount(self) -> Decimal | None:
        """An amount within what this site sells at once."""
        amount: Decimal | None = self.cleaned_data["amount"]
        if amount is not None and amount < settings.TOPUP_MINIMUM:
            raise forms.ValidationError(f"The least you can buy is {in_words(settings.TOPUP_MINIMUM)}.")
        if amount is not None and amount > settings.TOPUP_MAXIMUM:
            raise forms.ValidationError(
                f"The most you can buy at once is {in_words(settings.TOPUP_MAXIMUM)}."
            )
        return amount


class CheckoutForm(BillingForm):
    """One pack on sale, or an amount of choice, at whose field its mistakes stand.

    `order` is the id that the button was made with, so that a double click buys once. `keep_card`: Stripe is to keep
    what is paid with for automatic top-ups.
    """

    pack = forms.ModelChoiceField(
        Pack.objects.none(),
        required=False,
        error_messages={"invalid_choice": "This pack is not on sale. Choose one of those below."},
    )
    amount = _dollars(required=False)
    keep_card = forms.BooleanField(required=False)
    order = forms.UUIDField(required=False, error_messages={"invalid": "Reload this page and choose again."})

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["pack"].queryset = Pack.objects.filter(on_sale=True)  # type: ignore[attr-defined]

    def clean(self) -> dict[str, Any]:
        found = self.cleaned_data
        if self.errors or bool(found["pack"]) != (found["amount"] is not None):
            return found
        if found["pack"]:
            raise forms.ValidationError("Choose a pack of credits or an amount, not both.")
        if "amount" not in self.data:
            raise forms.ValidationError("Choose a pack of credits.")
        self.add_error("amount", WRONG_AMOUNT)
        return found

    @property
    def purchase(self) -> Purchase:
        pack: Pack | None = self.cleaned_data["pack"]
        return Purchase.of_pack(pack) if pack else Purchase.of_amount(cents(self.cleaned_data["amount"]))


class PlanForm(BillingForm):
    """One plan on sale."""

    plan = forms.ModelChoiceField(
        Plan.objects.none(),
        error_messages={
            "required": "Choose a plan.",
            "invalid_choice": "This plan is not on sale. Choose one of those below.",
        },
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["plan"].queryset = Plan.objects.filter(on_sale=True)  # type: ignore[attr-defined]


class SubscriptionForm(PlanForm):
    """What to do with a subscription: change to a plan, end it with its period, or go on after all."""

    ACTIONS = ("cancel", "resume")
    # What the page said that the plan costs: nobody is charged another price than the one they saw, or none.
    price_cents = forms.IntegerField(required=False)
    action = forms.ChoiceField(
        choices=[(name, name) for name in ACTIONS],
        required=False,
        error_messages={"invalid_choice": "Choose a plan, or what to do with yours."},
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["plan"].required = not self.data.get("action")

    def clean(self) -> dict[str, Any]:
        plan, seen = self.cleaned_data.get("plan"), self.cleaned_data.get("price_cents")
        if plan and seen is not None and seen != plan.price_cents:
            raise forms.ValidationError(
                "The price of this plan has changed. Nothing was charged: look again."
            )
        return self.cleaned_data

    @property
    def plan_to_confirm(self) -> Plan | None:
        """The plan that this would change to at a price that the person has not been told."""
        found = self.cleaned_data
        return found["plan"] if found["price_cents"] is None and not found["action"] else None


class AutoTopUpForm(BillingForm):
    """Below how many credits to buy what, and how many dollars a month at most; its mistakes stand at their fields."""

    enabled = forms.BooleanField(required=False)
    threshold = forms.DecimalField(
        min_value=0,
        max_value=HIGHEST_THRESHOLD,
        decimal_places=6,
        error_messages={
            "required": "Say below how many credits to top up.",
            "invalid": "Write a number of credits, such as 200.",
            "min_value": "Credits to top up at cannot be negative.",
            "max_value": f"The highest balance to top up at is {HIGHEST_THRESHOLD:,} credits.",
            "max_decimal_places": "Credits have at most six places after the point.",
        },
    )
    pack = forms.ModelChoiceField(
        Pack.objects.none(),
        required=False,
        empty_label="an amount of my choice",
        error_messages={"invalid_choice": "This pack is not on sale. Choose one of those shown."},
    )
    amount = _dollars(required=False)
    order = forms.UUIDField(required=False, error_messages={"invalid": "Reload this page and choose again."})
    monthly_cap = _dollars(
        {
            "required": "Say how much a month it may spend at most.",
            "min_value": "Say how much a month it may spend at most.",
            "max_value": f"The most it may spend in a month is {in_words(HIGHEST_CAP)}.",
        },
        min_value=Decimal("0.01"),
        max_value=HIGHEST_CAP,
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        packs = Pack.objects.filter(on_sale=True, currency="usd")
        self.fields["pack"].queryset = packs  # type: ignore[attr-defined]

    def clean(self) -> dict[str, Any]:
        found = self.cleaned_data
        if self.errors:
            return found
        if bool(found["pack"]) == (found["amount"] is not None):
            self.add_error("pack", "Choose what to buy: a pack, or an amount of your choice, not both.")
            return found
        if cents(found["monthly_cap"]) < self.purchase.amount_cents:
            price = money(self.purchase.amount_cents, "usd")
            self.add_error(
                "monthly_cap", f"Each top-up costs {price}: let it spend that much a month at least."
            )
        if found["enabled"] and not found["threshold"]:
            self.add_error("threshold", "Only a debt is below 0 credits: top up at more than that.")
        # Else one top-up would lead to the next, until the month's cap.
        elif found["enabled"] and self.threshold_microcredits > self.purchase.credits_microcredits:
            brought = f"{to_credits(self.purchase.credits_microcredits).normalize():,f}"
            self.add_error(
                "threshold", f"One top-up brings {brought} credits: top up below that, or buy more at once."
            )
        return found

    @property
    def purchase(self) -> Purchase:
        pack: Pack | None = self.cleaned_data["pack"]
        return Purchase.of_pack(pack) if pack else Purchase.of_amount(cents(self.cleaned_data["amount"]))

    @property
    def threshold_microcredits(self) -> int:
        return to_microcredits(self.cleaned_data["threshold"])

    @property
    def monthly_cap_cents(self) -> int:
        return cents(self.cleaned_data["monthly_cap"])
