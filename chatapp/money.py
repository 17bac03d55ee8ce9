"""The books over a span of days, added up by PostgreSQL: per day, per model and per user.

Days are UTC's. Amounts are microcredits. A turn counts on the day it ended, a movement of credits on the day it was
booked; both are one transaction, so what turns say was charged is what the ledger has.
"""

import csv
import io
import uuid
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from django.db import connection

from billing.credits import as_string

# What was used, by the turns that ended.
USED = {
    "turns": "count(*)",
    "failed": "count(*) FILTER (WHERE state IN ('failed', 'interrupted'))",
    **{
        name: f"sum({name})"
        for name in (
            *("input_tokens", "output_tokens", "cache_read_tokens"),
            *("cache_write_5m_tokens", "cache_write_1h_tokens", "charged", "cost", "overrun"),
        )
    },
}
# What the house asked for itself, such as summaries of long conversations: part of the cost, on nobody's statement.
OWN = {"cost": "sum(cost)", "house": "sum(cost)"}
# What else moved, by the ledger. Adjustments are counted as given, the other three of either sign as taken.
GIVEN = "CASE WHEN debit_id IN (SELECT id FROM house) THEN amount ELSE -amount END"
TAKEN = "CASE WHEN credit_id IN (SELECT id FROM house) THEN amount ELSE -amount END"
MOVED = {
    "bought": f"sum({GIVEN}) FILTER (WHERE t.kind = 'purchase')",
    "welcome": f"sum({GIVEN}) FILTER (WHERE t.kind = 'signup')",
    "granted": f"sum({GIVEN}) FILTER (WHERE t.kind = 'grant')",
    "adjusted": f"sum({GIVEN}) FILTER (WHERE t.kind = 'adjustment')",
    "expired": f"sum({TAKEN}) FILTER (WHERE t.kind = 'expiry')",
    "refunded": f"sum({TAKEN}) FILTER (WHERE t.kind = 'refund')",
    "disputed": f"sum({TAKEN}) FILTER (WHERE t.kind = 'dispute')",
}
SUMS = [*USED, "house", *MOVED]
CREDITS = ["charged", "cost", "house", "margin", "overrun", *MOVED]
COUNTS = [name for name in USED if name not in CREDITS]
# By which the lines of a table can be sorted.
SORTS = ["label", *SUMS, "margin", "prompt_tokens"]

# How turns, movements, orders and money that went back are told apart; only a turn has a model.
KEYS = {
    "day": {
        "used": "(ended_at AT TIME ZONE 'UTC')::date",
        "moved": "(t.created_at AT TIME ZONE 'UTC')::date",
        "paid": "(paid_at AT TIME ZONE 'UTC')::date",
        "back": "(b.created_at AT TIME ZONE 'UTC')::date",
    },
    "model": {"used": "model_id"},
    "user": {"used": "user_id", "moved": "wallet.user_id", "paid": "user_id", "back": "user_id"},
}
LABELS = {"day": "key::text", "model": "key", "user": "u.email"}
# A CSV has all lines; nobody reads more.
MOST_LINES = 1_000_000
# A spreadsheet would run words that begin like a formula, and people choose their own addresses.
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


@dataclass(frozen=True, slots=True)
class Span:
    """From a day to a day, both whole."""

    first: date
    last: date

    @property
    def begins(self) -> datetime:
        return datetime.combine(self.first, time(), UTC)

    @property
    def ends(self) -> datetime:
        return datetime.combine(self.last, time(), UTC) + timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Filters:
    """What the lines are of: one model, one person, or people whose address has these words in it."""

    model: str = ""
    user: uuid.UUID | None = None
    words: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """What happened on one day, by one model or by one person; or in all. `label` is None for people who are gone."""

    key: Any
    label: str | None
    turns: int
    failed: int
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_5m_tokens: int
    cache_write_1h_tokens: int
    charged: int
    cost: int
    overrun: int
    house: int
    bought: int
    welcome: int
    granted: int
    adjusted: int
    expired: int
    refunded: int
    disputed: int
    margin: int
    paid: dict[str, int] = field(default_factory=dict)
    paid_back: dict[str, int] = field(default_factory=dict)

    @property
    def kept(self) -> dict[str, int]:
        """What was paid, less what was paid back."""
        currencies = self.paid | self.paid_back
        return {name: self.paid.get(name, 0) - self.paid_back.get(name, 0) for name in currencies}

    @property
    def prompt_tokens(self) -> int:
        return (
            self.input_tokens
            + self.cache_read_tokens
            + self.cache_write_5m_tokens
            + self.cache_write_1h_tokens
        )

    @property
    def named(self) -> str:
        return "deleted people" if self.label is None else self.label


@dataclass(frozen=True, slots=True)
class Table:
    """Lines of a span in their order, as many as were asked for; `count` and `total` are of all of them."""

    lines: list[Line]
    count: int
    total: Line


def table(
    group: str,
    span: Span,
    filters: Filters = Filters(),
    *,
    sort: str = "",
    limit: int | None = None,
    offset: int = 0,
) -> Table:
    """The lines per `group` (of KEYS), sorted by one of SORTS, with "-" before it from the most to the least."""
    params: dict[str, Any] = {
        "begins": span.begins,
        "ends": span.ends,
        "model": filters.model,
        "user": filters.user,
        "words": f"%{_escaped(filters.words)}%",
        "limit": limit,
        "offset": offset,
    }
    with connection.cursor() as cursor:
        cursor.execute(_statement(group, filters, sort), params)
        (_, count, *whole), *shown = cursor.fetchall()
    paid, back = (_money(name, KEYS[group], filters, params) for name in ("paid", "back"))
    return Table(
        lines=[
            _line(columns, paid.get(columns[0], {}), back.get(columns[0], {})) for _, _, *columns in shown
        ],
        count=count,
        total=_line(whole, _added_up(paid.values()), _added_up(back.values())),
    )


def _line(columns: list[Any], paid: dict[str, int], paid_back: dict[str, int]) -> Line:
    named = dict(zip(["key", "label", *SUMS, "margin"], columns, strict=True))
    return Line(**named, paid=paid, paid_back=paid_back)


def _added_up(sums: Iterable[dict[str, int]]) -> dict[str, int]:
    total: dict[str, int] = defaultdict(int)
    for one in sums:
        for currency, cents in one.items():
            total[currency] += cents
    return dict(total)


def _statement(group: str, filters: Filters, sort: str) -> str:
    """The total, and then the lines: each with its place, which is 0 for the total."""
    by_words = group == "user" and filters.words
    return f"""
        WITH house AS MATERIALIZED (SELECT id FROM billing_account WHERE kind <> 'wallet'),
        sums AS (
            SELECT key, {_each("COALESCE(sum({0}), 0)::bigint AS {0}")}
            FROM ({" UNION ALL ".join(_sources(group, filters))}) sources GROUP BY key
        ),
        lines AS MATERIALIZED (
            SELECT key, {LABELS[group]} AS label, {", ".join(SUMS)}, charged - cost AS margin,
                input_tokens + cache_read_tokens + cache_write_5m_tokens + cache_write_1h_tokens AS prompt_tokens
            FROM sums {"LEFT JOIN accounts_user u ON u.id = key" if group == "user" else ""}
            {"WHERE u.email ILIKE %(words)s" if by_words else ""}
        ),
        placed AS (SELECT *, row_number() OVER (ORDER BY {_order(group, sort)}) AS place FROM lines)
        SELECT 0, count(*), NULL, NULL, {_each("COALESCE(sum({0}), 0)::bigint")}, COALESCE(sum(margin), 0)::bigint
        FROM lines
        UNION ALL
        SELECT place, NULL, key::text, label, {", ".join(SUMS)}, margin FROM placed
        WHERE place > %(offset)s AND place <= %(offset)s + COALESCE(%(limit)s, {MOST_LINES})
        ORDER BY 1
    """  # noqa: S608  every word in it is one of ours


def _sources(group: str, filters: Filters) -> list[str]:
    """All that is added up to lines. Days and people whose money alone moved have a line too."""
    keys = KEYS[group]
    used = _where(filters, "user_id", model=True)
    sources = [_source(keys["used"], USED, _USED_FROM + used), _source(keys["used"], OWN, _OWN_FROM + used)]
    # What moved outside turns belongs to no model.
    if "moved" in keys and not filters.model:
        whose = _OF_WALLET if group == "user" or filters.user else ""
        moved = _MOVED_FROM + whose + _MOVED_WHERE + _where(filters, "wallet.user_id")
        sources.append(_source(keys["moved"], MOVED, moved))
        for name, (rows, _) in MONEY.items():
            sources.append(_source(keys[name], {}, rows + _where(filters, "user_id")))
    return sources


_USED_FROM = "conversations_turn WHERE ended_at >= %(begins)s AND ended_at < %(ends)s"
_OWN_FROM = "streaming_houseusage WHERE ended_at >= %(begins)s AND ended_at < %(ends)s"
_MOVED_FROM = "billing_transfer t"
_OF_WALLET = """ JOIN billing_account wallet ON wallet.id =
    CASE WHEN credit_id IN (SELECT id FROM house) THEN debit_id ELSE credit_id END"""
_MOVED_WHERE = """ WHERE t.created_at >= %(begins)s AND t.created_at < %(ends)s
    AND t.kind NOT IN ('charge', 'overrun')"""
# Money that came and money that went back: from which rows, and what of them is added up.
MONEY = {
    "paid": (
        "billing_order WHERE paid_cents > 0 AND paid_at >= %(begins)s AND paid_at < %(ends)s",
        "paid_cents",
    ),
    "back": (
        "billing_moneyback b JOIN billing_order o ON o.id = b.order_id "
        "WHERE b.created_at >= %(begins)s AND b.created_at < %(ends)s",
        "cents",
    ),
}


def _source(key: str, sums: dict[str, str], rows: str) -> str:
    """One of the things that are added up, with zeros in the columns of the others."""
    columns = ", ".join(f"{sums.get(name, 0)} AS {name}" for name in SUMS)
    return f"SELECT {key} AS key, {columns} FROM {rows} GROUP BY 1"  # noqa: S608  nothing of it is typed


def _where(filters: Filters, user: str, *, model: bool = False) -> str:
    of_model = " AND model_id = %(model)s" if model and filters.model else ""
    return of_model + (f" AND {user} = %(user)s" if filters.user else "")


def _order(group: str, sort: str) -> str:
    """Newest or dearest first unless told otherwise; the label decides between equals."""
    name = sort.removeprefix("-")
    if name not in SORTS:
        name, sort = ("label", "-label") if group == "day" else ("charged", "-charged")
    return f"{name} {'DESC' if sort.startswith('-') else 'ASC'} NULLS LAST, label"


def _each(column: str) -> str:
    return ", ".join(column.format(name) for name in SUMS)


def _money(
    name: str, keys: dict[str, str], filters: Filters, params: dict[str, Any]
) -> dict[str | None, dict[str, int]]:
    """One kind of MONEY, {key: {currency: smallest units}}; of a model there is none."""
    found: dict[str | None, dict[str, int]] = defaultdict(dict)
    if name not in keys or filters.model:
        return found
    rows, cents = MONEY[name]
    named = (
        " AND user_id IN (SELECT id FROM accounts_user WHERE email ILIKE %(words)s)" if filters.words else ""
    )
    statement = f"""
        SELECT ({keys[name]})::text, currency, sum({cents})::bigint FROM {rows} {_where(filters, "user_id")} {named}
        GROUP BY 1, 2 ORDER BY 1, 2
    """  # noqa: S608  every word in it is one of ours
    with connection.cursor() as cursor:
        cursor.execute(statement, params)
        for key, currency, sum_ in cursor.fetchall():
            found[key][currency] = sum_
    return found


def _escaped(words: str) -> str:
    return words.replace("\\", "\\\\").replace("%", r"\%").replace("_", r"\_")


# --- What the house owes ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Outstanding:
    """What people have, which the house owes them, and what those below zero owe the house: both as positive sums.

    And the same of accounts that are deleted by now, which nobody can use or repay.
    """

    owed: int
    debts: int
    of_deleted: int
    debts_of_deleted: int

    @property
    def together(self) -> int:
        return self.owed - self.debts + self.of_deleted - self.debts_of_deleted


@dataclass(frozen=True, slots=True)
class Owed:
    """Credits outstanding when a span began and when it ended, and each kind of movement between."""

    opening: Outstanding
    movements: dict[str, int]
    closing: Outstanding


def owed(span: Span) -> Owed:
    """From the wallets as they are now back to the span, wallet by wallet, in one statement and so of one moment."""
    with connection.cursor() as cursor:
        cursor.execute(_OWED, {"begins": span.begins, "ends": span.ends})
        found = {name: amounts for name, *amounts in cursor.fetchall()}
    opening, closing = Outstanding(*found.pop("opening")), Outstanding(*found.pop("closing"))
    return Owed(opening, {kind: amount for kind, (amount, *_) in found.items()}, closing)


# What an Outstanding has.
_STOOD = ", ".join(
    f"COALESCE(sum(GREATEST({sign}{{0}}, 0)) FILTER (WHERE {whose}), 0)::bigint"
    for whose in ("NOT deleted", "deleted")
    for sign in ("", "-")
)
_OWED = f"""
    WITH house AS MATERIALIZED (SELECT id FROM billing_account WHERE kind <> 'wallet'),
    moved AS MATERIALIZED (
        SELECT CASE WHEN credit_id IN (SELECT id FROM house) THEN debit_id ELSE credit_id END AS wallet, kind,
            COALESCE(sum({GIVEN}) FILTER (WHERE created_at < %(ends)s), 0) AS within,
            COALESCE(sum({GIVEN}) FILTER (WHERE created_at >= %(ends)s), 0) AS after
        FROM billing_transfer WHERE created_at >= %(begins)s AND kind <> 'overrun' GROUP BY 1, 2
    ),
    wallets AS (
        SELECT a.balance - COALESCE(m.within + m.after, 0) AS opening, a.balance - COALESCE(m.after, 0) AS closing,
            a.user_id IS NULL AS deleted
        FROM billing_account a
        LEFT JOIN (SELECT wallet, sum(within) AS within, sum(after) AS after FROM moved GROUP BY 1) m ON m.wallet = a.id
        WHERE a.kind = 'wallet'
    )
    SELECT 'opening', {_STOOD.format("opening")} FROM wallets
    UNION ALL
    SELECT 'closing', {_STOOD.format("closing")} FROM wallets
    UNION ALL
    SELECT kind, sum(within)::bigint, 0, 0, 0 FROM moved GROUP BY 1 HAVING bool_or(within <> 0)
"""  # noqa: S608  every word in it is one of ours


# --- CSV -------------------------------------------------------------------------------------------------


def as_csv(lines: Iterable[Line], group: str, currencies: Iterable[str]) -> str:
    """The lines as a table for a spreadsheet: credits with six places, money in the currency's smallest unit."""
    text = io.StringIO()
    writer = csv.writer(text)
    paid = [*currencies] if "paid" in KEYS[group] else []
    credits = CREDITS if "moved" in KEYS[group] else CREDITS[: CREDITS.index("bought")]
    writer.writerow(
        [
            *(group, *COUNTS),
            *(f"{name}_credits" for name in credits),
            *(f"paid_{currency}_smallest_units" for currency in paid),
            *(f"paid_back_{currency}_smallest_units" for currency in paid),
        ]
    )
    for line in lines:
        writer.writerow(
            [
                f"'{line.named}" if line.named.startswith(FORMULA) else line.named,
                *(getattr(line, name) for name in COUNTS),
                *(as_string(getattr(line, name)) for name in credits),
                *(line.paid.get(currency, 0) for currency in paid),
                *(line.paid_back.get(currency, 0) for currency in paid),
            ]
        )
    return text.getvalue()
