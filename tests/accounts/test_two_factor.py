"""/accounts/2fa/: an authenticator app, and the codes for when it is lost."""

import re
import time

import pytest
from allauth.mfa.totp.internal.auth import format_hotp_value, hotp_value
from django.core.mail import EmailMultiAlternatives
from django.test import Client
from pytest_django import Settings

from accounts.models import User
from tests.accounts.conftest import PASSWORD, NewVisitor, is_signed_in
from tests.accounts.pages import read

Mails = list[EmailMultiAlternatives]

PERIOD_SECONDS = 30


@pytest.fixture(autouse=True)
def codes_outlive_their_period(settings: Settings) -> None:
    """A period may end between the making of a code and its checking."""
    settings.MFA_TOTP_TOLERANCE = 1


def code_of(secret: str) -> str:
    return format_hotp_value(hotp_value(secret, int(time.time()) // PERIOD_SECONDS))


def confirm_password(browser: Client) -> None:
    read(browser.get("/accounts/reauthenticate/"))
    assert browser.post("/accounts/reauthenticate/", {"password": PASSWORD}).status_code == 302


@pytest.fixture
def secret(alices: Client) -> str:
    """The secret in the authenticator app that alice has set up."""
    confirm_password(alices)
    html = read(alices.get("/accounts/2fa/totp/activate/"))
    assert 'src="data:image/svg+xml;base64,' in html
    found = re.search(r'id="totp-secret" value="([A-Z2-7]+)"', html)
    assert found
    wrong = alices.post("/accounts/2fa/totp/activate/", {"code": "000000"})
    assert "This code is not right" in read(wrong)
    found = re.search(r'id="totp-secret" value="([A-Z2-7]+)"', wrong.content.decode())
    assert found
    answer = alices.post("/accounts/2fa/totp/activate/", {"code": code_of(found[1])})
    assert answer["Location"] == "/accounts/2fa/recovery-codes/"
    return found[1]


@pytest.fixture
def recovery_codes(alices: Client, secret: str) -> list[str]:
    html = read(alices.get("/accounts/2fa/recovery-codes/"))
    assert 'id="codes"' in html
    assert 'data-copy="codes"' in html
    codes = re.findall(r"<li>(\w+)</li>", html)
    assert len(codes) == 10
    return codes


def begin(browser: Client, user: User) -> None:
    """Sign in as far as a password goes."""
    answer = browser.post("/accounts/login/", {"login": user.email, "password": PASSWORD})
    assert answer["Location"] == "/accounts/2fa/authenticate/"
    assert not is_signed_in(browser)


def test_the_app_is_asked_for_after_the_password(alice: User, secret: str, visitor: Client) -> None:
    begin(visitor, alice)
    read(visitor.get("/accounts/2fa/authenticate/"))
    assert "This code is not right" in read(visitor.post("/accounts/2fa/authenticate/", {"code": "000000"}))
    assert visitor.post("/accounts/2fa/authenticate/", {"code": code_of(secret)})["Location"] == "/chat/"
    assert is_signed_in(visitor)


def test_a_code_opens_once(alice: User, secret: str, new_visitor: NewVisitor) -> None:
    code = code_of(secret)
    opened = []
    for browser in (new_visitor(), new_visitor()):
        begin(browser, alice)
        browser.post("/accounts/2fa/authenticate/", {"code": code})
        opened.append(is_signed_in(browser))
    assert opened == [True, False]


def test_a_recovery_code_opens_once(alice: User, recovery_codes: list[str], new_visitor: NewVisitor) -> None:
    opened = []
    for browser in (new_visitor(), new_visitor()):
        begin(browser, alice)
        browser.post("/accounts/2fa/authenticate/", {"code": recovery_codes[0]})
        opened.append(is_signed_in(browser))
    assert opened == [True, False]


def test_a_code_by_mail_does_not_replace_the_second_factor(
    alice: User, secret: str, visitor: Client, mailoutbox: Mails
) -> None:
    mailoutbox.clear()
    visitor.post("/accounts/login/code/", {"email": alice.email})
    code = re.search(r"^[A-Z0-9-]{6,12}$", mailoutbox[0].body, re.MULTILINE)
    assert code
    answer = visitor.post("/accounts/login/code/confirm/", {"code": code[0]})
    assert answer["Location"] == "/accounts/2fa/authenticate/"
    assert not is_signed_in(visitor)


def test_recovery_codes_can_be_downloaded_and_replaced(alices: Client, recovery_codes: list[str]) -> None:
    file = alices.get("/accounts/2fa/recovery-codes/download/")
    assert "attachment" in file["Content-Disposition"]
    assert set(recovery_codes) < set(file.content.decode().split())
    assert "stop working" in read(alices.get("/accounts/2fa/recovery-codes/generate/"))
    alices.post("/accounts/2fa/recovery-codes/generate/")
    replaced = re.findall(r"<li>(\w+)</li>", read(alices.get("/accounts/2fa/recovery-codes/")))
    assert not set(replaced) & set(recovery_codes)


def test_turning_it_off_takes_the_password_again_and_tells_the_owner(
    alice: User, secret: str, new_visitor: NewVisitor, mailoutbox: Mails
) -> None:
    browser = new_visitor()
    begin(browser, alice)
    browser.post("/accounts/2fa/authenticate/", {"code": code_of(secret)})
    assert "/reauthenticate/" in browser.post("/accounts/2fa/totp/deactivate/")["Location"]
    assert "On" in read(browser.get("/settings/"))
    confirm_password(browser)
    read(browser.get("/accounts/2fa/totp/deactivate/"))
    browser.post("/accounts/2fa/totp/deactivate/")
    assert mailoutbox[-1].subject == "The authenticator app was removed"
    other = new_visitor()
    other.post("/accounts/login/", {"login": alice.email, "password": PASSWORD})
    assert is_signed_in(other)


def test_the_pages_tell_what_is_set_up(alices: Client, secret: str) -> None:
    html = read(alices.get("/accounts/2fa/"))
    assert "10 of 10 left" in html
    assert "Turn off" in html
    read(alices.get("/accounts/2fa/recovery-codes/generate/"))
    read(alices.get("/accounts/reauthenticate/"))
    read(alices.get("/accounts/2fa/reauthenticate/"))
