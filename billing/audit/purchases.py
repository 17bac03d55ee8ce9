"""What was bought: credited once for each payment, and taken back no further than it was there."""

from billing.audit.proof import Rule

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
    "A Checkout session that Stripe told us is paid belongs to a paid order, unless it began a subscription. An event"
    " that was not handled counts after an hour, if the order is ours.",
    """
    SELECT DISTINCT concat('session ', session.id), 'a paid order',
        COALESCE('order ' || o.id || ' that is ' || o.state, 'none')
    FROM billing_stripeevent e
    CROSS JOIN LATERAL (
        SELECT e.payload #>> '{data,object,id}' AS id, e.payload #>> '{data,object,payment_status}' AS payment_status
    ) session
    LEFT JOIN billing_order o ON o.stripe_session = session.id
    WHERE (e.outcome = 'handled' OR o.id IS NOT NULL AND e.received_at < now() - interval '1 hour')
        AND e.type LIKE 'checkout.session.%'
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

RULES = (PURCHASE, PAID_SESSION, REVERSAL, RETURNED)
