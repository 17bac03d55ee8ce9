"""The operator at the desk: a browser that is past the login and the second factor."""

import pytest
from allauth.mfa.models import Authenticator
from django.test import Client

from accounts.models import User


@pytest.fixture
def operator(operator: User) -> User:
    """With the second factor without which the admin does not open in production."""
    Authenticator.objects.create(user=operator, type=Authenticator.Type.TOTP, data={})
    return operator


@pytest.fixture
def clerk(bob: User) -> User:
    """Staff with a second factor and no rights yet."""
    bob.is_staff = True
    bob.save()
    Authenticator.objects.create(user=bob, type=Authenticator.Type.TOTP, data={})
    return bob


@pytest.fixture
def desk(operator: User) -> Client:
    return browser_of(operator)


def browser_of(user: User) -> Client:
    client = Client()
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return client
