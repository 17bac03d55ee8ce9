"""PostgreSQL connections of the pool: looked at before each use without a round trip, and not asked for again and again
while PostgreSQL is away.
"""

import select
import time
from typing import Any, Self

import psycopg
from psycopg_pool import ConnectionPool

from chatapp.absence import Absence

# A host that lost its power, or a firewall that forgot the connection, says nothing either.
ASKED_AFTER_SECONDS = 30.0
# After it could not be reached, one attempt in so many seconds is made.
RETRY_SECONDS = 1.0

_absence = Absence(RETRY_SECONDS)


class Away(psycopg.OperationalError):
    """There is no connection, and none can be made: nothing was asked of PostgreSQL."""


class Connection(psycopg.Connection[Any]):
    """A connection whose check by the pool asks the server only if there is reason to.

    A server that ended it has closed the socket or said so on it: then there is something to read. Between two uses a
    server says nothing else. One that was not used for some time is asked all the same.
    """

    _looked_at = float("-inf")

    @classmethod
    def connect(cls, *arguments: Any, **options: Any) -> Self:
        """`psycopg.connect`, or Away at once if PostgreSQL could not be reached a moment ago."""
        if not _absence.lets_try():
            raise Away("PostgreSQL could not be reached a moment ago")
        try:
            connection = super().connect(*arguments, **options)
        except psycopg.OperationalError:
            _absence.begins()
            raise
        _absence.ends()
        return connection

    def execute(self, query: Any, params: Any = None, **options: Any) -> psycopg.Cursor[Any]:
        if query == "":  # what ConnectionPool.check_connection asks
            rested, self._looked_at = time.monotonic() - self._looked_at, time.monotonic()
            silent = self._is_silent()
            if silent and rested < ASKED_AFTER_SECONDS:
                return self.cursor()
            if not silent and isinstance(self._pool, ConnectionPool):
                # The others that rest were likely lost with this one. The pool would find them one by one, and wait
                # ever longer between two.
                self._pool.check()
        return super().execute(query, params, **options)

    def _is_silent(self) -> bool:
        waiting = select.poll()
        waiting.register(self.pgconn.socket, select.POLLIN)
        return not waiting.poll(0)


def refuse_who_waits(pool: ConnectionPool[Any]) -> None:
    """What the pool calls when it could not connect: without any connection, nobody waits for one in vain.

    As long as somebody has one, or one is still being made, this may be a server that has no more to give: then they
    wait for those, as long as the pool lets them.
    """
    with pool._lock:
        if pool._nconns > 0:
            return
        waiting = [*pool._waiting]
        pool._waiting.clear()
    for client in waiting:  # as the pool does when it is closed
        client.fail(Away("PostgreSQL cannot be reached"))
