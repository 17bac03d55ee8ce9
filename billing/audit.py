"""The proof of the books: each rule of the ledger, and the query that finds every row which breaks it.

The triggers of migration 0002_ledger_rules refuse what would break a rule; nothing here relies on them. Everything
is added up anew from the rows, in one snapshot of the database, so the system may go on working meanwhile.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from django.db import connection, transaction

from billing.models import (
    Account,
    AutoTopUp,
    Hold,
    Lot,
    LotUse,
    MoneyBack,
    Order,
    Pack,
    Plan,
    PlanCheckout,
    Price,
    Transfer,
)


@dataclass(frozen=True, slots=True)
class Rule:
    """`query` gives a line of three texts for each row that breaks the rule: which row, expected, found.

    Amounts in them are microcredits.
    """

    name: str
    says: str
    query: str
    params: tuple[list[str], list[str]] | None = None


@dataclass(frozen=True, slots=True)
class Broken:
    """A row that breaks a rule."""

    rule: str
    row: str
    expected: str
    found: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.row}: expected {self.expected}, found {self.found}"


@dataclass(frozen=True, slots=True)
class Report:
    """What there is, what is broken, and how long it took to find out; amounts in microcredits.

    `outstanding` is what people have, and therefore what the house owes them; `held` is the part of it that pending
    holds set aside. `debts` is what those below zero owe the house: nobody else has any less for it.
    """

    accounts: int
    transfers: int
    holds: int
    pending_holds: int
    outstanding: int
    debts: int
    held: int
    seconds: float
    broken: dict[str, list[Broken]]

    @property
    def ok(self) -> bool:
        return not any(self.broken.values())


def prove(rules: Sequence[Rule]) -> Report:
    """Hold all the books against `rules`, in one consistent snapshot."""
    began = time.monotonic()
    with _snapshot(), connection.cursor() as cursor:
        broken = {}
        for rule in rules:
            cursor.execute(rule.query, rule.params)
            broken[rule.name] = [Broken(rule.name, *line) for line in cursor.fetchall()]
        cursor.execute(TOTALS)
        accounts, transfers, holds, pending_holds, outstanding, debts, held = map(int, cursor.fetchone())
    return Report(
        accounts=accounts,
        transfers=transfers,
        holds=holds,
        pending_holds=pending_holds,
        outstanding=outstanding,
        debts=debts,
        held=held,
        seconds=time.monotonic() - began,
        broken=broken,
    )


@contextmanager
def _snapshot() -> Iterator[None]:
    """One view of the whole database, of this moment; inside a caller's transaction it is the caller's view."""
    outermost = not connection.in_atomic_block
    with transaction.atomic():
        if outermost:
            with connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
                # Sorting a million transfers within memory takes half the time.
                cursor.execute("SET LOCAL work_mem = '64MB'")
        yield


# --- Balances --------------------------------------------------------------------------------------------

SUM = Rule(
    "sum",
    "All accounts together sum to zero.",
    """
    SELECT 'all accounts', '0', sum(amount)::text FROM (
        SELECT sum(balance) AS amount FROM billing_account WHERE kind = 'wallet'
        UNION ALL
        SELECT sum(amount) FROM billing_transfer t JOIN billing_account a ON a.id = t.credit_id WHERE a.kind <> 'wallet'
        UNION ALL
        SELECT -sum(amount) FROM billing_transfer t JOIN billing_account a ON a.id = t.debit_id WHERE a.kind <> 'wallet'
    ) parts HAVING sum(amount) <> 0
    """,
)

BALANCE = Rule(
    "balance",
    "A wallet's balance is the sum of its transfers.",
    """
    SELECT concat('account ', a.id), (COALESCE(came.amount, 0) - COALESCE(went.amount, 0))::text, a.balance::text
    FROM billing_account a
    LEFT JOIN (SELECT credit_id, sum(amount) AS amount FROM billing_transfer GROUP BY credit_id) came
        ON came.credit_id = a.id
    LEFT JOIN (SELECT debit_id, sum(amount) AS amount FROM billing_transfer GROUP BY debit_id) went
        ON went.debit_id = a.id
    WHERE a.kind = 'wallet' AND a.balance <> COALESCE(came.amount, 0) - COALESCE(went.amount, 0)
    ORDER BY a.id
    """,
)

HOUSE = Rule(
    "house",
    "The house's accounts keep no balance and hold nothing.",
    """
    SELECT concat('account ', id), 'balance 0, held 0', concat('balance ', balance, ', held ', held)
    FROM billing_account WHERE kind <> 'wallet' AND (balance <> 0 OR held <> 0) ORDER BY id
    """,
)

CHAIN = Rule(
    "chain",
    "The balance told by a wallet's transfer continues the one before it; within the house, none is told.",
    """
    SELECT concat('transfer ', id), COALESCE((before + change)::text, 'none'), COALESCE(balance_after::text, 'none')
    FROM (
        SELECT id, change, balance_after,
            CASE WHEN wallet IS NOT NULL
                THEN COALESCE(lag(balance_after) OVER (PARTITION BY wallet ORDER BY id), 0)::numeric END AS before
        FROM (
            SELECT id, balance_after,
                CASE WHEN NOT to_house THEN credit_id WHEN NOT from_house THEN debit_id END AS wallet,
                CASE WHEN NOT to_house THEN amount ELSE -amount END AS change
            FROM (
                SELECT id, debit_id, credit_id, amount, balance_after,
                    debit_id IN (SELECT id FROM billing_account WHERE kind <> 'wallet') AS from_house,
                    credit_id IN (SELECT id FROM billing_account WHERE kind <> 'wallet') AS to_house
                FROM billing_transfer
            ) transfers
        ) moves
    ) chained
    WHERE balance_after IS DISTINCT FROM before + change
    """,
)

HELD = Rule(
    "held",
    "What a wallet holds is the sum of its pending holds.",
    """
    SELECT concat('account ', a.id), COALESCE(pending.amount, 0)::text, a.held::text
    FROM billing_account a
    LEFT JOIN (SELECT account_id, sum(amount) AS amount FROM billing_hold WHERE state = 'pending' GROUP BY account_id)
        pending ON pending.account_id = a.id
    WHERE a.held <> COALESCE(pending.amount, 0)
    ORDER BY a.id
    """,
)

OVERDRAWN = Rule(
    "overdrawn",
    "A wallet has less than nothing available only as far as reversals have taken it there.",
    """
    SELECT concat('account ', a.id), concat('at least ', -reversed.amount), (a.balance - a.held)::text
    FROM billing_account a CROSS JOIN LATERAL (
        SELECT COALESCE(sum(CASE WHEN debit_id = a.id THEN amount ELSE -amount END), 0) AS amount
        FROM billing_transfer WHERE a.id IN (debit_id, credit_id) AND kind IN ('refund', 'dispute')
    ) reversed
    WHERE a.kind = 'wallet' AND a.balance < a.held AND a.balance - a.held < -reversed.amount
    ORDER BY a.id
    """,
)

# --- What moved ------------------------------------------------------------------------------------------

ROUTE = Rule(
    "route",
    "A transfer runs between two accounts of its kind, of which one is always the house's.",
    """
    SELECT concat('transfer ', t.id),
        concat('the accounts of ', CASE WHEN t.kind ~ '^[ao]' THEN 'an ' ELSE 'a ' END, t.kind),
        concat(COALESCE(payer.kind, 'none'), ' to ', COALESCE(payee.kind, 'none'))
    FROM billing_transfer t
    LEFT JOIN billing_account payer ON payer.id = t.debit_id
    LEFT JOIN billing_account payee ON payee.id = t.credit_id
    WHERE ((t.kind, payer.kind, payee.kind) IN (
        ('charge', 'wallet', 'usage'),
        ('overrun', 'overruns', 'usage'),
        ('signup', 'signup', 'wallet'),
        ('purchase', 'stripe', 'wallet'),
        ('grant', 'promotions', 'wallet'),
        ('expiry', 'wallet', 'expired'),
        ('adjustment', 'adjustments', 'wallet'), ('adjustment', 'wallet', 'adjustments'),
        ('refund', 'wallet', 'stripe'), ('refund', 'stripe', 'wallet'),
        ('dispute', 'wallet', 'stripe'), ('dispute', 'stripe', 'wallet')
    )) IS NOT TRUE
    ORDER BY t.id
    """,
)

CHARGE = Rule(
    "charge",
    "A settled hold has one charge, to its own wallet and within its amount; a pending or released one has none.",
    """
    SELECT concat('hold ', broken.id),
        CASE h.state
            WHEN 'settled' THEN concat('one charge of at most ', h.amount, ' to account ', h.account_id)
            ELSE concat('no charge of a ', COALESCE(h.state, 'missing'), ' hold')
        END,
        COALESCE(charges.told, 'none')
    FROM (
        SELECT COALESCE(h.id, charge.hold_id) AS id
        FROM billing_hold h
        FULL JOIN (SELECT hold_id, debit_id, amount FROM billing_transfer WHERE kind = 'charge') charge
            ON charge.hold_id = h.id
        WHERE CASE h.state
            WHEN 'settled' THEN (charge.amount <= h.amount AND charge.debit_id = h.account_id) IS NOT TRUE
            ELSE charge.hold_id IS NOT NULL END
        UNION
        SELECT hold_id FROM billing_transfer WHERE kind = 'charge' GROUP BY hold_id HAVING count(*) > 1
    ) broken
    LEFT JOIN billing_hold h ON h.id = broken.id
    LEFT JOIN LATERAL (
        SELECT concat(count(*), ' of together ', sum(amount), ' to account ', string_agg(DISTINCT debit_id::text, ', '))
            AS told
        FROM billing_transfer WHERE hold_id = broken.id AND kind = 'charge' GROUP BY hold_id
    ) charges ON true
    """,
)

OVERRUN = Rule(
    "overrun",
    "An overrun begins where its hold is used up, and there is one at most.",
    """
    SELECT concat('hold ', o.hold_id), 'one overrun, of a hold that is charged in full',
        concat(o.times, ' of a hold of ', COALESCE(h.amount::text, 'nothing'), ', charged ',
            COALESCE(charge.amount::text, 'nothing'))
    FROM (SELECT hold_id, count(*) AS times FROM billing_transfer WHERE kind = 'overrun' GROUP BY hold_id) o
    LEFT JOIN billing_hold h ON h.id = o.hold_id
    LEFT JOIN (SELECT hold_id, sum(amount) AS amount FROM billing_transfer WHERE kind = 'charge' GROUP BY hold_id)
        charge ON charge.hold_id = o.hold_id
    WHERE (o.times = 1 AND charge.amount = h.amount) IS NOT TRUE
    """,
)

# --- What expires ----------------------------------------------------------------------------------------

LOT = Rule(
    "lot",
    "Credits that expire are one lot, of the wallet and the amount of the transfer that brought them.",
    """
    SELECT concat('transfer ', COALESCE(t.id, l.transfer_id)),
        CASE WHEN t.expires_at IS NULL THEN 'no lot'
            ELSE concat('a lot of ', t.amount, ' on account ', t.credit_id, ' until ', t.expires_at) END,
        CASE WHEN l.transfer_id IS NULL THEN 'none'
            ELSE concat('a lot of ', l.amount, ' on account ', l.account_id, ' until ', l.expires_at) END
    FROM (SELECT * FROM billing_transfer WHERE expires_at IS NOT NULL) t
    FULL JOIN billing_lot l ON l.transfer_id = t.id
    WHERE ((l.account_id, l.amount, l.expires_at) = (t.credit_id, t.amount, t.expires_at)) IS NOT TRUE
    """,
)

LOT_LEFT = Rule(
    "lot_left",
    "What remains of a lot is what no transfer has used.",
    """
    SELECT concat('lot ', l.transfer_id), (l.amount - COALESCE(used.amount, 0))::text, l.remaining::text
    FROM billing_lot l
    LEFT JOIN (SELECT lot_id, sum(amount) AS amount FROM billing_lotuse GROUP BY lot_id) used
        ON used.lot_id = l.transfer_id
    WHERE l.remaining <> l.amount - COALESCE(used.amount, 0)
    """,
)

LOT_CHAIN = Rule(
    "lot_chain",
    "What a use tells that it left of its lot continues the use before it.",
    """
    SELECT concat('lot use ', id), remaining::text, remaining_after::text
    FROM (
        SELECT u.id, u.remaining_after,
            COALESCE(lag(u.remaining_after) OVER (PARTITION BY u.lot_id ORDER BY u.id), l.amount) - u.amount
                AS remaining
        FROM billing_lotuse u JOIN billing_lot l ON l.transfer_id = u.lot_id
    ) chained
    WHERE remaining_after <> remaining
    """,
)

LOT_USE = Rule(
    "lot_use",
    "A transfer uses lots of the wallet it debits, up to its amount; an expiry uses all of its amount, of its own lot.",
    """
    SELECT concat('transfer ', t.id),
        CASE t.kind WHEN 'expiry' THEN concat(t.amount, ' of lot ', t.source_id)
            ELSE concat('at most ', t.amount, ' of lots of account ', t.debit_id) END,
        concat(COALESCE(used.amount, 0), ' of lots ', COALESCE(used.lots, 'none'), ' of account ',
            COALESCE(used.accounts, 'none'))
    FROM billing_transfer t
    LEFT JOIN (
        SELECT u.transfer_id, sum(u.amount) AS amount,
            string_agg(l.transfer_id::text, ', ' ORDER BY l.transfer_id) AS lots,
            string_agg(DISTINCT l.account_id::text, ', ') AS accounts
        FROM billing_lotuse u JOIN billing_lot l ON l.transfer_id = u.lot_id GROUP BY u.transfer_id
    ) used ON used.transfer_id = t.id
    WHERE (used.transfer_id IS NOT NULL OR t.kind = 'expiry') AND (
        used.accounts = t.debit_id::text AND used.amount <= t.amount
        AND (t.kind <> 'expiry' OR (used.amount = t.amount AND used.lots = t.source_id::text))
    ) IS NOT TRUE
    """,
)

EXPIRED = Rule(
    "expired",
    "What expired an hour ago is booked, except what a turn that was opened before may still need.",
    """
    SELECT concat('lot ', l.transfer_id), 'nothing left to book', concat(due.amount, ' to be booked')
    FROM (
        SELECT DISTINCT account_id FROM billing_lot WHERE remaining > 0 AND expires_at < now() - interval '1 hour'
    ) overdue
    CROSS JOIN LATERAL billing_expirable(overdue.account_id) due
    JOIN billing_lot l ON l.transfer_id = due.lot
    WHERE l.expires_at < now() - interval '1 hour'
    """,
)

COVERED = Rule(
    "covered",
    "A wallet has what remains of its lots, and less only as far as reversals have taken it there.",
    """
    SELECT concat('account ', a.id), concat('at least ', lots.remaining - reversed.amount), a.balance::text
    FROM (SELECT account_id, sum(remaining) AS remaining FROM billing_lot WHERE remaining > 0 GROUP BY account_id) lots
    JOIN billing_account a ON a.id = lots.account_id
    CROSS JOIN LATERAL (
        SELECT COALESCE(sum(CASE WHEN debit_id = a.id THEN amount ELSE -amount END), 0) AS amount
        FROM billing_transfer WHERE a.id IN (debit_id, credit_id) AND kind IN ('refund', 'dispute')
    ) reversed
    WHERE a.balance < lots.remaining AND a.balance < lots.remaining - reversed.amount
    """,
)

# --- What was bought -------------------------------------------------------------------------------------

PURCHASE = Rule(
    "purchase",
    "A paid order has one purchase, of its credits, in the wallet of who ordered it; any other order has none.",
    """
    SELECT concat('order ', COALESCE(o.id, bought.order_id)),
        CASE o.state
            WHEN 'paid' THEN concat(
                'one purchase of ', o.credits_microcredits, ' by ', COALESCE(o.user_id::text, 'nobody')
            )
            ELSE concat('no purchase of a', COALESCE('n order that is ' || o.state, ' missing order'))
        END,
        CASE WHEN bought.order_id IS NULL THEN 'none'
            ELSE concat(
                bought.times, ' of together ', bought.amount, ' by ', COALESCE(wallet.user_id::text, 'nobody')
            ) END
    FROM billing_order o
    FULL JOIN (
        SELECT order_id, count(*) AS times, sum(amount) AS amount, min(credit_id) AS wallet
        FROM billing_transfer WHERE kind = 'purchase' GROUP BY order_id
    ) bought ON bought.order_id = o.id
    LEFT JOIN billing_account wallet ON wallet.id = bought.wallet
    WHERE CASE o.state
        WHEN 'paid' THEN (
            bought.times = 1 AND bought.amount = o.credits_microcredits
            AND wallet.user_id IS NOT DISTINCT FROM o.user_id
        ) IS NOT TRUE
        ELSE bought.order_id IS NOT NULL END
    """,
)

PAID_SESSION = Rule(
    "paid_session",
    "A Checkout session that Stripe told us is paid belongs to a paid order, unless it began a subscription.",
    """
    SELECT DISTINCT concat('session ', session.id), 'a paid order',
        COALESCE('order ' || o.id || ' that is ' || o.state, 'none')
    FROM billing_stripeevent e
    CROSS JOIN LATERAL (
        SELECT e.payload #>> '{data,object,id}' AS id, e.payload #>> '{data,object,payment_status}' AS payment_status
    ) session
    LEFT JOIN billing_order o ON o.stripe_session = session.id
    WHERE e.outcome = 'handled' AND e.type LIKE 'checkout.session.%'
        AND session.payment_status IN ('paid', 'no_payment_required') AND o.state IS DISTINCT FROM 'paid'
        AND e.payload #>> '{data,object,mode}' IS DISTINCT FROM 'subscription'
    """,
)

REVERSAL = Rule(
    "reversal",
    "Refunds and disputes of an order take back no more than was bought and did not expire, from who bought it.",
    """
    SELECT concat('order ', COALESCE(back.order_id::text, 'none')),
        concat('0 to ', COALESCE(bought.amount - bought.expired, 0), ' taken back from account ',
            COALESCE(bought.wallet::text, 'none')),
        concat(back.amount, ' taken back from account ', back.wallet)
    FROM (
        SELECT order_id, CASE WHEN a.kind = 'wallet' THEN t.debit_id ELSE t.credit_id END AS wallet,
            sum(CASE WHEN a.kind = 'wallet' THEN t.amount ELSE -t.amount END) AS amount
        FROM billing_transfer t JOIN billing_account a ON a.id = t.debit_id
        WHERE t.kind IN ('refund', 'dispute') GROUP BY 1, 2
    ) back
    LEFT JOIN (
        SELECT p.order_id, p.credit_id AS wallet, sum(p.amount) AS amount, COALESCE(sum(gone.amount), 0) AS expired
        FROM billing_transfer p
        LEFT JOIN (SELECT source_id, sum(amount) AS amount FROM billing_transfer WHERE kind = 'expiry' GROUP BY 1) gone
            ON gone.source_id = p.id
        WHERE p.kind = 'purchase' GROUP BY 1, 2
    ) bought ON bought.order_id = back.order_id AND bought.wallet = back.wallet
    WHERE (back.amount BETWEEN 0 AND bought.amount - bought.expired) IS NOT TRUE
    """,
)

RETURNED = Rule(
    "returned",
    "What a refund or dispute gives back, since it came to nothing or had expired, is what it had taken before.",
    """
    SELECT concat('transfer ', back.id),
        CASE WHEN taken.id IS NULL THEN concat('nothing, as there is no ', back.taken_as)
            ELSE concat(taken.kind, ' of ', taken.amount, ' of order ', taken.order_id, ' to account ', taken.debit_id)
            END,
        concat(back.kind, ' of ', back.amount, ' of order ', back.order_id, ' to account ', back.credit_id)
    FROM (
        SELECT *, regexp_replace(key, ':[a-z]+$', '') AS taken_as
        FROM billing_transfer WHERE kind IN ('refund', 'dispute') AND key ~ ':(returned|spared)$'
    ) back
    LEFT JOIN billing_transfer taken ON taken.key = back.taken_as
    WHERE (
        (taken.kind, taken.amount, taken.order_id, taken.debit_id)
            = (back.kind, back.amount, back.order_id, back.credit_id)
        AND taken.id < back.id
    ) IS NOT TRUE
    """,
)

# --- What keeps the rules --------------------------------------------------------------------------------

# The triggers of migrations 0002_ledger_rules, 0005_prices_in_use_are_fixed and 0006_customers_and_plans, each with
# its table.
TRIGGERS = {
    "transfer_is_never_changed": "billing_transfer",
    "transfer_is_never_truncated": "billing_transfer",
    "transfer_apply": "billing_transfer",
    "hold_is_never_deleted": "billing_hold",
    "hold_is_never_truncated": "billing_hold",
    "hold_apply": "billing_hold",
    "hold_is_charged": "billing_hold",
    "lot_is_never_deleted": "billing_lot",
    "lot_is_never_truncated": "billing_lot",
    "lot_guard": "billing_lot",
    "lot_use_is_never_changed": "billing_lotuse",
    "lot_use_is_never_truncated": "billing_lotuse",
    "lot_use_apply": "billing_lotuse",
    "account_is_never_deleted": "billing_account",
    "account_is_never_truncated": "billing_account",
    "account_guard": "billing_account",
    "money_back_is_never_changed": "billing_moneyback",
    "money_back_is_never_truncated": "billing_moneyback",
    "price_in_use_is_fixed": "billing_price",
    "price_lay_ahead_until_the_commit": "billing_price",
    "prices_are_never_truncated": "billing_price",
    "plan_that_was_chosen_is_fixed": "billing_plan",
    "plans_are_never_truncated": "billing_plan",
}

# Those of the models by our names for them, those of single columns by PostgreSQL's.
CONSTRAINTS = {
    "billing_transfer_key_key": "billing_transfer",
    "billing_order_stripe_session_key": "billing_order",
    "billing_order_stripe_invoice_key": "billing_order",
    "billing_account_user_id_key": "billing_account",
    "billing_plan_stripe_price_key": "billing_plan",
    "billing_subscription_stripe_id_key": "billing_subscription",
    **{
        constraint.name: model._meta.db_table
        for model in (
            *(Account, AutoTopUp, Hold, Lot, LotUse, MoneyBack, Order),
            *(Pack, Plan, PlanCheckout, Price, Transfer),
        )
        for constraint in model._meta.constraints
    },
}

TRIGGER = Rule(
    "trigger",
    "The triggers that keep the rules are there and switched on.",
    """
    SELECT concat('trigger ', expected.name, ' on ', expected.table_name), 'enabled',
        CASE t.tgenabled WHEN 'D' THEN 'disabled' WHEN 'R' THEN 'enabled on replicas only' ELSE 'none' END
    FROM unnest(%s::text[], %s::text[]) AS expected (name, table_name)
    LEFT JOIN pg_trigger t ON t.tgname = expected.name AND t.tgrelid = to_regclass(expected.table_name)
    WHERE (t.tgenabled IN ('O', 'A')) IS NOT TRUE
    """,
    (list(TRIGGERS), list(TRIGGERS.values())),
)

CONSTRAINT = Rule(
    "constraint",
    "The constraints that keep the rules are there, and hold for every row.",
    """
    SELECT concat('constraint ', expected.name, ' on ', expected.table_name), 'valid',
        CASE WHEN c.conname IS NULL AND i.indexrelid IS NULL THEN 'none' ELSE 'not valid' END
    FROM unnest(%s::text[], %s::text[]) AS expected (name, table_name)
    LEFT JOIN pg_constraint c ON c.conname = expected.name AND c.conrelid = to_regclass(expected.table_name)
    LEFT JOIN pg_index i ON i.indexrelid = to_regclass(quote_ident(expected.name))
        AND i.indrelid = to_regclass(expected.table_name) AND i.indisunique
    WHERE (COALESCE(c.convalidated, i.indisvalid)) IS NOT TRUE
    """,
    (list(CONSTRAINTS), list(CONSTRAINTS.values())),
)

RULES = (
    SUM,
    BALANCE,
    HOUSE,
    CHAIN,
    HELD,
    OVERDRAWN,
    ROUTE,
    CHARGE,
    OVERRUN,
    LOT,
    LOT_LEFT,
    LOT_CHAIN,
    LOT_USE,
    EXPIRED,
    COVERED,
    PURCHASE,
    PAID_SESSION,
    REVERSAL,
    RETURNED,
    TRIGGER,
    CONSTRAINT,
)

TOTALS = """
    SELECT
        (SELECT count(*) FROM billing_account),
        (SELECT count(*) FROM billing_transfer),
        (SELECT count(*) FROM billing_hold),
        (SELECT count(*) FROM billing_hold WHERE state = 'pending'),
        (SELECT COALESCE(sum(balance), 0) FROM billing_account WHERE kind = 'wallet' AND balance > 0),
        (SELECT -COALESCE(sum(balance), 0) FROM billing_account WHERE kind = 'wallet' AND balance < 0),
        (SELECT COALESCE(sum(held), 0) FROM billing_account)
"""
