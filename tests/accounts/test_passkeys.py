"""Passkeys, in a real browser: allauth's scripts under our content security policy."""

from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, Route, expect

from accounts.models import User
from tests.browser import Pages
from tests.conftest import session_of
from tests.stack import Stack

# A passkey belongs to a name, never to an IP address.
NAME = "localhost"


@pytest.fixture
def site(stack: Stack) -> str:
    return f"http://{NAME}:{urlsplit(stack.url).port}"


@pytest.fixture
def bobs(pages: Pages, bob: User, site: str) -> Page:
    """A page in which bob, who has no password, has signed in, on a device that can keep passkeys."""
    page = pages.open()
    for name, value in session_of(bob).items():
        page.context.add_cookies([{"name": name, "value": value, "url": site}])
    devtools = page.context.new_cdp_session(page)
    devtools.send("WebAuthn.enable")
    device = {
        "protocol": "ctap2",
        "transport": "internal",
        "hasResidentKey": True,
        "hasUserVerification": True,
        "isUserVerified": True,
        "automaticPresenceSimulation": True,
    }
    devtools.send("WebAuthn.addVirtualAuthenticator", {"options": device})
    return page


def log_out(page: Page, site: str) -> None:
    page.goto(f"{site}/accounts/logout/")
    page.get_by_role("main").get_by_role("button", name="Log out").click()
    page.wait_for_url(lambda url: "/logout/" not in url)


def test_a_passkey_is_added_signs_in_alone_and_is_removed(bobs: Page, bob: User, site: str) -> None:
    bobs.goto(f"{site}/accounts/2fa/webauthn/add/")
    bobs.get_by_label("Name").fill("blue key")
    bobs.get_by_role("button", name="Add").click()
    # A script sends the form, once the device has answered: whoever went on before would keep it from that.
    bobs.wait_for_url(lambda url: "/webauthn/add/" not in url)

    log_out(bobs, site)
    bobs.goto(f"{site}/accounts/login/?next=/settings/")
    bobs.get_by_role("button", name="Use a passkey").click()
    expect(bobs).to_have_url(f"{site}/settings/")
    expect(bobs.get_by_role("main")).to_contain_text(bob.email)

    bobs.goto(f"{site}/accounts/2fa/webauthn/")
    expect(bobs.get_by_role("row", name="blue key")).to_be_visible()
    bobs.get_by_role("link", name="Remove").click()
    bobs.get_by_role("button", name="Use a passkey").click()
    bobs.get_by_role("button", name="Remove").click()
    expect(bobs.get_by_role("main")).to_contain_text("No passkeys yet")


def test_a_passkey_that_is_not_there_is_said_in_words(bobs: Page, site: str) -> None:
    log_out(bobs, site)
    bobs.goto(f"{site}/accounts/login/")
    bobs.get_by_role("button", name="Use a passkey").click()
    expect(bobs.get_by_role("alert")).to_contain_text("The passkey was not used")


def test_the_button_waits_for_the_scripts_that_it_needs(bobs: Page, site: str) -> None:
    held: list[Route] = []
    bobs.route("**/mfa/js/webauthn.*", lambda route: held.append(route))
    with bobs.expect_request("**/mfa/js/webauthn.*"):
        bobs.goto(f"{site}/accounts/2fa/webauthn/add/", wait_until="commit")
    button = bobs.get_by_role("button", name="Add")
    expect(button).to_be_disabled()
    held[0].continue_()
    expect(button).to_be_enabled()
