"""/accounts/login/: with a password, by a code, and out again."""

import pytest
from django.core.mail import EmailMultiAlternatives
from django.test import Client

from accounts.models import User
from tests.accounts.conftest import PASSWORD, NewVisitor, is_signed_in
from tests.accounts.pages import code_in, read

Mails = list[EmailMultiAlternatives]

ELSEWHERE = [
    "//evil.example/",
    "https://evil.example/",
    "/\\evil.example/",
    "///evil.example",
    "javascript:alert(1)",
]


def log_in(browser: Client, email: str, password: str = PASSWORD, **fields: str) -> object:
    return browser.post("/accounts/login/", {"login": email, "password": password, **fields})


def test_the_right_password_signs_in(alice: User, visitor: Client) -> None:
    assert log_in(visitor, alice.email)["Location"] == "/chat/"
    assert is_signed_in(visitor)


def test_the_address_may_be_written_in_any_case(alice: User, visitor: Client) -> None:
    log_in(visitor, alice.email.upper())
    assert is_signed_in(visitor)


def test_a_wrong_password_and_an_unknown_address_are_answered_alike(
    alice: User, new_visitor: NewVisitor, new_email: str
) -> None:
    for email in (alice.email, new_email):
        browser = new_visitor()
        assert "do not belong together" in read(log_in(browser, email, "not the password"))
        assert not is_signed_in(browser)


def test_a_person_who_is_switched_off_stays_out(alice: User, visitor: Client) -> None:
    User.objects.filter(pk=alice.pk).update(is_active=False)
    answer = log_in(visitor, alice.email)
    assert answer.status_code == 200 or answer["Location"] == "/accounts/inactive/"
    assert not is_signed_in(visitor)


def test_after_five_wrong_passwords_the_right_one_is_refused_too(
    alice: User, new_visitor: NewVisitor
) -> None:
    for _ in range(5):
        log_in(new_visitor(), alice.email, "not the password")
    browser = new_visitor()
    assert "Too many tries" in read(log_in(browser, alice.email))
    assert not is_signed_in(browser)


def test_too_many_tries_from_one_place_are_told_to_wait(visitor: Client) -> None:
    for _ in range(30):
        log_in(visitor, "not an address")
    assert "A little slower" in read(log_in(visitor, "not an address"), status=429)


def test_one_goes_on_where_one_wanted_to_be(alice: User, visitor: Client) -> None:
    refused = visitor.get("/settings/keys/")
    assert refused["Location"] == "/accounts/login/?next=/settings/keys/"
    assert 'value="/settings/keys/"' in read(visitor.get(refused["Location"]))
    assert log_in(visitor, alice.email, next="/settings/keys/")["Location"] == "/settings/keys/"


@pytest.mark.parametrize("elsewhere", ELSEWHERE)
def test_nobody_is_sent_to_another_site(alice: User, visitor: Client, elsewhere: str) -> None:
    assert log_in(visitor, alice.email, next=elsewhere)["Location"] == "/chat/"
    assert visitor.post("/accounts/logout/", {"next": elsewhere})["Location"] == "/"


def test_a_code_by_mail_signs_in_once(alice: User, new_visitor: NewVisitor, mailoutbox: Mails) -> None:
    browser = new_visitor()
    assert browser.post("/accounts/login/code/", {"email": alice.email})["Location"].startswith(
        "/accounts/login/code/confirm/"
    )
    assert alice.email in read(browser.get("/accounts/login/code/confirm/"))
    code = code_in(mailoutbox[0])
    assert mailoutbox[0].subject == "Your code to log in"
    assert "This code is not right" in read(
        browser.post("/accounts/login/code/confirm/", {"code": "WRONG-1"})
    )
    assert browser.post("/accounts/login/code/confirm/", {"code": code})["Location"] == "/chat/"
    assert is_signed_in(browser)
    other = new_visitor()
    other.post("/accounts/login/code/confirm/", {"code": code})
    assert not is_signed_in(other)


def test_asking_for_a_code_does_not_tell_who_has_an_account(
    alice: User, new_visitor: NewVisitor, new_email: str, mailoutbox: Mails
) -> None:
    pages = []
    for email in (alice.email, new_email):
        browser = new_visitor()
        browser.post("/accounts/login/code/", {"email": email})
        html = read(browser.get("/accounts/login/code/confirm/"))
        pages.append(html.replace(email, "…").partition("<main")[2].count("…"))
    assert pages[0] == pages[1] > 0
    assert [mail.to for mail in mailoutbox] == [[alice.email]]


def test_logging_out_takes_a_form(alices: Client) -> None:
    assert "Log out?" in read(alices.get("/accounts/logout/"))
    assert is_signed_in(alices)
    assert alices.post("/accounts/logout/")["Location"] == "/"
    assert not is_signed_in(alices)


def test_a_form_without_its_token_is_answered_by_a_person(alice: User, new_visitor: NewVisitor) -> None:
    browser = new_visitor(enforce_csrf_checks=True)
    html = read(log_in(browser, alice.email), status=403)
    assert "Please try that again" in html
    assert not is_signed_in(browser)
