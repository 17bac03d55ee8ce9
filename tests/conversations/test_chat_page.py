"""/chat/: the page, and what its scripts begin with."""

import html
import json
import re
from typing import Any

import pytest
from django.conf import settings
from django.http import HttpResponse

from accounts.models import User
from tests.calling import browser_of, in_browser, visitor
from tests.conversations.talk import conversation, dialogue


def bootstrap(page: HttpResponse) -> dict[str, Any]:
    found = re.search(
        r'<script id="bootstrap" type="application/json">(.*?)</script>', page.content.decode(), re.S
    )
    assert found, page.content.decode()
    given: dict[str, Any] = json.loads(found[1])
    return given


def test_who_is_not_signed_in_comes_back_after_signing_in(committed_db: None, alice: User) -> None:
    chat = conversation(alice)
    for path in ("/chat/", f"/chat/{chat.pk}/"):
        answer = visitor().get(path)
        assert (answer.status_code, answer["Location"]) == (302, f"/accounts/login/?next={path}")


def test_the_page_begins_with_what_the_api_would_say(committed_db: None, alice: User) -> None:
    chat = conversation(alice, "Bread")
    dialogue(chat, 60)
    for number in range(35):
        conversation(alice, f"number {number}", pinned=number == 7)
    api = in_browser(alice)

    given = bootstrap(browser_of(alice).get(f"/chat/{chat.pk}/"))

    me = api.get("me")
    assert given == {
        "user": {"email": alice.email, "name": "Alice", "instructions": ""},
        "models": api.get("models")["items"],
        "conversation": api.get(f"conversations/{chat.pk}"),
        "messages": api.get(f"conversations/{chat.pk}/messages"),
        "conversations": api.get("conversations"),
        "balance": me["balance"],
        "patience_seconds": settings.TURN_RECONNECT_SECONDS,
        "urls": {
            "chat": "/chat/",
            "billing": "/billing/",
            "settings": "/settings/",
            "login": "/accounts/login/",
            "logout": "/accounts/logout/",
            "admin": None,
        },
    }
    assert (len(given["messages"]["items"]), len(given["conversations"]["items"])) == (50, 30)


def test_a_new_chat_begins_with_no_conversation(committed_db: None, alice: User) -> None:
    given = bootstrap(browser_of(alice).get("/chat/"))
    assert (given["conversation"], given["messages"]) == (None, None)
    assert given["conversations"] == {"items": [], "next": None}


def test_staff_are_shown_the_way_to_the_admin(committed_db: None, operator: User) -> None:
    assert bootstrap(browser_of(operator).get("/chat/"))["urls"]["admin"] == "/admin/"


def test_what_people_write_cannot_break_out_of_the_page(committed_db: None, alice: User) -> None:
    wild = "</script><script>alert(1)</script><!-- '\"&"
    chat = conversation(alice, wild)

    page = browser_of(alice).get(f"/chat/{chat.pk}/")

    assert bootstrap(page)["conversation"]["title"] == wild
    text = page.content.decode()
    assert "<script>alert" not in text
    assert html.escape(wild) in text


@pytest.mark.parametrize("method", ["post", "put", "delete"])
def test_the_page_is_only_looked_at(committed_db: None, alice: User, method: str) -> None:
    browser = browser_of(alice)
    token = {"X-CSRFToken": browser.cookies["csrftoken"].value}
    answer = getattr(browser, method)("/chat/", headers=token)
    assert (answer.status_code, answer["Allow"]) == (405, "GET, HEAD")


def test_the_outsider_and_nonsense_find_nothing(committed_db: None, alice: User, charlie: User) -> None:
    chat = conversation(alice, "Diary")
    for path in (f"/chat/{chat.pk}/", "/chat/00000000-0000-4000-8000-000000000000/", "/chat/5/"):
        answer = browser_of(charlie).get(path)
        assert answer.status_code == 404
        assert "Diary" not in answer.content.decode()


def test_nobody_keeps_a_copy_of_the_page(committed_db: None, alice: User) -> None:
    for browser, path in ((browser_of(alice), "/chat/"), (visitor(), "/chat/")):
        assert {"no-store", "private"} <= set(re.split(r",\s*", browser.get(path)["Cache-Control"]))


def test_only_our_own_scripts_run(committed_db: None, alice: User) -> None:
    browser = browser_of(alice)
    first, second = browser.get("/chat/"), browser.get("/chat/")

    policy = {
        name: sources.split()
        for name, _, sources in (
            part.strip().partition(" ") for part in first["Content-Security-Policy"].split(";")
        )
    }
    assert policy["default-src"] == ["'none'"]
    assert policy["base-uri"] == policy["frame-ancestors"] == ["'none'"]
    own, nonce = policy["script-src"]
    assert own == "'self'"
    assert re.fullmatch(r"'nonce-[\w+/=-]{16,}'", nonce)
    assert policy["style-src"] == ["'self'", nonce]
    # Each script of the page is from here and has the nonce, or is data.
    for attributes in re.findall(r"<script([^>]*)>", first.content.decode()):
        assert f'nonce="{nonce[7:-1]}"' in attributes or 'type="application/json"' in attributes
    assert nonce not in second["Content-Security-Policy"]
    assert not re.search(r"<[^>]+ (on\w+|style)=", first.content.decode())


def test_the_page_can_call_the_api(committed_db: None, alice: User) -> None:
    """It brings the CSRF cookie that its calls need."""
    browser = browser_of(alice)
    del browser.cookies["csrftoken"]
    browser.get("/chat/")
    token = {"X-CSRFToken": browser.cookies["csrftoken"].value}

    made = browser.post("/api/v1/conversations", {}, content_type="application/json", headers=token)

    assert made.status_code == 201
