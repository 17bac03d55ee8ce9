"""People with a wallet full of credits and an API key each, written straight into the database."""

import secrets

from benchmarks.ledger import FIRST_ID, ID_PREFIX, open_accounts
from benchmarks.servers import Database

# Each kind of measurement has people of its own, numbered from here on.
OF_STREAMS, OF_PAGES, OF_HISTORY = 0, 10_000, 20_000

SECRET = secrets.token_hex(32)


def open_people(database: Database, count: int, *, first: int) -> list[str]:
    """So many people; the keys with which their programs call the API."""
    open_accounts(database, count, first=first)
    database.execute(
        """
        INSERT INTO accounts_apikey (id, user_id, name, prefix, hash)
        SELECT gen_random_uuid(), (%(prefix)s::text || %(first)s + n)::uuid, 'benchmark', 'bench_' || n,
            encode(sha256(('bench_' || n || '.' || %(secret)s::text)::bytea), 'hex')
        FROM generate_series(%(low)s::int, %(high)s::int) n
        """,
        prefix=ID_PREFIX,
        first=FIRST_ID,
        low=first,
        high=first + count - 1,
        secret=SECRET,
    )
    return [f"bench_{number}.{SECRET}" for number in range(first, first + count)]


def bearer(key: str) -> dict[str, str]:
    """The headers of a program's call, as a proxy that speaks TLS passes it on."""
    return {"Authorization": f"Bearer {key}", "X-Forwarded-Proto": "https"}
