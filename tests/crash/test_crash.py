"""Kill -9 of anything, at any moment, loses nothing and charges nothing wrongly. See tests/crash."""

import os
import secrets
from contextlib import closing

import pytest

from accounts.models import User
from tests.crash.killing import Crash
from tests.stack import Stack

KILLS = int(os.environ.get("CRASH_KILLS", "10"))
PEOPLE = 3 if KILLS < 100 else 8


def test_no_credit_is_lost_whatever_is_killed(
    stack: Stack, operator: User, capsys: pytest.CaptureFixture[str]
) -> None:
    stack.expect_tracebacks()  # of whatever they were at when the others died
    users = [User.objects.create_user(f"{secrets.token_hex(6)}@example.org") for _ in range(PEOPLE)]

    with closing(Crash(stack, users, operator, KILLS)) as crash:
        account = crash.run()

    with capsys.disabled():
        print(f"\n{account}")  # noqa: T201  the figures are what it is run for
    assert account.wrong == []
    assert account.lost == 0
