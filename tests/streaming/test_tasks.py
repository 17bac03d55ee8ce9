"""What the worker does after a stream, called here."""

import uuid

import pytest
from celery import Task
from django.db import connection
from django.db.utils import InterfaceError, OperationalError, ProgrammingError

from chatapp.streaming.tasks import record_missing_usage, record_usage, sweep

JOBS = [(sweep, ()), (record_missing_usage, ()), (record_usage, (str(uuid.uuid4()),))]


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


@pytest.mark.parametrize(("job", "arguments"), JOBS)
def test_a_mistake_of_ours_stays_loud(db: None, job: Task, arguments: tuple[str, ...]) -> None:
    def mistaken(*_query: object) -> None:
        raise ProgrammingError("no such column")

    with connection.execute_wrapper(mistaken), pytest.raises(ProgrammingError):
        job(*arguments)
