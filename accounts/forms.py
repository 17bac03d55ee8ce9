"""Forms of the settings pages."""

from typing import Any

from django import forms

from accounts.models import ApiKey, User

KEYS_AT_MOST = 20


class ProfileForm(forms.ModelForm):
    """What a person tells about themselves."""

    class Meta:
        model = User
        fields = ["name"]
        widgets = {"name": forms.TextInput(attrs={"autocomplete": "name"})}
        help_texts = {"name": "Shown in the menu and on your receipts. Claude is not told."}


class ApiKeyForm(forms.ModelForm):
    """A name for a new key of `user`, who may have KEYS_AT_MOST active ones."""

    class Meta:
        model = ApiKey
        fields = ["name"]
        widgets = {"name": forms.TextInput(attrs={"autocomplete": "off"})}
        help_texts = {"name": "Where the key will be used, such as “notebook” or “cron on the server”."}

    def __init__(self, *args: Any, user: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.user = user

    def clean(self) -> dict[str, Any]:
        if self.user.api_keys.active().count() >= KEYS_AT_MOST:
            raise forms.ValidationError(f"You have {KEYS_AT_MOST} keys. Revoke one that is not used first.")
        return self.cleaned_data
