"""Fixtures: the people, the database in two manners, the running stack, and a browser.

`db` (pytest-django) is for code in this process: everything is rolled back. `committed_db` is for what other
processes or threads must see: it really commits, and nothing is flushed, because the ledger refuses to forget. So
every test makes its own people, and counts nothing that is not theirs.
"""

import logging
import os
import secrets
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import httpx
import pytest
from allauth.account.models import EmailAddress
from django.db import connection, connections
from django.middleware.csrf import _get_new_csrf_string
from django.test import Client
from django.test.utils import override_settings, setup_databases, teardown_databases
from hypothesis import settings as hypothesis_settings
from playwright.sync_api import Browser, Page, expect, sync_playwright
from pytest_django.plugin import DjangoDbBlocker
from stripe import HTTPClient
from xdist.scheduler import LoadScopeScheduling

from accounts.models import User
from chatapp.db import in_db
from tests import servers
from tests.billing.books import set_made_up_turns_right
from tests.browser import ARGUMENTS, NoBrowser, Pages, find_chromium
from tests.servers import PLAIN
from tests.stack import Stack
from tests.zygote import Zygote

# A line per request of the tests' own would bury what the application logs.
logging.getLogger("httpx").setLevel(logging.WARNING)

# A busy machine is no failure.
hypothesis_settings.register_profile("chatapp", deadline=None)
hypothesis_settings.load_profile("chatapp")
expect.set_options(timeout=30_000)

chromium_key = pytest.StashKey[str]()

# Modules with a run of their own, which each process that tests would start anew. None needs a browser.
AS_A_WHOLE = {"tests/local/test_run.py", "tests/streaming/test_failover.py"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests with a browser come last: from the first on, Playwright's event loop occupies the main thread."""
    items.sort(key=_uses_browser)


class Scheduling(LoadScopeScheduling):
    """Hands out one test at a time, but what shares something costly as a whole."""

    def _split_scope(self, nodeid: str) -> str:
        module = nodeid.partition("::")[0]
        return module if module in AS_A_WHOLE else nodeid


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Scheduling:
    config.option.loadscopereorder = False  # tests with a browser stay the last
    return Scheduling(config, log)


def pytest_configure(config: pytest.Config) -> None:
    """What hands out the tests looks for a browser once, for all its workers."""
    if servers.only_hands_out_tests(config):
        os.environ["CHROMIUM_PATH"] = _found_chromium()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Without a browser its tests cannot pass: say so before any test has run."""
    if any(map(_uses_browser, session.items)):
        session.config.stash[chromium_key] = _found_chromium()


def _found_chromium() -> str:
    try:
        return find_chromium()
    except NoBrowser as error:
        raise pytest.UsageError(str(error)) from None


def _uses_browser(item: pytest.Item) -> bool:
    return "browser" in getattr(item, "fixturenames", ())


@pytest.fixture(scope="session", autouse=True)
def _no_static_files(django_test_environment: None) -> Iterator[None]:
    """They are served by the running stack. In this process each new `Client` would look at every one of them."""
    with override_settings(
        SERVESTATIC_USE_FINDERS=False, SERVESTATIC_USE_STATIC_ROOT=False, SERVESTATIC_AUTOREFRESH=False
    ):
        yield


@pytest.fixture(scope="session", autouse=True)
def _quick_passwords(django_test_environment: None) -> Iterator[None]:
    """A real hash takes half a second, and is the running stack's."""
    with override_settings(PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"]):
        yield


@pytest.fixture(scope="session", autouse=True)
def _no_pause_between_retries() -> Iterator[None]:
    """Where Stripe is away, this process asks again as often as any, but at once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(HTTPClient, "INITIAL_DELAY", 0.01)
        patch.setattr(HTTPClient, "MAX_DELAY", 0.01)
        yield


# --- The database


@pytest.fixture(scope="session")
def django_db_setup(
    django_test_environment: None, django_db_modify_db_settings: None, django_db_blocker: DjangoDbBlocker
) -> Iterator[None]:
    """The test database. pytest-django's own makes none for a run whose tests all use `committed_db`."""
    with django_db_blocker.unblock():
        configured = setup_databases(verbosity=0, interactive=False, aliases={"default"})
        # For tests that want one of their own: later, this one is never without connections.
        connection.creation.clone_test_db(suffix="untouched", verbosity=0)
    yield
    with django_db_blocker.unblock():
        teardown_databases(configured, verbosity=0)


@pytest.fixture
def committed_db(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    with django_db_blocker.unblock():
        yield
        connections.close_all()  # the test may have killed PostgreSQL under them
        set_made_up_turns_right()
        connections.close_all()


# --- People


@pytest.fixture
def alice(request: pytest.FixtureRequest) -> User:
    return _person("alice", request)


@pytest.fixture
def bob(request: pytest.FixtureRequest) -> User:
    return _person("bob", request)


@pytest.fixture
def charlie(request: pytest.FixtureRequest) -> User:
    """The outsider: whatever alice and bob have is none of charlie's business."""
    return _person("charlie", request)


@pytest.fixture
def operator(request: pytest.FixtureRequest) -> User:
    """Who runs the site, with every right in the admin."""
    return _person("operator", request, is_staff=True, is_superuser=True)


def _person(name: str, request: pytest.FixtureRequest, **fields: Any) -> User:
    request.getfixturevalue("committed_db" if "committed_db" in request.fixturenames else "db")
    user = User.objects.create_user(f"{name}-{secrets.token_hex(6)}@example.org", name=name.title(), **fields)
    EmailAddress.objects.create(user=user, email=user.email, verified=True, primary=True)
    return user


# --- The running stack


@pytest.fixture(scope="session")
def zygote() -> Iterator[Zygote]:
    zygote = Zygote(servers.running.mark, servers.running.env)
    yield zygote
    zygote.stop()


@pytest.fixture(scope="session")
def _running_stack(
    django_db_setup: None, django_db_blocker: DjangoDbBlocker, zygote: Zygote
) -> Iterator[Stack]:
    with django_db_blocker.unblock():
        stack = Stack(servers.running, zygote, database=connection.settings_dict["NAME"])
    try:
        stack.start()
        yield stack
    finally:
        stack.stop()
    found = stack.new_tracebacks()
    assert not found, f"the processes logged errors:\n{found}"


@pytest.fixture
def stack(_running_stack: Stack, committed_db: None) -> Iterator[Stack]:
    """Web, worker, demo Claude and demo Stripe, running. See tests/stack.py."""
    yield _running_stack
    _running_stack.mend()
    found = _running_stack.new_tracebacks()
    assert not found, f"the processes logged errors:\n{found}"


SignIn = Callable[..., httpx.Client]
SignInAsync = Callable[..., Awaitable[httpx.AsyncClient]]


@pytest.fixture
def sign_in(stack: Stack) -> Iterator[SignIn]:
    """`sign_in(alice)` is an httpx client with her session and CSRF token; `url=` names another web process."""
    clients: list[httpx.Client] = []

    def sign_in(user: User, *, url: str = stack.url) -> httpx.Client:
        # However long a test takes between two calls, the second comes over the same connection.
        limits = httpx.Limits(keepalive_expiry=None)
        clients.append(httpx.Client(base_url=url, timeout=30, limits=limits, verify=PLAIN, **signed_in(user)))
        return clients[-1]

    yield sign_in
    for client in clients:
        client.close()


@pytest.fixture
def sign_in_async(stack: Stack) -> SignInAsync:
    """`sign_in` for tests that do many things at once: `async with await sign_in_async(alice) as client`."""

    async def sign_in_async(user: User, *, url: str = stack.url) -> httpx.AsyncClient:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        return httpx.AsyncClient(
            base_url=url, timeout=30, limits=limits, verify=PLAIN, **await in_db(signed_in, user)
        )

    return sign_in_async


def signed_in(user: User) -> dict[str, dict[str, str]]:
    """The cookies and headers of a browser in which `user` has signed in."""
    token = _get_new_csrf_string()
    return {"cookies": {**session_of(user), "csrftoken": token}, "headers": {"X-CSRFToken": token}}


def session_of(user: User) -> dict[str, str]:
    client = Client()
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return {"sessionid": client.cookies["sessionid"].value}


# --- A browser


@pytest.fixture(scope="session")
def browser(request: pytest.FixtureRequest) -> Iterator[Browser]:
    # Playwright leaves its event loop running in this thread; Django would refuse any query beside one.
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=request.config.stash[chromium_key], args=ARGUMENTS
        )
        yield browser
        browser.close()


@pytest.fixture
def pages(stack: Stack, browser: Browser) -> Iterator[Pages]:
    """Opens pages of the stack's site and fails the test for anything that goes wrong in one."""
    pages = Pages(browser, stack.url)
    yield pages
    pages.close()
    assert not pages.problems, "\n".join(pages.problems)


@pytest.fixture
def page(pages: Pages) -> Page:
    """A page of somebody who has not signed in."""
    return pages.open()


@pytest.fixture
def page_of(pages: Pages) -> Callable[..., Page]:
    """`page_of(alice)` is a page in which she has signed in; further arguments are a context's."""

    def page_of(user: User, **options: Any) -> Page:
        return pages.open(cookies=session_of(user), **options)

    return page_of
