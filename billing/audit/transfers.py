"""What moved: between the right accounts, and for each hold as it ended."""

from billing.audit.proof import Rule

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

RULES = (ROUTE, CHARGE, OVERRUN)
