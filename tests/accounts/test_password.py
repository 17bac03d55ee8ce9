"""A forgotten password, and a changed one."""

from django.core.mail import EmailMultiAlternatives
from django.test import Client

from accounts.models import User
from tests.accounts.conftest import PASSWORD, NewVisitor, is_signed_in
from tests.accounts.pages import link_in, read

Mails = list[EmailMultiAlternatives]

NEW = "Another-Word-For-It-7"


def test_a_forgotten_password_is_replaced_by_the_link_in_the_mail(
    alice: User, new_visitor: NewVisitor, mailoutbox: Mails
) -> None:
    browser = new_visitor()
    read(browser.get("/accounts/password/reset/"))
    assert browser.post("/accounts/password/reset/", {"email": alice.email})["Location"].endswith("/done/")
    assert "Look in your mail" in read(browser.get("/accounts/password/reset/done/"))
    assert mailoutbox[0].subject == "Reset your password"
    link = link_in(mailoutbox[0], "password/reset/key")

    form = browser.get(link)
    assert form.status_code == 302, "the key leaves the address bar, where other sites could see it"
    html = read(browser.get(form["Location"]))
    assert "Choose a new password" in html
    mismatch = browser.post(form["Location"], {"password1": NEW, "password2": NEW + "!"})
    assert "same password" in read(mismatch)
    done = browser.post(form["Location"], {"password1": NEW, "password2": NEW})
    assert "Your password is changed" in read(browser.get(done["Location"]))
    assert mailoutbox[1].subject == "Your password was reset"

    for password, opens in ((PASSWORD, False), (NEW, True)):
        other = new_visitor()
        other.post("/accounts/login/", {"login": alice.email, "password": password})
        assert is_signed_in(other) is opens

    used = new_visitor().get(link, follow=True)
    assert "This link does not work" in read(used)


def test_resetting_does_not_tell_who_has_an_account(
    visitor: Client, new_email: str, mailoutbox: Mails
) -> None:
    assert visitor.post("/accounts/password/reset/", {"email": new_email})["Location"].endswith("/done/")
    assert mailoutbox == []


def test_changing_takes_the_current_password_and_tells_the_owner(
    alices: Client, alice: User, mailoutbox: Mails
) -> None:
    fields = {"oldpassword": "not it", "password1": NEW, "password2": NEW}
    assert "This is not your current password" in read(alices.post("/accounts/password/change/", fields))
    assert alices.post("/accounts/password/change/", {**fields, "oldpassword": PASSWORD}).status_code == 302
    alice.refresh_from_db()
    assert alice.check_password(NEW)
    assert is_signed_in(alices)
    assert [mail.subject for mail in mailoutbox] == ["Your password was changed"]


def test_changing_signs_out_every_other_browser(alices: Client, alice: User, new_visitor: NewVisitor) -> None:
    other = new_visitor()
    other.post("/accounts/login/", {"login": alice.email, "password": PASSWORD})
    fields = {"oldpassword": PASSWORD, "password1": NEW, "password2": NEW}
    alices.post("/accounts/password/change/", fields)
    assert other.get("/settings/").status_code == 302
    assert alices.get("/settings/").status_code == 200


def test_who_has_no_password_can_set_one(bob: User, visitor: Client) -> None:
    bob.set_unusable_password()
    bob.save()
    visitor.force_login(bob, backend="django.contrib.auth.backends.ModelBackend")
    assert "None: you sign in by code" in read(visitor.get("/settings/"))
    assert visitor.get("/accounts/password/change/")["Location"] == "/accounts/password/set/"
    read(visitor.get("/accounts/password/set/"))
    visitor.post("/accounts/password/set/", {"password1": NEW, "password2": NEW})
    bob.refresh_from_db()
    assert bob.check_password(NEW)
