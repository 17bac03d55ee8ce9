"""The operator's list and page of people."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.hashers import check_password
from django.contrib.auth.models import Group
from django.db import connection, transaction
from django.test import Client

from accounts.models import ApiKey, User
from billing import ledger
from billing.models import Account, Customer, Transfer
from chatapp.conversations.models import Conversation, Turn
from tests.admin.conftest import browser_of
from tests.admin.desk import allow, conversation, ended_turn, page
from tests.billing.books import CREDIT, close_turn, give, open_turn, somebody_waits
from tests.servers import wait_until

LIST = "/admin/accounts/user/"


def of(user: User, rest: str = "change/") -> str:
    return f"{LIST}{user.pk}/{rest}"


def test_the_list_tells_balance_and_turns(desk: Client, alice: User) -> None:
    ended_turn(alice, price=CREDIT)
    open_turn(alice, 3 * CREDIT)
    row = page(desk, LIST, q=alice.email)
    assert f"{alice.email} Alice 96.000000 3.000000 2 " in row


def test_who_never_looked_at_a_page_has_no_wallet_yet_and_is_listed(desk: Client, alice: User) -> None:
    assert f"{alice.email} Alice 0.000000 0.000000 0 " in page(desk, LIST, q=alice.email)
    assert not Account.objects.filter(user=alice).exists()


def test_people_are_sorted_by_what_they_have(desk: Client) -> None:
    users = [User.objects.create_user(f"sorted{n}-rich@example.org") for n in range(3)]
    for user, credits in zip(users, (5, 90, 20), strict=True):
        give(user, credits * CREDIT)
    shown = page(desk, LIST, q="-rich@", o="-3")
    assert sorted(users, key=lambda user: shown.index(user.email)) == [users[1], users[2], users[0]]


@pytest.mark.parametrize("word", ["email", "name", "pk"])
def test_people_are_found(word: str, desk: Client, alice: User, charlie: User) -> None:
    User.objects.filter(pk=alice.pk).update(name="Alice Hargreaves")
    alice.refresh_from_db()
    shown = page(desk, LIST, q=str(getattr(alice, word)))
    assert alice.email in shown
    assert charlie.email not in shown


def test_a_page_leads_to_all_that_is_this_persons(desk: Client, alice: User, charlie: User) -> None:
    for user in (alice, charlie):
        ended_turn(user)
        conversation(user, title=f"Chat of {user.name}")
    wallet = ledger.wallet_of(alice)
    shown = desk.get(of(alice)).content.decode()
    links = {
        "conversations/conversation": f"user__id__exact={alice.pk}",
        "conversations/turn": f"user__id__exact={alice.pk}",
        "streaming/usagerecord": f"user__id__exact={alice.pk}",
        "billing/order": f"user__id__exact={alice.pk}",
        "billing/transfer": f"wallet={wallet.pk}",
    }
    for place, query in links.items():
        url = f"/admin/{place}/?{query}"
        assert url in shown
        assert charlie.email not in page(desk, url), url
        if place != "billing/order":
            assert alice.email in page(desk, url), url


def test_an_address_is_not_changed_behind_the_logins_back(desk: Client, alice: User) -> None:
    desk.post(of(alice), {"email": "eve@example.org", "name": "Alice L.", "is_active": "on"} | no_inlines())
    alice.refresh_from_db()
    assert alice.name == "Alice L."
    assert alice.email != "eve@example.org"


def test_an_account_is_switched_off(desk: Client, alice: User) -> None:
    desk.post(of(alice), {"name": "Alice"} | no_inlines())
    alice.refresh_from_db()
    assert not alice.is_active


def test_a_password_is_set(desk: Client, alice: User) -> None:
    new = {"password1": "Tallship-Marrow-9", "password2": "Tallship-Marrow-9"}
    assert desk.get(of(alice, "password/")).status_code == 200
    assert desk.post(of(alice, "password/"), new).status_code == 302
    alice.refresh_from_db()
    assert check_password("Tallship-Marrow-9", alice.password)


def test_a_person_is_added(desk: Client) -> None:
    form = {"email": "Grace@Example.org", "name": "Grace", "usable_password": "false"}
    answer = desk.post(f"{LIST}add/", form)
    assert answer.status_code == 302, answer.content.decode()
    grace = User.objects.get(email__iexact="grace@example.org")
    assert not grace.has_usable_password()
    again = desk.post(f"{LIST}add/", form | {"email": "grace@example.org"})
    assert "This address has an account." in again.content.decode()


def test_staff_who_may_change_people_cannot_change_staff_or_make_some(
    clerk: User, operator: User, alice: User
) -> None:
    allow(clerk, "accounts.view_user", "accounts.change_user")
    desk = browser_of(clerk)
    before = operator.password
    new = {"password1": "Tallship-Marrow-9", "password2": "Tallship-Marrow-9"}
    assert desk.post(of(operator, "password/"), new).status_code == 403
    assert desk.post(of(operator), {"name": "Owned"} | no_inlines()).status_code == 403
    desk.post(
        of(alice), {"name": "A.", "is_active": "on", "is_staff": "on", "is_superuser": "on"} | no_inlines()
    )
    for user in (operator, alice):
        user.refresh_from_db()
    assert (operator.password, operator.name) == (before, "Operator")
    assert alice.name == "A."
    assert not alice.is_staff
    assert not alice.is_superuser


def test_staff_give_themselves_no_rights_through_a_group(clerk: User) -> None:
    group = Group.objects.create(name="clerks")
    allow(clerk, "auth.view_group", "auth.add_group", "auth.change_group", "auth.delete_group")
    desk = browser_of(clerk)
    assert desk.get("/admin/auth/group/").status_code == 200
    assert desk.post("/admin/auth/group/add/", {"name": "kings"}).status_code == 403
    for rest in ("change/", "delete/"):
        answer = desk.post(f"/admin/auth/group/{group.pk}/{rest}", {"name": "kings", "post": "yes"})
        assert answer.status_code == 403
    assert Group.objects.filter(name="clerks").exists()


def test_keys_are_shown_without_secret_and_revoked_once(desk: Client, alice: User, operator: User) -> None:
    key, token = ApiKey.issue(user=alice, name="cron")
    url = f"/admin/accounts/apikey/{key.pk}/"
    shown = desk.get(of(alice)).content.decode()
    assert key.prefix in shown
    assert f"{url}change/" in shown
    for text in (
        shown,
        desk.get(f"{url}change/").content.decode(),
        desk.get(f"{url}revoke/").content.decode(),
    ):
        assert key.hash not in text
        assert token not in text
    assert ApiKey.objects.owner_of(token)[0] == alice, "a look revokes nothing"
    for _ in range(2):
        assert desk.post(f"{url}revoke/").status_code == 302
    assert ApiKey.objects.owner_of(token)[0] is None
    assert [entry.user for entry in LogEntry.objects.filter(object_id=key.pk)] == [operator]


def test_revoking_keys_is_a_right(clerk: User, alice: User) -> None:
    key, token = ApiKey.issue(user=alice, name="cron")
    allow(clerk, "accounts.view_apikey")
    assert browser_of(clerk).post(f"/admin/accounts/apikey/{key.pk}/revoke/").status_code == 403
    assert ApiKey.objects.owner_of(token)[0] == alice


def test_a_deleted_person_leaves_the_books_whole(desk: Client, alice: User) -> None:
    ApiKey.issue(user=alice, name="cron")
    conversation(alice)
    turn = ended_turn(alice)
    wallet = ledger.wallet_of(alice)
    Customer.objects.create(user=alice, stripe_id=f"cus_{alice.pk}", email=alice.email)
    assert desk.post(of(alice, "delete/"), {"post": "yes"}).status_code == 302
    assert not User.objects.filter(pk=alice.pk).exists()
    assert not Conversation.objects.filter(user=alice.pk).exists()
    assert Turn.objects.get(pk=turn.pk).user is None
    wallet.refresh_from_db()
    assert (wallet.user, wallet.balance) == (None, 99 * CREDIT)
    assert Transfer.objects.filter(debit=wallet).count() == 1
    assert not Customer.objects.filter(email=alice.email).exists()
    for place in (
        "billing/transfer",
        "conversations/turn",
        "streaming/usagerecord",
        "billing/hold",
        "billing/account",
    ):
        assert "deleted" in page(desk, f"/admin/{place}/")


def test_deleting_and_the_end_of_an_answer_wait_for_each_other(
    committed_db: None, desk: Client, alice: User
) -> None:
    """Else each would have what the other waits for, and one of the two would fail."""
    turn = open_turn(alice, 2 * CREDIT)
    wallet = ledger.wallet_of(alice)
    with ThreadPoolExecutor() as pool:
        with transaction.atomic():
            ledger.lock_wallet_holding(turn)
            deletion = pool.submit(deleted_in_a_thread, desk, alice)
            wait_until(somebody_waits, "the deletion waits for the wallet", 20)
            close_turn(turn, CREDIT)
        assert deletion.result() == 302
    assert not User.objects.filter(pk=alice.pk).exists()
    assert Turn.objects.get(pk=turn).user is None
    wallet.refresh_from_db()
    assert (wallet.user, wallet.balance, wallet.held) == (None, 99 * CREDIT, 0)


def deleted_in_a_thread(desk: Client, user: User) -> int:
    try:
        return desk.post(of(user, "delete/"), {"post": "yes"}).status_code
    finally:
        connection.close()


def test_who_had_no_wallet_leaves_none(desk: Client, alice: User) -> None:
    assert desk.post(of(alice, "delete/"), {"post": "yes"}).status_code == 302
    again = User.objects.create_user(alice.email)
    assert ledger.wallet_of(again).balance == 100 * CREDIT, "the address has not been welcomed yet"


def test_only_a_superuser_deletes_people(clerk: User, alice: User) -> None:
    allow(clerk, "accounts.view_user", "accounts.change_user", "accounts.delete_user")
    assert browser_of(clerk).post(of(alice, "delete/"), {"post": "yes"}).status_code == 403


@pytest.mark.parametrize("address", ["change/", "adjust-credits/"])
def test_a_person_who_is_none_is_not_found(address: str, desk: Client) -> None:
    for nobody in ("7a1c7a5e-0000-4000-8000-000000000000", "nonsense"):
        answer = desk.get(f"{LIST}{nobody}/{address}", follow=True)
        assert answer.status_code == (404 if address == "adjust-credits/" else 200)


def no_inlines() -> dict[str, str]:
    """The management data of the three lists of keys, addresses and factors, which take nothing."""
    names = ("api_keys", "emailaddress_set", "authenticator_set")
    return {f"{name}-{count}_FORMS": "0" for name in names for count in ("TOTAL", "INITIAL")}
