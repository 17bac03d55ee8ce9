"""Who gets into the admin, and what its pages may do in a browser."""

import pytest
from allauth.mfa.models import Authenticator
from django.contrib import admin
from django.test import Client
from django.urls import reverse
from pytest_django import Settings

from accounts.models import User
from tests.admin.conftest import browser_of
from tests.admin.desk import allow, conversation, ended_turn

LISTS = sorted(
    f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist" for model in admin.site._registry
)


def test_a_visitor_is_sent_to_the_sites_own_login(client: Client, db: None) -> None:
    answer = client.get("/admin/", follow=True)
    path, status = answer.redirect_chain[-1]
    assert (path, status) == ("/accounts/login/?next=%2Fadmin%2F", 302)
    assert "admin/login.html" not in [template.name for template in answer.templates]


def test_djangos_own_login_form_takes_no_password(client: Client, operator: User) -> None:
    operator.set_password("Tallship-Marrow-9")
    operator.save()
    answer = client.post("/admin/login/", {"username": operator.email, "password": "Tallship-Marrow-9"})
    assert answer.status_code == 302
    assert answer.url.startswith("/accounts/login/")
    assert "_auth_user_id" not in client.session


@pytest.mark.parametrize("name", LISTS)
def test_who_is_not_staff_sees_no_list(name: str, charlie: User) -> None:
    answer = browser_of(charlie).get(reverse(name), follow=True)
    assert answer.status_code == 403


def test_who_is_not_staff_opens_no_page_of_anybody(charlie: User, alice: User) -> None:
    turn, chat = ended_turn(alice), conversation(alice)
    outsider = browser_of(charlie)
    for url in (
        "/admin/",
        f"/admin/accounts/user/{alice.pk}/change/",
        f"/admin/accounts/user/{alice.pk}/adjust-credits/",
        f"/admin/conversations/conversation/{chat.pk}/messages/",
        f"/admin/conversations/turn/{turn.pk}/change/",
        f"/admin/accounts/user/{alice.pk}/grant-credits/",
        "/admin/money/",
        "/admin/money/user/",
        "/admin/money/user.csv",
        "/admin/search/?s=alice",
    ):
        assert outsider.get(url, follow=True).status_code == 403, url
        assert outsider.post(url, {"amount": "5", "reason": "mine"}, follow=True).status_code == 403, url


@pytest.mark.parametrize("name", LISTS)
def test_staff_without_a_right_are_refused(name: str, clerk: User) -> None:
    assert browser_of(clerk).get(reverse(name)).status_code == 403


def test_staff_see_in_the_menu_what_they_may_open(clerk: User) -> None:
    menu = browser_of(allow(clerk, "billing.view_order")).get("/admin/").content.decode()
    assert reverse("admin:billing_order_changelist") in menu
    assert reverse("admin:billing_transfer_changelist") not in menu
    assert reverse("admin:accounts_user_changelist") not in menu


@pytest.mark.parametrize("name", LISTS)
def test_every_list_opens_for_the_operator(name: str, desk: Client) -> None:
    assert desk.get(reverse(name)).status_code == 200


def test_staff_without_a_second_factor_are_sent_to_set_one_up(operator: User, settings: Settings) -> None:
    settings.STAFF_NEED_SECOND_FACTOR = True
    Authenticator.objects.filter(user=operator).delete()
    desk = browser_of(operator)
    for url in ("/admin/", "/admin/accounts/user/", "/admin/search/?s=x", "/admin/jsi18n/"):
        answer = desk.get(url)
        assert (answer.status_code, answer.headers["Location"]) == (302, reverse("mfa_index")), url
    assert "The admin needs a second factor" in desk.get(reverse("mfa_index")).content.decode()


@pytest.mark.parametrize("factor", [Authenticator.Type.TOTP, Authenticator.Type.WEBAUTHN])
def test_either_second_factor_opens_the_admin(factor: str, operator: User, settings: Settings) -> None:
    settings.STAFF_NEED_SECOND_FACTOR = True
    Authenticator.objects.filter(user=operator).update(type=factor)
    assert browser_of(operator).get("/admin/").status_code == 200


def test_recovery_codes_alone_are_no_second_factor(operator: User, settings: Settings) -> None:
    settings.STAFF_NEED_SECOND_FACTOR = True
    Authenticator.objects.filter(user=operator).update(type=Authenticator.Type.RECOVERY_CODES)
    assert browser_of(operator).get("/admin/").status_code == 302


def test_a_developers_machine_asks_for_no_second_factor(operator: User, settings: Settings) -> None:
    settings.STAFF_NEED_SECOND_FACTOR = False
    Authenticator.objects.filter(user=operator).delete()
    assert browser_of(operator).get("/admin/").status_code == 200


def test_strings_are_evaluated_in_the_admin_and_nowhere_else(desk: Client) -> None:
    def policy(url: str) -> dict[str, str]:
        header = desk.get(url).headers["Content-Security-Policy"]
        return dict(directive.strip().partition(" ")[::2] for directive in header.split(";"))

    elsewhere = policy("/settings/")
    inside = policy("/admin/accounts/user/")
    assert "'unsafe-eval'" not in elsewhere["script-src"]
    assert "'unsafe-inline'" not in inside["script-src"]
    assert "'unsafe-inline'" not in inside["style-src"]
    assert inside["script-src"].split() == ["'self'", "'unsafe-eval'"]


def test_an_operators_own_password_is_changed_on_the_sites_own_page(desk: Client) -> None:
    assert desk.get("/admin/password_change/").headers["Location"] == reverse("account_change_password")
