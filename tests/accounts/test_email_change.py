"""/accounts/email/: another address to sign in with."""

from django.core.mail import EmailMultiAlternatives
from django.test import Client

from accounts.models import User
from tests.accounts.conftest import PASSWORD, NewVisitor, is_signed_in
from tests.accounts.pages import link_in, read

Mails = list[EmailMultiAlternatives]


def test_the_new_address_counts_once_it_is_verified(
    alices: Client, alice: User, new_visitor: NewVisitor, new_email: str, mailoutbox: Mails
) -> None:
    old = alice.email
    alices.post("/accounts/email/", {"action_add": "", "email": new_email})
    html = read(alices.get("/accounts/email/"))
    assert old in html
    assert "Changing to" in html
    alice.refresh_from_db()
    assert alice.email == old

    link = link_in(mailoutbox[0], "confirm-email")
    assert mailoutbox[0].to == [new_email]
    alices.post(link)
    alice.refresh_from_db()
    assert alice.email == new_email
    warned = {mail.to[0] for mail in mailoutbox if mail.subject == "Your e-mail address was changed"}
    assert old in warned, "the old owner hears of it"
    for email, opens in ((old, False), (new_email, True)):
        other = new_visitor()
        other.post("/accounts/login/", {"login": email, "password": PASSWORD})
        assert is_signed_in(other) is opens


def test_a_change_can_be_cancelled(alices: Client, new_email: str, mailoutbox: Mails) -> None:
    alices.post("/accounts/email/", {"action_add": "", "email": new_email})
    link = link_in(mailoutbox[0], "confirm-email")
    alices.post("/accounts/email/", {"action_remove": "", "email": new_email})
    assert "Changing to" not in read(alices.get("/accounts/email/"))
    alices.post(link)
    assert new_email not in read(alices.get("/accounts/email/"))


def test_somebody_elses_address_cannot_be_taken(
    alices: Client, alice: User, charlie: User, mailoutbox: Mails
) -> None:
    alices.post("/accounts/email/", {"action_add": "", "email": charlie.email.upper()})
    for mail in mailoutbox:
        if "confirm-email" in mail.body:
            alices.post(link_in(mail, "confirm-email"))
    alice.refresh_from_db()
    assert alice.email != charlie.email


def test_the_outsider_cannot_cancel_a_change(alices: Client, charlies: Client, new_email: str) -> None:
    alices.post("/accounts/email/", {"action_add": "", "email": new_email})
    charlies.post("/accounts/email/", {"action_remove": "", "email": new_email})
    assert new_email in read(alices.get("/accounts/email/"))
