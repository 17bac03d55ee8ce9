"""What people choose of their statement and chart, and what they want to be told."""

from datetime import date
from decimal import Decimal
from typing import Any

from django import forms
from django.core.validators import MaxValueValidator, MinValueValidator
from django.http import QueryDict

from accounts.models import User
from billing import answers
from billing.credits import to_microcredits
from billing.models import LanguageModel
from billing.movements import KINDS, Filters

# Before there was anything to tell of; beyond it lies the edge of what dates can be.
EARLIEST_DAY, LATEST_DAY = date(2000, 1, 1), date(2199, 12, 31)
CONVERSATIONS_OFFERED = 30
HIGHEST_THRESHOLD = Decimal(1_000_000)


def _day(label: str) -> forms.DateField:
    edge = f"{label}: choose a day between {EARLIEST_DAY.year} and {LATEST_DAY.year}."
    return forms.DateField(
        label=label,
        required=False,
        input_formats=["%Y-%m-%d"],
        widget=forms.DateInput(format="%Y-%m-%d", attrs={"type": "date", "class": "input"}),
        error_messages={"invalid": f"{label}: write a day as 2026-11-30."},
        validators=[MinValueValidator(EARLIEST_DAY, edge), MaxValueValidator(LATEST_DAY, edge)],
    )


class StatementForm(forms.Form):
    """Which lines of the statement to show. `filters` is for a valid form."""

    kind = forms.ChoiceField(
        label="What",
        required=False,
        choices=[("", "Everything"), *((kind.value, kind.label) for kind in KINDS)],
        widget=forms.Select(attrs={"class": "input"}),
        error_messages={"invalid_choice": "There is no such kind of movement. Choose one of the list."},
    )
    model = forms.ModelChoiceField(
        LanguageModel.objects.all(),
        label="Model",
        required=False,
        empty_label="All models",
        widget=forms.Select(attrs={"class": "input"}),
        error_messages={"invalid_choice": "There is no such model. Choose one of the list."},
    )
    conversation = forms.UUIDField(
        label="Chat",
        required=False,
        error_messages={"invalid": "There is no such chat. Choose one of the list."},
    )

    def __init__(self, data: QueryDict, *, user: User) -> None:
        super().__init__(data, auto_id="filter_%s")
        self._user = user
        # "from" is a word of Python's, but the plain one for a link.
        self.fields["from"] = _day("From")
        self.fields["to"] = _day("To")
        # Whatever model there is may be asked for; those to choose from have something to show.
        worth_choosing = {*answers.book().models(user), self.data.get("model")}
        models = [
            (model.pk, model.name) for model in LanguageModel.objects.all() if model.pk in worth_choosing
        ]
        self.fields["model"].widget = forms.Select(
            attrs={"class": "input"}, choices=[("", "All models"), *models]
        )
        offered = answers.book().conversations(user, limit=CONVERSATIONS_OFFERED)
        chosen = self._chosen_conversation()
        if chosen is not None and chosen not in offered:
            offered = [chosen, *offered]
        self.fields["conversation"].widget = forms.Select(
            attrs={"class": "input"}, choices=[("", "All chats"), *offered]
        )

    def _chosen_conversation(self) -> tuple[Any, str] | None:
        try:
            chosen = self.fields["conversation"].clean(self.data.get("conversation"))
        except forms.ValidationError:
            return None
        title = chosen and answers.book().title(self._user, chosen)
        return None if not title else (chosen, title)

    def clean_conversation(self) -> Any:
        chosen = self.cleaned_data["conversation"]
        if chosen is not None and answers.book().title(self._user, chosen) is None:
            raise forms.ValidationError("There is no such chat. Choose one of the list.")
        return chosen

    def clean(self) -> dict[str, Any]:
        first, last = self.cleaned_data.get("from"), self.cleaned_data.get("to")
        if first and last and first > last:
            raise forms.ValidationError("The first day is after the last.")
        return self.cleaned_data

    @property
    def filters(self) -> Filters:
        chosen = self.cleaned_data
        return Filters(
            kind=chosen["kind"] or None,
            model=chosen["model"].pk if chosen["model"] else None,
            conversation=chosen["conversation"],
            first=chosen["from"],
            last=chosen["to"],
        )

    @property
    def problems(self) -> str:
        """What is wrong, in sentences for the person."""
        return " ".join(str(error) for errors in self.errors.values() for error in errors)

    @property
    def chosen(self) -> dict[str, str]:
        """What links to other pages of this selection carry on."""
        return {name: self.data[name] for name in self.fields if self.data.get(name)}


class LowBalanceForm(forms.Form):
    """Below how many credits somebody wants a mail; 0 for never."""

    threshold = forms.DecimalField(
        min_value=0,
        max_value=HIGHEST_THRESHOLD,
        decimal_places=6,
        error_messages={
            "required": "Write a number of credits; 0 for no mails.",
            "invalid": "Write a number of credits, such as 20; 0 for no mails.",
            "min_value": "Write 0 for no mails, or a number of credits above it.",
            "max_value": f"The highest balance to be told of is {HIGHEST_THRESHOLD:,} credits.",
            "max_decimal_places": "Credits have at most six places after the point.",
        },
    )

    @property
    def threshold_microcredits(self) -> int:
        return to_microcredits(self.cleaned_data["threshold"])
