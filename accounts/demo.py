"""People to try the site with, on a developer's machine."""

from dataclasses import dataclass

from allauth.account.models import EmailAddress
from django.conf import settings
from django.db import transaction

from accounts.models import User

DEMO_EMAIL = "demo@example.org"
OPERATOR_EMAIL = "operator@example.org"
DEMO_EMAILS = [DEMO_EMAIL, OPERATOR_EMAIL]
DEMO_PASSWORD = "demo-demo-demo"  # noqa: S105  known to everyone, and therefore refused outside DEBUG


@dataclass(frozen=True, slots=True)
class Login:
    """What one types to sign in."""

    email: str
    password: str


class NotADemo(Exception):
    """Logins that everyone knows exist only under DEBUG."""


def demo_logins(password: str = DEMO_PASSWORD) -> list[Login]:
    """A person who chats and an operator with every right in the admin, made or mended to sign in.

    NotADemo outside DEBUG.
    """
    if not settings.DEBUG:
        raise NotADemo("Demo logins exist only under DEBUG.")
    with transaction.atomic():
        _ensure(DEMO_EMAIL, password, name="Demo", is_staff=False)
        _ensure(OPERATOR_EMAIL, password, name="Operator", is_staff=True)
    return [Login(DEMO_EMAIL, password), Login(OPERATOR_EMAIL, password)]


def _ensure(email: str, password: str, *, name: str, is_staff: bool) -> None:
    user, made = User.objects.get_or_create(email=email, defaults={"name": name})
    user.is_active = True
    user.is_staff = user.is_superuser = is_staff
    # A new hash would sign out every browser that is signed in with the old one.
    if made or not user.check_password(password):
        user.set_password(password)
    user.save()
    EmailAddress.objects.update_or_create(
        user=user, email=email, defaults={"verified": True, "primary": True}
    )
