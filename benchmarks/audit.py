"""The audit's time on a million transfers: `manage.py ledger_audit` as an operator runs it."""

import json
from dataclasses import dataclass
from typing import LiteralString

from benchmarks.ledger import FIRST_ID, ID_PREFIX
from benchmarks.report import Row, Target
from benchmarks.servers import Database, Servers

TARGET = Target(most=10)


@dataclass(frozen=True, slots=True)
class Size:
    """A wallet has one grant and, for each of its turns, a hold and a charge."""

    wallets: int
    turns: int
    rounds: int

    @property
    def transfers(self) -> int:
        return self.wallets * (1 + self.turns)


FULL = Size(wallets=10_000, turns=99, rounds=3)
QUICK = Size(wallets=20, turns=4, rounds=1)


def measure(servers: Servers, *, quick: bool) -> list[Row]:
    size = QUICK if quick else FULL
    database = servers.database("audit")
    fill(database, size)
    reports = [json.loads(database.manage("ledger_audit", "--json")) for _ in range(size.rounds)]
    for report in reports:
        if not report["ok"] or report["transfers"] != size.transfers:
            raise AssertionError(f"these are not the books that were written: {report}")
    return [
        Row(
            f"audit of {size.transfers:,} transfers",
            "s",
            TARGET,
            [report["seconds"] for report in reports],
            facts={name: reports[0][name] for name in ("accounts", "transfers", "holds", "rules")},
        )
    ]


def fill(database: Database, size: Size) -> None:
    """Right books of `size.transfers`, the people's turns interleaved as in life; one wallet in ten has a lot.

    Written without triggers and foreign keys: a million transfers would take them many minutes.
    That the books are right all the same is what the audit then proves.
    """
    database.execute(
        *BOOKS,
        "VACUUM ANALYZE",
        prefix=ID_PREFIX,
        first=FIRST_ID,
        wallets=size.wallets,
        turns=size.turns,
        # Every charge is a little larger than the one before it.
        given=10**9,
        spent=sum(100 + turn for turn in range(1, size.turns + 1)),
    )


# Of all tables, in the words of ALTER TABLE.
TRIGGERS: LiteralString = """
    DO $$ DECLARE found record; BEGIN
        FOR found IN SELECT tgrelid::regclass AS of, tgname AS name FROM pg_trigger WHERE NOT tgisinternal
        LOOP EXECUTE 'ALTER TABLE ' || found.of || ' {} TRIGGER ' || found.name; END LOOP;
    END $$
"""
BOOKS: tuple[LiteralString, ...] = (
    TRIGGERS.format("DISABLE"),
    "SET session_replication_role = replica",
    """
    CREATE TEMPORARY TABLE wallet AS
    SELECT n, (%(prefix)s::text || %(first)s + n)::uuid AS person, 1000000 + n AS account,
        CASE WHEN n %% 10 = 0 THEN now() + interval '1 year' END AS expires_at
    FROM generate_series(1, %(wallets)s) n
    """,
    """
    CREATE TEMPORARY TABLE charge AS
    SELECT gen_random_uuid() AS id, person, account, turn, 100 + turn AS amount,
        %(given)s - 100 * turn - turn * (turn + 1) / 2 AS balance_after
    FROM wallet CROSS JOIN generate_series(1, %(turns)s) turn
    """,
    """
    INSERT INTO accounts_user (id, email, password, name, is_superuser, is_staff, is_active, date_joined)
    SELECT person, n || '@example.org', '!', '', false, false, true, now() FROM wallet
    """,
    """
    INSERT INTO billing_account (id, kind, user_id, balance, held)
    SELECT account, 'wallet', person, %(given)s - %(spent)s, 0 FROM wallet
    """,
    """
    INSERT INTO billing_transfer (key, kind, debit_id, credit_id, amount, balance_after, expires_at, reason, made_by)
    SELECT 'grant:' || account, 'grant', house.id, account, %(given)s, %(given)s, expires_at, 'to spend', 'me'
    FROM wallet CROSS JOIN billing_account house WHERE house.kind = 'promotions'
    """,
    """
    INSERT INTO billing_hold (id, account_id, amount, state, created_at, ended_at)
    SELECT id, account, amount, 'settled', now(), now() FROM charge ORDER BY turn, account
    """,
    """
    INSERT INTO billing_transfer (key, kind, debit_id, credit_id, amount, balance_after, hold_id, reason, made_by)
    SELECT 'charge:' || charge.id, 'charge', account, house.id, amount, balance_after, charge.id, '', ''
    FROM charge CROSS JOIN billing_account house WHERE house.kind = 'usage' ORDER BY turn, account
    """,
    """
    INSERT INTO billing_lot (transfer_id, account_id, amount, remaining, expires_at)
    SELECT id, credit_id, amount, amount - %(spent)s, expires_at FROM billing_transfer WHERE expires_at IS NOT NULL
    """,
    """
    INSERT INTO billing_lotuse (lot_id, transfer_id, amount, remaining_after)
    SELECT lot.transfer_id, used.id, used.amount,
        lot.amount - sum(used.amount) OVER (PARTITION BY lot.transfer_id ORDER BY used.id)
    FROM billing_lot lot JOIN billing_transfer used ON used.debit_id = lot.account_id
    """,
    """
    INSERT INTO conversations_turn (id, user_id, fingerprint, model_id, price_id, state, max_tokens, limited_by_balance,
        held, stop_requested, ended_at, provider, provider_request, stop_reason, served_by_id, input_tokens,
        output_tokens, cache_read_tokens, cache_write_5m_tokens, cache_write_1h_tokens, estimated, charged, cost,
        overrun, error_code, error_message)
    SELECT charge.id, person, '', price.model_id, price.id, 'completed', 256, false, amount, false, now(), '', '', '',
        price.model_id, 0, amount / 50, amount %% 50, 0, 0, false, amount, amount, 0, '', ''
    FROM charge CROSS JOIN (
        -- Fifty microcredits for a token of output, and one for a token read from the cache: any amount can be made.
        SELECT id, model_id FROM billing_price WHERE model_id = 'claude-haiku-5-5' ORDER BY effective_from LIMIT 1
    ) price
    """,
    TRIGGERS.format("ENABLE ALWAYS"),
)
