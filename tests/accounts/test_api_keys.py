"""/settings/keys/: keys with which programs chat as a person."""

import asyncio
import json
import re
from datetime import datetime

import pytest
from django.db import OperationalError
from django.test import Client

from accounts.forms import KEYS_AT_MOST
from accounts.models import ApiKey, User
from chatapp import key_uses
from chatapp.db import in_db
from tests.accounts.pages import read

KEYS = "/settings/keys/"


def create(browser: Client, name: str = "notebook") -> str:
    """Make a key and read its token from the page."""
    answer = browser.post(KEYS, {"name": name})
    assert answer["Location"] == KEYS, "reloading the page must not make another key"
    token = re.search(r'id="new-token" value="([^"]+)"', read(browser.get(KEYS)))
    assert token
    return token[1]


def test_the_token_opens_the_api_for_its_owner(alices: Client, alice: User, visitor: Client) -> None:
    token = create(alices)
    assert ApiKey.objects.owner_of(token)[0] == alice
    assert ApiKey.objects.owner_of(token[:-1] + ("a" if token[-1] != "a" else "b"))[0] is None


def test_the_token_is_shown_once_and_kept_nowhere(alices: Client, alice: User) -> None:
    token = create(alices)
    secret = token.partition(".")[2]
    html = read(alices.get(KEYS))
    assert secret not in html
    assert token.partition(".")[0] in html
    key = ApiKey.objects.get(user=alice)
    assert secret not in str(vars(key))
    assert secret not in json.dumps(dict(alices.session))
    assert secret not in str(alices.cookies)


def test_the_page_with_the_token_is_not_kept_by_caches(alices: Client) -> None:
    alices.post(KEYS, {"name": "notebook"})
    assert "no-store" in alices.get(KEYS)["Cache-Control"]


def test_a_revoked_key_opens_nothing(alices: Client, alice: User) -> None:
    token = create(alices)
    key = ApiKey.objects.get(user=alice)
    for _ in range(2):
        assert alices.post(f"{KEYS}{key.pk}/revoke/")["Location"] == KEYS
    assert ApiKey.objects.owner_of(token)[0] is None
    key.refresh_from_db()
    revoked_at = key.revoked_at
    assert revoked_at is not None
    alices.post(f"{KEYS}{key.pk}/revoke/")
    key.refresh_from_db()
    assert key.revoked_at == revoked_at
    assert key.prefix not in read(alices.get(KEYS)).partition("Keys in use")[2]


def test_the_outsider_sees_and_revokes_nothing_of_others(
    alices: Client, alice: User, charlies: Client
) -> None:
    token = create(alices)
    key = ApiKey.objects.get(user=alice)
    assert key.prefix not in read(charlies.get(KEYS))
    read(charlies.post(f"{KEYS}{key.pk}/revoke/"), status=404)
    assert ApiKey.objects.owner_of(token)[0] == alice


def test_who_is_not_signed_in_is_asked_to(alices: Client, alice: User, visitor: Client) -> None:
    create(alices)
    key = ApiKey.objects.get(user=alice)
    for answer in (
        visitor.get(KEYS),
        visitor.post(KEYS, {"name": "x"}),
        visitor.post(f"{KEYS}{key.pk}/revoke/"),
    ):
        assert answer["Location"].startswith("/accounts/login/?next=/settings/keys/")
    assert ApiKey.objects.filter(user=alice, revoked_at=None).count() == 1


def test_revoking_takes_a_form(alices: Client, alice: User) -> None:
    create(alices)
    key = ApiKey.objects.get(user=alice)
    assert alices.get(f"{KEYS}{key.pk}/revoke/").status_code == 405


def test_a_key_needs_a_name(alices: Client, alice: User) -> None:
    assert "This field is required" in read(alices.post(KEYS, {"name": " "}))
    assert not ApiKey.objects.filter(user=alice).exists()


def test_there_is_an_end_to_keys(alices: Client, alice: User) -> None:
    for number in range(KEYS_AT_MOST):
        ApiKey.issue(user=alice, name=str(number))
    assert f"You have {KEYS_AT_MOST} keys" in read(alices.post(KEYS, {"name": "one more"}))
    key = ApiKey.objects.filter(user=alice).first()
    assert key
    alices.post(f"{KEYS}{key.pk}/revoke/")
    create(alices)


def test_names_cannot_bring_markup_into_the_page(alices: Client) -> None:
    create(alices, name="<b>notebook</b>")
    assert "<b>notebook" not in read(alices.get(KEYS))


# --- When a key was used last


def noted(*keys: ApiKey) -> list[datetime | None]:
    return list(ApiKey.objects.filter(pk__in=[key.pk for key in keys]).values_list("last_used_at", flat=True))


async def test_uses_are_noted_a_moment_later_together_and_once_a_minute(
    committed_db: None, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_uses, "WRITTEN_AFTER_SECONDS", 0)
    issued = [await in_db(ApiKey.issue, user=alice, name=name) for name in "ab"]
    keys, tokens = zip(*issued, strict=True)
    assert [await in_db(ApiKey.objects.owner_of, token) for token in tokens] == [(alice, True)] * 2
    for key in [*keys, *keys]:
        key_uses.note(key.prefix)

    async with asyncio.timeout(20):
        while await in_db(noted, *keys) == [None, None]:
            pass
    first, second = await in_db(noted, *keys)
    assert first == second, "by one statement"
    assert await in_db(ApiKey.objects.owner_of, tokens[0]) == (alice, False)
    key_uses.note(keys[0].prefix)
    await key_uses.write()
    assert await in_db(noted, *keys) == [first, second]


async def test_a_use_that_cannot_be_written_is_left_for_the_next_call(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def away(*_work: object) -> None:
        raise OperationalError

    monkeypatch.setattr(key_uses, "in_db", away)
    key_uses.note("chat_1")
    await key_uses.write()
    (line,) = caplog.records
    assert (line.levelname, line.exc_info) == ("WARNING", None)
