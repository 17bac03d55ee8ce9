"""Visitors: browsers that have not signed in, each with an address of its own, as rate limits see them."""

import secrets
from collections.abc import Callable
from ipaddress import IPv4Address

import pytest
from django.test import Client

from accounts.models import User

PASSWORD = "Tallship-Marrow-9"

NewVisitor = Callable[..., Client]


@pytest.fixture
def new_visitor(db: None) -> NewVisitor:
    def new_visitor(**options: bool) -> Client:
        return Client(REMOTE_ADDR=str(IPv4Address(secrets.randbits(32))), **options)

    return new_visitor


@pytest.fixture
def visitor(new_visitor: NewVisitor) -> Client:
    return new_visitor()


@pytest.fixture
def new_email() -> str:
    return f"dora-{secrets.token_hex(6)}@example.org"


@pytest.fixture
def alice(alice: User) -> User:
    return _with_password(alice)


@pytest.fixture
def charlie(charlie: User) -> User:
    return _with_password(charlie)


def _with_password(user: User) -> User:
    user.set_password(PASSWORD)
    user.save()
    return user


@pytest.fixture
def alices(alice: User, new_visitor: NewVisitor) -> Client:
    """A browser in which alice has signed in."""
    return signed_in(new_visitor(), alice)


@pytest.fixture
def charlies(charlie: User, new_visitor: NewVisitor) -> Client:
    return signed_in(new_visitor(), charlie)


def signed_in(browser: Client, user: User) -> Client:
    answer = browser.post("/accounts/login/", {"login": user.email, "password": PASSWORD})
    assert answer.status_code == 302, answer.content.decode()
    return browser


def is_signed_in(browser: Client) -> bool:
    return "_auth_user_id" in browser.session
