"""The proof of the books, with what the ledger alone cannot know: that turns and money agree."""

from billing import audit
from billing.audit import Rule, guards
from billing.audit.guards import Guards
from chatapp.conversations.models import Turn

TURN_HOLD = Rule(
    "turn_hold",
    "A running turn has its hold pending, an ended one has it settled or released, and no hold is without its turn.",
    """
    SELECT COALESCE('turn ' || t.id, 'hold ' || h.id),
        CASE WHEN t.id IS NULL THEN 'a turn'
            ELSE concat(CASE t.state WHEN 'running' THEN 'a pending' ELSE 'an ended' END, ' hold of ', t.held) END,
        CASE WHEN t.id IS NULL THEN 'none'
            ELSE COALESCE('a ' || h.state || ' hold of ' || h.amount, 'none') END
    FROM conversations_turn t FULL JOIN billing_hold h ON h.id = t.id
    WHERE ((t.state = 'running') = (h.state = 'pending') AND t.held = h.amount) IS NOT TRUE
    """,
)

TURN_WALLET = Rule(
    "turn_wallet",
    "A turn is paid from the wallet of the person whose it is.",
    """
    SELECT concat('turn ', t.id), concat('a hold on the wallet of ', COALESCE(t.user_id::text, 'nobody')),
        concat('on account ', a.id, ' of ', COALESCE(a.user_id::text, 'nobody'))
    FROM conversations_turn t
    JOIN billing_hold h ON h.id = t.id
    JOIN billing_account a ON a.id = h.account_id
    WHERE t.user_id IS DISTINCT FROM a.user_id
    """,
)

TURN_CHARGE = Rule(
    "turn_charge",
    "What a turn says was charged, and overrun, is what the ledger moved for it.",
    """
    SELECT DISTINCT concat('turn ', t.id),
        (
            SELECT concat(
                'charged ', COALESCE(sum(amount) FILTER (WHERE kind = 'charge'), 0),
                ', overrun ', COALESCE(sum(amount) FILTER (WHERE kind = 'overrun'), 0)
            ) FROM billing_transfer WHERE hold_id = t.id
        ),
        concat('charged ', t.charged, ', overrun ', t.overrun)
    FROM conversations_turn t
    LEFT JOIN billing_transfer charge ON charge.hold_id = t.id AND charge.kind = 'charge'
    LEFT JOIN billing_transfer overrun ON overrun.hold_id = t.id AND overrun.kind = 'overrun'
    WHERE t.charged <> COALESCE(charge.amount, 0) OR t.overrun <> COALESCE(overrun.amount, 0)
    """,
)

TURN_PRICE = Rule(
    "turn_price",
    "A turn has prices of its model and its fallback that had begun when it was opened, and was answered by one of the"
    " two. Whether a later one had begun as well cannot be told: it may have been entered afterwards.",
    """
    SELECT concat('turn ', t.id), concat('prices that had begun at ', t.created_at AT TIME ZONE 'UTC', ' for ',
            t.model_id, ' and whoever answered'),
        concat('price ', own.id, ' of ', own.model_id, ', fallback ', COALESCE(other.id::text, 'none'),
            ' of ', COALESCE(other.model_id, 'none'), ', answered by ', COALESCE(t.served_by_id, 'nobody'))
    FROM conversations_turn t
    LEFT JOIN billing_price own ON own.id = t.price_id
    LEFT JOIN billing_price other ON other.id = t.fallback_price_id
    WHERE (
        own.model_id = t.model_id AND own.effective_from <= t.created_at
        AND (t.fallback_price_id IS NULL OR other.effective_from <= t.created_at)
        AND (t.served_by_id IS NULL OR t.served_by_id = own.model_id
            OR COALESCE(t.served_by_id = other.model_id, false))
    ) IS NOT TRUE
    """,
)

# Worked out here from the rows, apart from billing/pricing.py: numeric, so that nothing is rounded but at the end.
TURN_DUE = Rule(
    "turn_due",
    "What a turn is charged, with what it overran, is what its tokens come to at the price of the model that answered,"
    " and its cost the same before markup and fee; each rounded up once. One that failed, was interrupted or still runs"
    " is charged nothing.",
    """
    SELECT concat('turn ', t.id), concat('charged and overrun ', due, ', cost ', ceil(exact)),
        concat('charged and overrun ', t.charged + t.overrun, ', cost ', t.cost)
    FROM conversations_turn t
    LEFT JOIN billing_price other ON other.id = t.fallback_price_id AND other.model_id = t.served_by_id
    JOIN billing_price p ON p.id = COALESCE(other.id, t.price_id)
    CROSS JOIN LATERAL (
        SELECT t.input_tokens::bigint + t.cache_read_tokens + t.cache_write_5m_tokens + t.cache_write_1h_tokens
            AS prompt
    ) tokens
    -- US$ 1 for a million tokens is 100 microcredits for each.
    CROSS JOIN LATERAL (
        SELECT 100 * CASE WHEN prompt > p.tier_tokens THEN
            t.input_tokens * p.tier_input_usd + t.output_tokens * p.tier_output_usd
            + t.cache_read_tokens * p.tier_cache_read_usd + t.cache_write_5m_tokens * p.tier_cache_write_5m_usd
            + t.cache_write_1h_tokens * p.tier_cache_write_1h_usd
        ELSE
            t.input_tokens * p.input_usd + t.output_tokens * p.output_usd
            + t.cache_read_tokens * p.cache_read_usd + t.cache_write_5m_tokens * p.cache_write_5m_usd
            + t.cache_write_1h_tokens * p.cache_write_1h_usd
        END AS exact
    ) used
    CROSS JOIN LATERAL (
        SELECT CASE WHEN t.state IN ('completed', 'stopped', 'abandoned')
                AND (t.prompt_bytes IS NOT NULL OR prompt > 0 OR t.output_tokens > 0)
            THEN ceil(exact * p.markup + p.flat_fee * 1000000) ELSE 0 END AS due
    ) should
    WHERE due <> t.charged + t.overrun OR ceil(exact) <> t.cost
    """,
)

LEFT_BEHIND = Rule(
    "left_behind",
    "A running turn has shown a sign of life within the last minute.",
    """
    SELECT concat('turn ', id), 'a heartbeat within a minute',
        concat('none since ', to_char(heartbeat_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'))
    FROM conversations_turn WHERE state = 'running' AND heartbeat_at < now() - interval '1 minute'
    """,
)

# What keeps a turn as it was; see billing/audit/guards.py.
TURNS = Guards(
    triggers={
        ("conversations_turn", "turn_is_never_deleted"): "4010d7115f86686a73ffcbb7c0b07958",
        ("conversations_turn", "turn_keeps_its_person"): "5072132d3fae3911ae0c0c8a53492b9c",
        ("conversations_turn", "turn_that_ended_is_fixed"): "6890d156823c437bd6d66016a31aefab",
        ("conversations_turn", "turns_are_never_truncated"): "0d2941a32284c7706f62953850efe448",
    },
    functions={
        "conversations_turn_guard": "af04a00884b90ba2b0c0289e424d0c3b",
    },
    constraints={
        (
            "conversations_turn",
            "conversations_turn_cache_read_tokens_check",
        ): "acc691bb94db3938368eba896115b40c",
        (
            "conversations_turn",
            "conversations_turn_cache_write_1h_tokens_check",
        ): "2a6c9dc6c1a07c43ddc9ac5b97b1d3c9",
        (
            "conversations_turn",
            "conversations_turn_cache_write_5m_tokens_check",
        ): "2b6daf6eb8ba59850ed449b11fdd7ad5",
        ("conversations_turn", "conversations_turn_first_token_ms_check"): "c515dafa2fd0d477852f1d40df0ec68d",
        ("conversations_turn", "conversations_turn_input_tokens_check"): "f812b9046f67bc32e5a98f9bcf04078f",
        ("conversations_turn", "conversations_turn_max_tokens_check"): "97cec48eb5726da1143c99a170b76517",
        ("conversations_turn", "conversations_turn_output_tokens_check"): "fc98aa20334a826567ee572676957a49",
        ("conversations_turn", "conversations_turn_prompt_bytes_check"): "307a3264b05c00880506063d15ae1e17",
        ("conversations_turn", "one_running_turn_per_conversation"): "6c43dce7162eb4cd473a4a68c1f70dd3",
        ("conversations_turn", "turn_has_ended_unless_running"): "83b5c8a283401584dd53ba7f86c930ce",
    },
)

RULES = (
    *audit.RULES,
    *(TURN_HOLD, TURN_WALLET, TURN_CHARGE, TURN_PRICE, TURN_DUE, LEFT_BEHIND),
    *guards.rules(TURNS, [Turn], prefix="turn_"),
)
