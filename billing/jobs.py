"""Handing work to the worker, where the work is found by a periodic task too, should the broker be away."""

from typing import Any

import structlog
from celery import current_app
from celery.exceptions import OperationalError as BrokerAway

log = structlog.get_logger(__name__)


# In the broker's terms, where 0 is the most urgent.
LAST = 9


def hand_over(task: str, *arguments: Any, last: bool = False) -> None:
    """Have the worker run `task`, by its name, soon; a line in the log if the broker is away.

    `last`: whatever else waits goes first, such as what takes long because others are asked.
    """
    try:
        current_app.send_task(task, arguments, priority=LAST if last else 0)
    except (BrokerAway, OSError) as error:
        log.warning("job not handed over", task=task, arguments=len(arguments), error=type(error).__name__)
