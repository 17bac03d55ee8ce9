"""What each account has: told by its transfers, and never less than nothing but by a reversal."""

from billing.audit.proof import Rule

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
    "Only a reversal takes a wallet below zero, or an answer whose hold a reversal has overtaken.",
    """
    SELECT concat('transfer ', t.id),
        concat('no less than 0 after ', CASE WHEN t.kind ~ '^[ae]' THEN 'an ' ELSE 'a ' END, t.kind),
        t.balance_after::text
    FROM billing_transfer t
    JOIN billing_account a ON a.id = t.debit_id AND a.kind = 'wallet'
    LEFT JOIN billing_hold h ON h.id = t.hold_id
    WHERE t.balance_after < 0 AND t.kind NOT IN ('refund', 'dispute') AND NOT EXISTS (
        SELECT FROM billing_transfer back WHERE back.debit_id = t.debit_id AND back.kind IN ('refund', 'dispute')
            AND back.id < t.id AND back.created_at >= h.created_at
    )
    """,
)

OVERHELD = Rule(
    "overheld",
    "A wallet holds no more than it has, unless a reversal has overtaken a hold.",
    """
    SELECT concat('account ', a.id), concat('at most ', GREATEST(a.balance, 0), ' held'), a.held::text
    FROM billing_account a
    WHERE a.kind = 'wallet' AND a.held > GREATEST(a.balance, 0) AND NOT EXISTS (
        SELECT FROM billing_transfer back WHERE back.debit_id = a.id AND back.kind IN ('refund', 'dispute')
            AND back.created_at >= (
                SELECT min(created_at) FROM billing_hold WHERE account_id = a.id AND state = 'pending'
            )
    )
    ORDER BY a.id
    """,
)

RULES = (SUM, BALANCE, HOUSE, CHAIN, HELD, OVERDRAWN, OVERHELD)
