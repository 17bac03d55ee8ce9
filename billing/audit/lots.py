"""Credits that expire: used in their order, and booked when their day has come."""

from billing.audit.proof import Rule

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
    "A transfer uses lots of its own wallet, up to its amount: one that debits it any, one that brings a lot that"
    " same one, to repay a debt. An expiry uses all of its amount, of its own lot.",
    """
    SELECT concat('transfer ', t.id),
        CASE WHEN t.kind = 'expiry' THEN concat(t.amount, ' of lot ', t.source_id)
            WHEN t.expires_at IS NOT NULL THEN concat('at most ', t.amount, ' of lot ', t.id)
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
        CASE WHEN t.expires_at IS NULL THEN used.accounts = t.debit_id::text ELSE used.lots = t.id::text END
        AND used.amount <= t.amount
        AND (t.kind <> 'expiry' OR (used.amount = t.amount AND used.lots = t.source_id::text))
    ) IS NOT TRUE
    """,
)

LOT_PASSED_OVER = Rule(
    "lot_passed_over",
    "A transfer has used all that it could of the lots that were there: a reversal of what it gives back.",
    """
    WITH l AS MATERIALIZED (
        SELECT *, (
            SELECT min(transfer_id) FROM billing_lotuse WHERE lot_id = lot.transfer_id AND remaining_after = 0
        ) AS used_up
        FROM billing_lot lot
    ), t AS MATERIALIZED (
        SELECT transfer.*, l.transfer_id AS lot_id, l.expires_at AS lot_expires_at, COALESCE(used.amount, 0) AS used
        FROM l
        JOIN billing_transfer transfer ON transfer.debit_id = l.account_id AND transfer.kind <> 'expiry'
            AND transfer.id > l.transfer_id AND (l.used_up IS NULL OR transfer.id < l.used_up)
        LEFT JOIN (SELECT transfer_id, sum(amount) AS amount FROM billing_lotuse GROUP BY transfer_id) used
            ON used.transfer_id = transfer.id
        WHERE COALESCE(used.amount, 0) < transfer.amount
    )
    SELECT DISTINCT concat('transfer ', t.id), concat(t.amount, ' of lots, while lot ', t.lot_id, ' was there'),
        concat(t.used, ' of lots')
    FROM t
    WHERE CASE
        WHEN t.kind IN ('refund', 'dispute') THEN t.lot_id = (
            SELECT id FROM billing_transfer WHERE order_id = t.order_id AND kind = 'purchase'
        )
        ELSE t.lot_expires_at > COALESCE((SELECT created_at FROM billing_hold WHERE id = t.hold_id), t.created_at) END
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
    "What can still expire in a wallet is no more than it has.",
    """
    SELECT concat('account ', a.id), concat('at most ', GREATEST(a.balance, 0), ' in lots'), lots.remaining::text
    FROM (SELECT account_id, sum(remaining) AS remaining FROM billing_lot WHERE remaining > 0 GROUP BY account_id) lots
    JOIN billing_account a ON a.id = lots.account_id
    WHERE lots.remaining > GREATEST(a.balance, 0)
    ORDER BY a.id
    """,
)

RULES = (LOT, LOT_LEFT, LOT_CHAIN, LOT_USE, LOT_PASSED_OVER, EXPIRED, COVERED)
