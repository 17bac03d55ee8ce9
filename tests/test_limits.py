"""How often: moving windows per key, person and address, with and without Valkey, and whose address it is."""

import socket
import time
import uuid
from collections.abc import Iterator

import pytest
import redis
from allauth.account.adapter import get_adapter
from django.conf import settings
from django.test import RequestFactory
from django.test.utils import override_settings
from pytest_django import Settings

from accounts.addresses import UNKNOWN, client_network
from accounts.models import ApiKey, User
from chatapp import auth, windows
from chatapp.absence import PRESENT
from chatapp.conversations.models import Turn
from chatapp.local.process import free_port
from chatapp.problems import Problem
from chatapp.streaming import turns
from chatapp.streaming.limits import Source
from chatapp.windows import Window
from tests.calling import API, Caller, in_browser, refused, visitor, with_key
from tests.conftest import SignIn
from tests.stack import Stack
from tests.streaming.reading import ask, new_id, refusal

# --- Windows


def somebody() -> str:
    return uuid.uuid4().hex


def pass_seconds(who: str, seconds: float) -> None:
    """Let the places that somebody took lie so much further back."""
    with redis.Redis.from_url(settings.REDIS_URL, decode_responses=True) as client:
        for window in client.keys(f"chatapp:limits:*/{who}/*"):
            taken = [float(moment) - seconds for moment in client.lrange(window, 0, -1)]
            client.delete(window)
            client.rpush(window, *taken)


@pytest.fixture
def forgotten() -> Iterator[None]:
    """What this process knows of Valkey is forgotten, before and after."""

    def forget() -> None:
        windows._in_valkey.cache_clear()
        windows._absence.ends()

    forget()
    yield
    forget()


@pytest.fixture
def heard(forgotten: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Valkey is heard however late it answers: else this process would count for itself for a while."""
    monkeypatch.setattr(windows, "WAIT_SECONDS", 60)


def test_a_place_is_free_again_a_minute_after_it_was_taken(heard: None) -> None:
    who, waits = somebody(), []
    for seconds in (0, 20, 20, 10, 9.5, 1, 0.5, 19.5, 0.1):  # at 0, 20, 40, 50, 59.5, 60.5, 61, 80.5 and 80.6
        pass_seconds(who, seconds)
        waits.append(windows.take("tests", who, per_minute=3))

    assert waits == [0, 0, 0, 10, 1, 0, 19, 0, 20]
    assert windows.take("tests", somebody(), per_minute=3) == 0
    assert windows.take("other tests", who, per_minute=3) == 0


@pytest.mark.parametrize("wrong_by", [61, -61])
def test_a_host_whose_clock_is_wrong_has_no_places_of_its_own(
    heard: None, monkeypatch: pytest.MonkeyPatch, wrong_by: float
) -> None:
    who, right = somebody(), time.time
    assert [windows.take("tests", who, per_minute=2) for _ in range(2)] == [0, 0]
    with monkeypatch.context() as there:
        there.setattr(time, "time", lambda: right() + wrong_by)
        assert 55 < windows.take("tests", who, per_minute=2) <= 60
    assert 55 < windows.take("tests", who, per_minute=2) <= 60


def test_a_place_in_several_windows_is_taken_in_all_or_in_none(heard: None) -> None:
    key, address = Window("tests", somebody(), 2), Window("tests", somebody(), 1)
    assert windows.take_all(key, address) is None
    for _ in range(3):
        full = windows.take_all(key, address)
        assert full is not None
        assert (full[0], 1 <= full[1] <= 60) == (address, True)
    assert [windows.take_all(key) is None for _ in range(2)] == [True, False]


def test_while_valkey_is_away_each_process_counts_for_itself(
    heard: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    who = somebody()
    with override_settings(REDIS_URL=f"redis://127.0.0.1:{free_port()}/0"):
        assert [bool(windows.take("tests", who, per_minute=2)) for _ in range(4)] == [
            False,
            False,
            True,
            True,
        ]

    windows._in_valkey.cache_clear()
    assert windows.take("tests", who, per_minute=2) > 0, "it is not asked again at once"
    monkeypatch.setattr(windows._absence, "until", time.monotonic())
    assert windows.take("tests", who, per_minute=2) == 0, "then Valkey counts again"
    assert windows._absence.until == PRESENT


def test_a_valkey_that_hangs_keeps_one_caller_waiting_and_no_other(
    forgotten: None, settings: Settings
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        settings.REDIS_URL = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
        who = somebody()
        assert [windows.take("tests", who, per_minute=9) for _ in range(9)] == [0] * 9

        silent.settimeout(5)
        silent.accept()[0].close()
        silent.settimeout(0.01)
        with pytest.raises(TimeoutError):  # nobody else had come
            silent.accept()


# --- Addresses


@pytest.mark.parametrize(
    ("proxies", "forwarded", "peer", "network"),
    [
        (0, "6.6.6.6", "192.0.2.1", "192.0.2.1"),
        (1, "192.0.2.7", "10.0.0.2", "192.0.2.7"),
        (1, "6.6.6.6, 192.0.2.7", "10.0.0.2", "192.0.2.7"),
        (2, "6.6.6.6, 192.0.2.7, 10.0.0.3", "10.0.0.2", "192.0.2.7"),
        (1, "192.0.2.7:50123", "10.0.0.2", "192.0.2.7"),
        (1, "2001:db8:1:2:3:4:5:6", "10.0.0.2", "2001:db8:1:2::/64"),
        (1, "[2001:db8:1:2::9]:443", "10.0.0.2", "2001:db8:1:2::/64"),
        (0, "", "fe80::1%eth0", "fe80::/64"),
        (0, "", "::ffff:192.0.2.7", "192.0.2.7"),
        # Nothing to believe: who talks to us it is.
        (1, "", "192.0.2.1", "192.0.2.1"),
        (2, "6.6.6.6", "192.0.2.1", "192.0.2.1"),
        (1, "6.6.6.6, unknown", "192.0.2.1", "192.0.2.1"),
        (1, "", "", UNKNOWN),
    ],
)
def test_an_address_is_the_clients_and_no_claim_of_its_own(
    settings: Settings, proxies: int, forwarded: str, peer: str, network: str
) -> None:
    settings.TRUSTED_PROXIES = proxies
    headers = {"X-Forwarded-For": forwarded} if forwarded else {}
    request = RequestFactory().get("/", headers=headers, REMOTE_ADDR=peer)

    assert client_network(request) == network
    # What sign-in counts is the same address.
    assert get_adapter(request).get_client_ip(request).startswith(network.removesuffix("::/64"))


# --- Calls of the API


@pytest.mark.parametrize("caller", [in_browser, with_key])
def test_calls_beyond_the_limit_wait_for_their_own_sake_only(
    heard: None, committed_db: None, alice: User, bob: User, settings: Settings, caller: object
) -> None:
    settings.API_REQUESTS_PER_MINUTE = 2
    alices: Caller = caller(alice)  # type: ignore[operator]
    for _ in range(2):
        alices.get("me")
    response = alices.call("GET", "models")
    status, problem = refused(response)

    assert (status, problem["code"]) == (429, "rate_limited")
    assert 1 <= problem["retry_after"] <= 60
    assert response["Retry-After"] == str(problem["retry_after"])
    assert f"Try again in {problem['retry_after']} s." in problem["detail"]
    # Neither another person nor another key of hers has made a call.
    caller(bob).get("me")  # type: ignore[operator]
    with_key(alice).get("me")


def test_guessing_keys_is_limited_and_locks_nobody_out(
    heard: None, committed_db: None, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auth, "WRONG_KEYS_PER_MINUTE", 2)
    here, there = f"2001:db8:{uuid.uuid4().hex[:4]}::1", "192.0.2.200"
    _, token = ApiKey.issue(user=alice, name="program")

    def call(key: str, address: str) -> int:
        headers = {"Authorization": f"Bearer {key}"}
        return visitor().get(f"{API}me", headers=headers, REMOTE_ADDR=address).status_code

    assert [call(f"{token}{n}", here) for n in range(4)] == [401, 401, 429, 429]
    assert call(f"{token}x", here.removesuffix("1") + "2") == 429
    assert call(f"{token}x", there) == 401
    assert call(token, here) == 200


# --- Turns


def asked(text: str = "hello") -> turns.Ask:
    return turns.Ask(id=uuid.uuid4(), text=text)


@pytest.mark.parametrize(
    ("setting", "taken", "free"),
    [
        ("TURNS_PER_MINUTE_PER_KEY", {"api_key": "a"}, {"api_key": "b"}),
        ("TURNS_PER_MINUTE_PER_ADDRESS", {"network": "a"}, {"network": "b"}),
    ],
)
def test_turns_of_one_key_or_address_are_limited_and_joining_costs_nothing(
    heard: None,
    alice: User,
    bob: User,
    settings: Settings,
    setting: str,
    taken: dict[str, str],
    free: dict[str, str],
) -> None:
    setattr(settings, setting, 2)
    run = somebody()
    source = Source(**{name: value + run for name, value in taken.items()})
    first = asked()
    for _ in range(4):  # the same request, again and again
        assert turns.open(alice, first, source).turn.pk == first.id
    turns.open(bob, asked(), source)

    with pytest.raises(Problem) as refusal:
        turns.open(bob, asked("one too many"), source)
    assert (refusal.value.status, refusal.value.code) == (429, "rate_limited")
    assert 1 <= int(refusal.value.headers["Retry-After"]) <= 60
    assert Turn.objects.of(bob).count() == 1
    assert turns.open(alice, first, source).request is None
    turns.open(bob, asked(), Source(**{name: value + run for name, value in free.items()}))


def test_a_turn_is_counted_for_its_key_and_its_address(
    stack: Stack, alice: User, bob: User, sign_in: SignIn
) -> None:
    web = stack.start_web(env={"TURNS_PER_MINUTE_PER_ADDRESS": "2", "TURNS_PER_MINUTE_PER_KEY": "1"})
    key, token = ApiKey.issue(user=alice, name="program")
    page = sign_in(bob, url=web.url)
    program = sign_in(alice, url=web.url)
    program.cookies.clear()
    program.headers["Authorization"] = f"Bearer {token}"

    turn = new_id()
    for _ in range(2):
        assert ask(program, "hello", id=turn)[-1]["type"] == "done"
    status, problem = refusal(program, text="a second")
    assert (status, problem["detail"].partition(".")[0]) == (
        429,
        "1 messages a minute may be sent with this API key",
    )
    # No header of the client's makes it another address: no proxy is trusted here.
    page.headers["X-Forwarded-For"] = "192.0.2.1"
    assert ask(page)[-1]["type"] == "done"
    status, problem = refusal(page, text="a third from here")
    assert (status, problem["code"]) == (429, "rate_limited")
    assert "from your address" in problem["detail"]
    last, token = ApiKey.issue(user=alice, name="another program")
    program.headers["Authorization"] = f"Bearer {token}"
    assert program.get("/api/v1/me").status_code == 200
    web.stop()
    for used in (key, last):
        used.refresh_from_db()
        assert used.last_used_at is not None, "a process that ends writes what it has noted"
