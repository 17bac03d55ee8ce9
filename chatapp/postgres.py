"""PostgreSQL connections of the pool, which are looked at before each use without a round trip."""

import select
from typing import Any

import psycopg


class Connection(psycopg.Connection[Any]):
    """A connection whose check by the pool asks the server only if there is reason to.

    A server that ended it, or died, has closed the socket or said so on it: then there is something to read. Between
    two uses a server says nothing else.
    """

    def execute(self, query: Any, params: Any = None, **options: Any) -> psycopg.Cursor[Any]:
        if query == "" and self._is_silent():  # what ConnectionPool.check_connection asks
            return self.cursor()
        return super().execute(query, params, **options)

    def _is_silent(self) -> bool:
        waiting = select.poll()
        waiting.register(self.pgconn.socket, select.POLLIN)
        return not waiting.poll(0)
