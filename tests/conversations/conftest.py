"""Alice at the API, in the two manners in which one can call it, and the outsider."""

import pytest

from accounts.models import User
from tests.calling import Caller, in_browser, with_key


@pytest.fixture
def api(committed_db: None, alice: User) -> Caller:
    """A page that alice has open."""
    return in_browser(alice)


@pytest.fixture(params=[in_browser, with_key])
def either(committed_db: None, alice: User, request: pytest.FixtureRequest) -> Caller:
    """Alice's page, and then a program with her key."""
    caller: Caller = request.param(alice)
    return caller


@pytest.fixture
def outsider(committed_db: None, charlie: User) -> Caller:
    return in_browser(charlie)
