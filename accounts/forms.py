"""Forms of the settings pages, and those of django-allauth that we change."""

from ipaddress import ip_address
from typing import Any
from urllib.parse import SplitResult, urlsplit

from allauth.core import context
from allauth.mfa.webauthn.forms import AddWebAuthnForm
from django import forms
from django.conf import settings

from accounts.models import ApiKey, User

KEYS_AT_MOST = 20


class Lines(forms.CharField):
    """A longer text. Browsers send each line end as two characters, and count it as one."""

    def to_python(self, value: Any) -> Any:
        return super().to_python(value.replace("\r\n", "\n") if isinstance(value, str) else value)


class ProfileForm(forms.ModelForm):
    """What a person tells about themselves, and how they want to be answered."""

    class Meta:
        model = User
        fields = ["name", "instructions"]
        field_classes = {"instructions": Lines}
        widgets = {
            "name": forms.TextInput(attrs={"autocomplete": "name"}),
            "instructions": forms.Textarea(attrs={"rows": 6, "class": "input"}),
        }
        labels = {"instructions": "Instructions for Claude"}
        help_texts = {
            "name": "How we address you. Claude is not told.",
            "instructions": "Told to Claude before each of your chats, such as who you are and how you want to be "
            "answered. A chat can have its own on top. They are part of every message’s price.",
        }


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
        if ApiKey.objects.active().filter(user=self.user).count() >= KEYS_AT_MOST:
            raise forms.ValidationError(f"You have {KEYS_AT_MOST} keys. Revoke one that is not used first.")
        return self.cleaned_data


class AddPasskeyForm(AddWebAuthnForm):
    """A passkey that signs in alone, unless the person wants it to come after the password."""

    passwordless = forms.BooleanField(
        label="Sign in with it alone",
        required=False,
        initial=True,
        help_text="Then it needs a fingerprint, face or PIN, and replaces the password. "
        "Otherwise it is a second factor after the password.",
    )

    @property
    def address(self) -> str:
        """The IP address that the page was asked for at, if any: a passkey belongs to a name."""
        host = _asked_at().hostname or ""
        try:
            return str(ip_address(host))
        except ValueError:
            return ""

    @property
    def named_page(self) -> str:
        """The same page at a name, where one is known: on the developer's own machine."""
        at = _asked_at()
        if not settings.DEBUG or not ip_address(self.address).is_loopback:
            return ""
        return at._replace(netloc=f"localhost:{at.port}" if at.port else "localhost").geturl()


def _asked_at() -> SplitResult:
    return urlsplit(context.request.build_absolute_uri())
