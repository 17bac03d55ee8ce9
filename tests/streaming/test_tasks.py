"""What the worker does after a stream, called here."""

import pytest
from celery import Task
from django.db import connection
from django.db.utils import InterfaceError, OperationalError, ProgrammingError

from accounts.models import User
from billing.tasks import (
    end_subscriptions_of_nobody,
    expire_lots,
    look_after_wallet,
    reconcile,
    send_mail,
    send_waiting_mails,
    top_up,
)
from chatapp.broker import Transport
from chatapp.celery import app as celery
from chatapp.streaming.models import UsageRecord
from chatapp.streaming.tasks import (
    name_conversation,
    record_missing_usage,
    record_usage,
    sweep,
    write_recap,
)
from tests.billing.books import CREDIT, close_turn, open_turn

SOMEBODY = "5a1c1b9e-0000-4000-8000-000000000001"
JOBS = [
    *[(sweep, ()), (record_missing_usage, ()), (record_usage, (SOMEBODY,)), (write_recap, (SOMEBODY,))],
    (name_conversation, (SOMEBODY,)),
    *[(expire_lots, ()), (look_after_wallet, (SOMEBODY,)), (top_up, ()), (end_subscriptions_of_nobody, ())],
    *[(send_mail, (1,)), (send_waiting_mails, ()), (reconcile, ())],
]


@pytest.mark.parametrize(("job", "arguments"), JOBS)
@pytest.mark.parametrize("error", [OperationalError, InterfaceError])
def test_a_job_that_meets_the_database_away_says_so_in_one_line(
    db: None,
    caplog: pytest.LogCaptureFixture,
    job: Task,
    arguments: tuple[str, ...],
    error: type[Exception],
) -> None:
    def away(*_query: object) -> None:
        raise error("the server is away")

    with connection.execute_wrapper(away):
        job(*arguments)

    (line,) = caplog.records
    assert (line.levelname, line.exc_info) == ("WARNING", None)
    assert line.msg["task"] == job.name.rpartition(".")[2]
    assert line.msg["error"] == error.__name__


def test_turns_that_ended_together_are_recorded_together_and_each_once(alice: User, bob: User) -> None:
    ended = [open_turn(alice, CREDIT), open_turn(bob, CREDIT)]
    for turn in ended:
        close_turn(turn, CREDIT)
    running = open_turn(alice, CREDIT)
    turns = [*ended, running]
    for _ in range(2):
        record_usage(*map(str, turns))
    recorded = UsageRecord.objects.filter(turn_id__in=turns).values_list("turn_id", flat=True)
    assert sorted(recorded) == sorted(ended)


@pytest.mark.parametrize(("job", "arguments"), JOBS)
def test_a_mistake_of_ours_stays_loud(db: None, job: Task, arguments: tuple[str, ...]) -> None:
    def mistaken(*_query: object) -> None:
        raise ProgrammingError("no such column")

    with connection.execute_wrapper(mistaken), pytest.raises(ProgrammingError):
        job(*arguments)


@pytest.mark.parametrize(("scheme", "encrypted"), [("redis", False), ("rediss", True)])
def test_jobs_travel_in_our_manner_and_encrypted_where_the_url_says_so(scheme: str, encrypted: bool) -> None:
    connection = celery.connection_for_write(f"{scheme}://user:secret@valkey.example:6380/0")
    assert connection.get_transport_cls() is Transport
    assert bool(connection.ssl) is encrypted
