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

TURN_FREE = Rule(
    "turn_free",
    "A turn that failed, was interrupted or is still running has cost nothing.",
    """
    SELECT concat('turn ', id), concat('charged 0, overrun 0 of a turn that is ', state),
        concat('charged ', charged, ', overrun ', overrun)
    FROM conversations_turn
    WHERE state IN ('running', 'failed', 'interrupted') AND (charged <> 0 OR overrun <> 0)
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
)

RULES = (
    *audit.RULES,
    *(TURN_HOLD, TURN_WALLET, TURN_CHARGE, TURN_FREE, LEFT_BEHIND),
    *guards.rules(TURNS, [Turn], prefix="turn_"),
)
