"""/settings/delete/: a person deletes their account."""

from importlib import import_module
from typing import Any

import pytest
from django.apps import apps
from django.contrib.admin.models import CHANGE, LogEntry
from django.test import Client

from accounts.models import ApiKey, User
from billing import ledger, welcome
from billing.models import Customer, Order, Transfer, WelcomedAddress
from chatapp.conversations.models import Conversation, Turn
from chatapp.leaving import DebtLeft, delete
from tests.accounts.conftest import PASSWORD, NewVisitor, is_signed_in
from tests.accounts.pages import read
from tests.admin.desk import conversation, ended_turn
from tests.billing.books import close_turn, open_turn, order, pay, take_back
from tests.conftest import SignIn
from tests.stack import Stack
from tests.streaming.reading import ask_until, hearing_of_stops, new_id, text_of

DELETE = "/settings/delete/"
CREDIT = 1_000_000
migration = import_module("billing.migrations.0023_welcomed_addresses")


def leave(browser: Client, user: User) -> None:
    """All the way, just after signing in."""
    read(browser.get(DELETE))
    assert browser.post(DELETE, {"email": user.email.upper()})["Location"] == "/"


def grow_old(browser: Client) -> None:
    """Let the sign-in of this session be longer ago than one is taken at one's word."""
    session = browser.session
    session["signed_in_at"] -= 301
    session.save()


def test_everything_goes_but_the_books(alices: Client, alice: User, charlie: User) -> None:
    _, token = ApiKey.issue(user=alice, name="cron")
    conversation(alice)
    kept = conversation(charlie)
    turn = ended_turn(alice)
    wallet = ledger.wallet_of(alice)
    Customer.objects.create(user=alice, stripe_id=f"cus_{new_id()}", email=alice.email)

    leave(alices, alice)

    assert not is_signed_in(alices)
    assert "Your account is deleted" in read(alices.get("/"))
    assert not User.objects.filter(pk=alice.pk).exists()
    assert ApiKey.objects.owner_of(token)[0] is None
    assert list(Conversation.objects.filter(pk=kept.pk)) == [kept]
    assert not Conversation.objects.filter(title="Spare keys").exclude(pk=kept.pk).exists()
    wallet.refresh_from_db()
    assert (wallet.user, wallet.balance) == (None, 99 * CREDIT)
    assert Transfer.objects.filter(debit=wallet).count() == 1
    assert Turn.objects.get(pk=turn.pk).user is None
    assert not Customer.objects.filter(email=alice.email).exists()
    assert "do not belong together" in read(
        alices.post("/accounts/login/", {"login": alice.email, "password": PASSWORD})
    )


def test_a_debt_is_repaid_first(alices: Client, alice: User) -> None:
    bought = order(alice, 50 * CREDIT)
    pay(bought)
    close_turn(open_turn(alice, 120 * CREDIT), 120 * CREDIT)
    take_back(bought, 50 * CREDIT)

    for answer in (alices.get(DELETE), alices.post(DELETE, {"email": alice.email})):
        html = read(answer, status=403)
        assert "You owe 20.00 credits" in html
        assert "/settings/export/" in html
    with pytest.raises(DebtLeft):
        delete(alice)
    pay(order(alice, 20 * CREDIT))
    assert alices.post(DELETE, {"email": alice.email})["Location"] == "/"
    assert not User.objects.filter(pk=alice.pk).exists()


def test_what_an_answer_may_still_cost_is_waited_for(alices: Client, alice: User) -> None:
    bought = order(alice, 50 * CREDIT)
    pay(bought)
    answer = open_turn(alice, 120 * CREDIT)
    take_back(bought, 50 * CREDIT)

    assert "Wait until it has ended" in read(alices.post(DELETE, {"email": alice.email}), status=409)
    close_turn(answer, 100 * CREDIT)
    assert alices.post(DELETE, {"email": alice.email})["Location"] == "/"


def test_an_address_is_welcomed_once(alice: User, charlie: User, new_visitor: NewVisitor) -> None:
    assert ledger.wallet_of(alice).balance == ledger.wallet_of(charlie).balance == 100 * CREDIT
    delete(alice)
    assert alice.email not in str(WelcomedAddress.objects.values_list())
    again = User.objects.create_user(alice.email.upper())
    back, other = new_visitor(), new_visitor()
    back.force_login(again)
    other.force_login(charlie)

    for page in ("/chat/", "/billing/"):
        assert "had its welcome credits with an earlier account" in read(back.get(page))
        assert "earlier account" not in read(other.get(page))
    assert ledger.wallet_of(again).balance == 0
    pay(order(again, CREDIT))
    assert "earlier account" not in read(back.get("/billing/"))


def test_addresses_of_two_accounts_are_two(db: None) -> None:
    for email in ("ann@straße.example", "ann@strasse.example"):
        assert ledger.wallet_of(User.objects.create_user(email)).balance == 100 * CREDIT


def test_who_was_here_before_addresses_were_remembered_has_been_welcomed(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    people = [
        User.objects.create_user(email) for email in ("Ann@straße.example", "Bob@x.example", "c@x.example")
    ]
    for person in people:
        ledger.wallet_of(person)
    WelcomedAddress.objects.all().delete()
    monkeypatch.setattr(migration, "CHUNK", 2)
    migration.enter(apps, None)
    assert all(WelcomedAddress.objects.filter(pk=welcome.digest(person.email)) for person in people)


def test_an_answer_that_is_being_written_is_stopped_at_once_and_settled(
    stack: Stack, alice: User, sign_in: SignIn
) -> None:
    wallet = ledger.wallet_of(alice)

    def once_it_speaks(seen: list[dict[str, Any]]) -> bool:
        if len(text_of(seen)) > 20 and User.objects.filter(pk=alice.pk).exists():
            with hearing_of_stops() as next_stop:
                delete(User.objects.get(pk=alice.pk))
                assert next_stop() == seen[0]["turn"]
            stack.claude.wait_for("client_closed")
        return False

    events = ask_until(sign_in(alice), once_it_speaks, "[[demo: tokens 4000]] [[demo: pace 100]] go on")

    turn = Turn.objects.get(pk=events[0]["turn"])
    assert (turn.state, turn.user, turn.conversation) == ("stopped", None, None)
    assert turn.charged > 0
    wallet.refresh_from_db()
    assert (wallet.user, wallet.balance, wallet.held) == (None, 100 * CREDIT - turn.charged, 0)


def test_it_takes_the_address(alices: Client, alice: User, charlie: User) -> None:
    assert "autofocus" not in read(alices.get(DELETE))
    for typed in ("", charlie.email):
        html = read(alices.post(DELETE, {"email": typed}))
        assert "Write your e-mail address to confirm." in html or "not the address" in html
        assert "autofocus" in html  # the field lies below a phone's screen, with all that is said above it
    assert User.objects.filter(pk__in=[alice.pk, charlie.pk]).count() == 2


def test_a_payment_that_a_bank_has_not_confirmed_is_spoken_of(alices: Client, alice: User) -> None:
    bought = order(alice, CREDIT)
    assert "your bank has not confirmed" not in read(alices.get(DELETE))
    Order.objects.filter(pk=bought.pk).update(state="pending")
    assert "your bank has not confirmed" in read(alices.get(DELETE))


def test_a_while_after_signing_in_it_takes_the_password_too(alices: Client, alice: User) -> None:
    grow_old(alices)
    assert "What is gone at once" in read(alices.get(DELETE)), "that can be read without it"
    confirm = alices.post(DELETE, {"email": alice.email})["Location"]
    assert confirm.startswith("/accounts/reauthenticate/?next=")
    wrong = read(alices.post(confirm, {"password": "a wrong one"}))
    assert "not right" in wrong
    for html in (read(alices.get(confirm)), read(alices.get(confirm)), wrong):
        assert "It is deleted as soon as you show here that it is you." in html, "at each look"
        assert "Delete my account</button>" in html
    assert "Delete" not in read(alices.get("/accounts/reauthenticate/?next=/settings/"))
    assert User.objects.filter(pk=alice.pk).exists()

    assert alices.post(confirm, {"password": PASSWORD})["Location"] == "/"
    assert not is_signed_in(alices)
    assert not User.objects.filter(pk=alice.pk).exists()


def test_a_bare_link_to_the_confirmation_promises_no_deletion(alices: Client, alice: User) -> None:
    grow_old(alices)
    link = f"/accounts/reauthenticate/?next={DELETE}"
    html = read(alices.get(link))
    assert "Is it you?</h1>" in html
    assert "Delete" not in html
    assert alices.post(link, {"password": PASSWORD})["Location"] == DELETE
    assert User.objects.filter(pk=alice.pk).exists()


def test_who_has_no_password_signs_in_once_more(db: None, new_visitor: NewVisitor) -> None:
    user = User.objects.create_user(f"{new_id()}@example.org")
    browser = new_visitor()
    browser.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    answer = browser.post(DELETE, {"email": user.email})
    assert answer["Location"] == f"/accounts/login/?next={DELETE}"
    assert not is_signed_in(browser)
    assert User.objects.filter(pk=user.pk).exists()


def test_who_has_just_signed_up_need_not_confirm(new_visitor: NewVisitor) -> None:
    browser, email = new_visitor(), f"{new_id()}@example.org"
    answer = browser.post("/accounts/signup/", {"email": email, "password1": PASSWORD})
    assert answer.status_code == 302, answer.content.decode()
    leave(browser, User.objects.get(email=email))
    assert not User.objects.filter(email=email).exists()


def test_what_staff_did_stays_on_record(alices: Client, alice: User) -> None:
    LogEntry.objects.log_actions(alice.pk, [alice], CHANGE, "", single_object=True)
    assert "stays on record" in read(alices.get(DELETE), status=403)
    read(alices.post(DELETE, {"email": alice.email}), status=403)
    assert User.objects.filter(pk=alice.pk).exists()


def test_who_is_not_signed_in_is_asked_to(visitor: Client) -> None:
    for answer in (visitor.get(DELETE), visitor.post(DELETE, {"email": "a@example.org"})):
        assert answer["Location"] == f"/accounts/login/?next={DELETE}"
