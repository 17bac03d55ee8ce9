"""`manage.py demo_login`."""

from io import StringIO

import pytest
from allauth.account.models import EmailAddress
from django.core.management import CommandError, call_command
from django.test import Client
from pytest_django import Settings

from accounts.demo import DEMO_EMAIL, DEMO_PASSWORD, OPERATOR_EMAIL, Login, demo_logins
from accounts.models import User
from tests.accounts.conftest import is_signed_in

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def debug(settings: Settings) -> None:
    settings.DEBUG = True


def test_it_prints_logins_that_work(visitor: Client) -> None:
    out = StringIO()
    call_command("demo_login", stdout=out)
    printed = [line.split() for line in out.getvalue().splitlines()]
    assert [email for email, _ in printed] == [DEMO_EMAIL, OPERATOR_EMAIL]
    for email, password in printed:
        visitor.post("/accounts/login/", {"login": email, "password": password})
        assert is_signed_in(visitor)
        visitor.post("/accounts/logout/")


def test_only_the_operator_may_use_the_admin() -> None:
    demo_logins()
    assert User.objects.get(email=OPERATOR_EMAIL).is_superuser
    demo = User.objects.get(email=DEMO_EMAIL)
    assert (demo.is_staff, demo.is_superuser) == (False, False)


def test_again_changes_nothing() -> None:
    first = demo_logins()
    before = list(User.objects.order_by("email").values_list("pk", "password"))
    assert demo_logins() == first == [Login(DEMO_EMAIL, DEMO_PASSWORD), Login(OPERATOR_EMAIL, DEMO_PASSWORD)]
    assert list(User.objects.order_by("email").values_list("pk", "password")) == before
    assert EmailAddress.objects.filter(verified=True, primary=True, email=DEMO_EMAIL).count() == 1


def test_what_was_changed_since_is_mended() -> None:
    demo_logins()
    User.objects.filter(email=DEMO_EMAIL).update(is_active=False, is_staff=True)
    demo_logins("another-password")
    demo = User.objects.get(email=DEMO_EMAIL)
    assert demo.check_password("another-password")
    assert (demo.is_active, demo.is_staff) == (True, False)


def test_a_password_that_everybody_knows_is_for_debug_only(settings: Settings) -> None:
    settings.DEBUG = False
    with pytest.raises(CommandError, match="only under DEBUG"):
        call_command("demo_login")
    assert not User.objects.filter(email__in=[DEMO_EMAIL, OPERATOR_EMAIL]).exists()
