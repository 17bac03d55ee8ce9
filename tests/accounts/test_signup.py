"""/accounts/signup/, and proving that an e-mail address is one's own."""

import pytest
from django.core.mail import EmailMultiAlternatives
from django.test import Client
from pytest_django import Settings

from accounts.models import User
from tests.accounts.conftest import PASSWORD, NewVisitor, is_signed_in
from tests.accounts.pages import code_in, link_in, read

Mails = list[EmailMultiAlternatives]


@pytest.fixture
def verification_is_mandatory(settings: Settings) -> None:
    settings.ACCOUNT_EMAIL_VERIFICATION = "mandatory"
    settings.ACCOUNT_EMAIL_VERIFICATION_BY_CODE_ENABLED = True


def sign_up(browser: Client, email: str, password: str = PASSWORD, **fields: str) -> object:
    return browser.post("/accounts/signup/", {"email": email, "password1": password, **fields})


def test_a_new_person_is_signed_in_and_has_credits(visitor: Client, new_email: str) -> None:
    answer = sign_up(visitor, new_email)
    assert answer.status_code == 302
    assert answer["Location"] == "/chat/"
    html = read(visitor.get("/settings/"))
    assert "not verified" in html
    assert "100.00" in html


def test_the_address_is_verified_by_the_link_in_the_mail(
    visitor: Client, new_email: str, mailoutbox: Mails
) -> None:
    sign_up(visitor, new_email)
    assert mailoutbox[0].subject == "Welcome to Chatapp: verify your e-mail address"
    link = link_in(mailoutbox[0], "confirm-email")
    assert new_email in read(visitor.get(link))
    assert "not verified" in read(visitor.get("/settings/")), (
        "looking at a link, as mail scanners do, proves nothing"
    )
    assert visitor.post(link).status_code == 302
    assert "not verified" not in read(visitor.get("/settings/"))


def test_a_mangled_link_says_so(visitor: Client) -> None:
    assert "This link does not work" in read(visitor.get("/accounts/confirm-email/mangled/"))


@pytest.mark.usefixtures("verification_is_mandatory")
def test_where_verification_is_mandatory_the_code_signs_in(
    visitor: Client, new_email: str, mailoutbox: Mails
) -> None:
    answer = sign_up(visitor, new_email)
    assert answer["Location"] == "/accounts/confirm-email/"
    assert new_email in read(visitor.get("/accounts/confirm-email/"))
    assert not is_signed_in(visitor)
    wrong = visitor.post("/accounts/confirm-email/", {"code": "WRONG-1"})
    assert "This code is not right" in read(wrong)
    answer = visitor.post("/accounts/confirm-email/", {"code": code_in(mailoutbox[0])})
    assert answer["Location"] == "/chat/"
    assert is_signed_in(visitor)


@pytest.mark.usefixtures("verification_is_mandatory")
def test_where_verification_is_mandatory_a_password_alone_does_not_sign_in(
    new_visitor: NewVisitor, new_email: str
) -> None:
    sign_up(new_visitor(), new_email)
    elsewhere = new_visitor()
    elsewhere.post("/accounts/login/", {"login": new_email, "password": PASSWORD})
    assert not is_signed_in(elsewhere)


def test_one_address_has_one_account_however_it_is_written(alice: User, visitor: Client) -> None:
    html = read(sign_up(visitor, alice.email.upper()))
    assert "There is an account with this e-mail address" in html
    assert User.objects.filter(email__iexact=alice.email).count() == 1


@pytest.mark.usefixtures("verification_is_mandatory")
def test_where_verification_is_mandatory_signing_up_does_not_tell_who_has_an_account(
    alice: User, new_visitor: NewVisitor, new_email: str, mailoutbox: Mails
) -> None:
    taken, free = sign_up(new_visitor(), alice.email.upper()), sign_up(new_visitor(), new_email)
    assert (taken.status_code, taken["Location"]) == (free.status_code, free["Location"])
    told = {mail.to[0]: mail.subject for mail in mailoutbox}
    assert told[alice.email] == "You already have an account"
    assert User.objects.filter(email__iexact=alice.email).count() == 1


@pytest.mark.parametrize(
    ("password", "sentence"),
    [("short-1", "too short"), ("password1234", "too common"), ("{email}", "too similar")],
)
def test_weak_passwords_are_refused(visitor: Client, new_email: str, password: str, sentence: str) -> None:
    html = read(sign_up(visitor, new_email, password.format(email=new_email)))
    assert sentence in html
    assert 'aria-invalid="true"' in html
    assert not User.objects.filter(email=new_email).exists()


def test_after_the_form_one_goes_where_one_wanted_to(visitor: Client, new_email: str) -> None:
    assert "/settings/keys/" in read(visitor.get("/accounts/signup/?next=/settings/keys/"))
    assert sign_up(visitor, new_email, next="/settings/keys/")["Location"] == "/settings/keys/"


def test_too_many_tries_are_told_to_wait(visitor: Client) -> None:
    for _ in range(20):
        sign_up(visitor, "not an address")
    assert "A little slower" in read(sign_up(visitor, "not an address"), status=429)
