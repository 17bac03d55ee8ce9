"""What people send to buy credits."""

from typing import Any

from django import forms

from billing.models import Pack


class CheckoutForm(forms.Form):
    """One pack on sale. `order` is the id that the button was made with, so that a double click buys once."""

    pack = forms.ModelChoiceField(
        Pack.objects.none(),
        error_messages={
            "required": "Choose a pack of credits.",
            "invalid_choice": "This pack is not on sale. Choose one of those below.",
        },
    )
    order = forms.UUIDField(required=False, error_messages={"invalid": "Reload this page and choose again."})

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["pack"].queryset = Pack.objects.filter(on_sale=True)  # type: ignore[attr-defined]

    @property
    def first_error(self) -> str:
        """What is wrong, in one sentence for the person."""
        return next(str(error) for errors in self.errors.values() for error in errors)
