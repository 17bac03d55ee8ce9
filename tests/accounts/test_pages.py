"""Every page that is not the chat, the billing or the admin: for who is signed in, and who is not."""

import re

import pytest
from allauth.account.models import EmailAddress
from django.template.loader import render_to_string
from django.test import Client
from pytest_django import Settings

from accounts.models import User
from billing.models import LanguageModel
from tests.accounts.conftest import PASSWORD
from tests.accounts.pages import read

PUBLIC = [
    "/",
    "/accounts/login/",
    "/accounts/signup/",
    "/accounts/login/code/",
    "/accounts/password/reset/",
    "/accounts/password/reset/done/",
    "/accounts/password/reset/key/done/",
    "/accounts/confirm-email/",
    "/accounts/inactive/",
    "/accounts/3rdparty/login/cancelled/",
]
PRIVATE = [
    "/settings/",
    "/settings/keys/",
    "/accounts/logout/",
    "/accounts/email/",
    "/accounts/password/change/",
    "/accounts/password/reset/",
    "/accounts/reauthenticate/",
    "/accounts/2fa/",
    "/accounts/2fa/webauthn/",
    "/accounts/3rdparty/",
]
FAULTS = ["400", "403", "404", "429", "500", "503"]


@pytest.mark.parametrize("path", PUBLIC)
def test_anybody_can_read(path: str, visitor: Client) -> None:
    read(visitor.get(path))


def test_a_sign_in_elsewhere_that_failed_is_explained(visitor: Client) -> None:
    assert "That did not work" in read(visitor.get("/accounts/3rdparty/login/error/"), status=401)


@pytest.mark.parametrize("path", PRIVATE)
def test_who_is_signed_in_can_read(path: str, alices: Client) -> None:
    read(alices.get(path))


@pytest.mark.parametrize("path", ["/settings/", "/settings/keys/", "/accounts/email/", "/accounts/2fa/"])
def test_private_pages_ask_who_it_is(path: str, visitor: Client) -> None:
    assert visitor.get(path)["Location"] == f"/accounts/login/?next={path}"


def test_who_is_signed_in_need_not_sign_in(alices: Client) -> None:
    for path in ("/", "/accounts/login/", "/accounts/signup/", "/accounts/login/code/"):
        assert alices.get(path)["Location"] == "/chat/"


def test_a_passkey_can_be_added(alices: Client) -> None:
    alices.post("/accounts/reauthenticate/", {"password": PASSWORD})
    html = read(alices.get("/accounts/2fa/webauthn/add/"))
    assert 'id="passkey-options"' in html
    assert re.search(r'<input type="checkbox" name="passwordless"[^>]* checked', html)


def test_a_passkey_is_added_at_a_name(alices: Client, settings: Settings) -> None:
    alices.post("/accounts/reauthenticate/", {"password": PASSWORD})
    page = "/accounts/2fa/webauthn/add/"
    settings.ALLOWED_HOSTS = ["*"]
    settings.DEBUG = True
    html = read(alices.get(page, headers={"host": "127.0.0.1:8000"}))
    assert f'<a href="http://localhost:8000{page}">' in html
    assert "add-passkey" not in html
    assert "localhost" not in read(alices.get(page, headers={"host": "192.0.2.7:8000"})), "another machine"
    settings.DEBUG = False
    for host in ("127.0.0.1:8000", "[::1]"):
        html = read(alices.get(page, headers={"host": host}))
        assert "Open it by its name" in html
        assert "localhost" not in html


def test_who_has_to_verify_their_address_first_is_led_there(alices: Client, alice: User) -> None:
    EmailAddress.objects.filter(user=alice).update(verified=False)
    html = read(alices.get("/accounts/2fa/webauthn/add/", follow=True))
    assert '<a href="/accounts/email/">Verify your e-mail address</a> first' in html


def test_the_front_page_tells_todays_prices(visitor: Client) -> None:
    html = read(visitor.get("/"))
    on_sale = list(LanguageModel.objects.on_sale())
    assert on_sale
    for model in on_sale:
        assert model.name in html


def test_other_accounts_are_offered_only_where_they_are_set_up(
    visitor: Client, alices: Client, settings: Settings
) -> None:
    for path in ("/accounts/login/", "/accounts/signup/"):
        assert "Continue with" not in read(visitor.get(path))
    apps = [{"client_id": "id", "secret": "secret", "key": ""}]
    settings.SOCIALACCOUNT_PROVIDERS = {"google": {"APPS": apps}, "github": {"APPS": apps}}
    for path in ("/accounts/login/", "/accounts/signup/"):
        html = read(visitor.get(path))
        assert "Continue with Google" in html
        assert "Continue with GitHub" in html
    assert "GitHub" in read(visitor.get("/accounts/github/login/"))
    assert "Connect another" in read(alices.get("/accounts/3rdparty/"))


def test_the_demo_is_told_from_the_real_thing(visitor: Client, settings: Settings) -> None:
    said = {}
    for claude in (True, False):
        for stripe in (True, False):
            settings.DEMO_CLAUDE, settings.DEMO_STRIPE = claude, stripe
            html = read(visitor.get("/accounts/login/"))
            said[claude, stripe] = ("ANTHROPIC_API_KEY" in html, "STRIPE_SECRET_KEY" in html)
    assert all(told == are for are, told in said.items())


def test_a_name_can_be_given(alices: Client, alice: User) -> None:
    assert alices.post("/settings/", {"name": "Alice <i>A.</i>"})["Location"] == "/settings/"
    html = read(alices.get("/settings/"))
    assert "Saved." in html
    assert "<i>A." not in html
    alice.refresh_from_db()
    assert alice.name == "Alice <i>A.</i>"


def test_a_name_that_is_too_long_is_refused(alices: Client, alice: User) -> None:
    before = alice.name
    assert "at most 120 characters" in read(alices.post("/settings/", {"name": "x" * 121}))
    alice.refresh_from_db()
    assert alice.name == before


def test_instructions_are_kept_without_what_stands_around_them(alices: Client, alice: User) -> None:
    whole = "Short answers.\r\n" + "é" * (4000 - 15)
    assert alices.post("/settings/", {"name": "", "instructions": f"  {whole}\r\n"}).status_code == 302
    alice.refresh_from_db()
    assert alice.instructions == whole.replace("\r\n", "\n")
    alices.post("/settings/", {"name": "", "instructions": ""})
    alice.refresh_from_db()
    assert alice.instructions == ""


@pytest.mark.parametrize(
    ("words", "complaint"), [("x" * 4001, "at most 4000 char"), ("a\0b", "Null characters")]
)
def test_instructions_that_cannot_be_kept_are_refused(
    alices: Client, alice: User, words: str, complaint: str
) -> None:
    assert complaint in read(alices.post("/settings/", {"name": "", "instructions": words}))
    alice.refresh_from_db()
    assert alice.instructions == ""


def test_what_is_not_there_is_said_kindly(visitor: Client, alices: Client) -> None:
    for browser in (visitor, alices):
        assert "There is nothing here" in read(browser.get("/nowhere/"), status=404)


@pytest.mark.parametrize("name", FAULTS)
def test_fault_pages_need_nothing_that_may_be_broken(name: str) -> None:
    """No request, no person and, as this test has none, no database."""
    html = render_to_string(f"{name}.html")
    assert name in html
    assert 'href="/"' in html
