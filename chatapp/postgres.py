"""PostgreSQL connections of the pool, which are looked at before each use without a round trip."""

import select
import time
from typing import Any

import psycopg

# A host that lost its power, or a firewall that forgot the connection, says nothing either.
ASKED_AFTER_SECONDS = 30.0


class Connection(psycopg.Connection[Any]):
    """A connection whose check by the pool asks the server only if there is reason to.

    A server that ended it has closed the socket or said so on it: then there is something to read. Between two uses a
    server says nothing else. One that was not used for some time is asked all the same.
    """

    _looked_at = float("-inf")

    def execute(self, query: Any, params: Any = None, **options: Any) -> psycopg.Cursor[Any]:
        if query == "":  # what ConnectionPool.check_connection asks
            rested, self._looked_at = time.monotonic() - self._looked_at, time.monotonic()
            if rested < ASKED_AFTER_SECONDS and self._is_silent():
                return self.cursor()
        return super().execute(query, params, **options)

    def _is_silent(self) -> bool:
        waiting = select.poll()
        waiting.register(self.pgconn.socket, select.POLLIN)
        return not waiting.poll(0)
