"""What keeps the rules: PostgreSQL's own triggers, functions, constraints and keys are as the migrations made them.

A migration that makes or changes a trigger or a function says its fingerprint here; the audit tells the new one.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from django.apps import apps
from django.db.models import Model

from billing.audit.proof import Rule


@dataclass(frozen=True, slots=True)
class Guards:
    """Triggers by their tables and names, functions by their names; each with its fingerprint."""

    triggers: Mapping[tuple[str, str], str]
    functions: Mapping[str, str]

    @property
    def tables(self) -> list[str]:
        return sorted({table for table, _ in self.triggers})


LEDGER = Guards(
    triggers={
        ("billing_account", "account_guard"): "7f576db334d3ca00d27f15e2d00c3074",
        ("billing_account", "account_is_never_deleted"): "e591069d0b1a551f5c16145664b350d3",
        ("billing_account", "account_is_never_truncated"): "b3e37fa0b33a8ce021b7b5a1e0e51a50",
        ("billing_account", "account_keeps_its_person"): "cee9976a36efbc57722f1e088cc28e42",
        ("billing_hold", "hold_apply"): "2bf038b56c4f0a892063c2d3acb5e8bf",
        ("billing_hold", "hold_ends_now"): "d28c359f6fccdbf1c70bb25fd36188fd",
        ("billing_hold", "hold_is_charged"): "fe4f06a25cfd5e5303d7124212d5f1ce",
        ("billing_hold", "hold_is_never_deleted"): "481244def61841d1c3e0e2af92bfe41c",
        ("billing_hold", "hold_is_never_truncated"): "4a604a4289ae3085f5ae6cd1e3945eb6",
        ("billing_lot", "lot_guard"): "ab1fe97c07a648d874ca7223f8e0afc6",
        ("billing_lot", "lot_is_never_deleted"): "92f3c346308dd3a59d6f96669febb785",
        ("billing_lot", "lot_is_never_truncated"): "d8db67197ef049c9ba33b08139650691",
        ("billing_lot", "lot_repays"): "e7bcac3bd47820aaf735cc5266b4fdf0",
        ("billing_lotuse", "lot_use_apply"): "0005b65ebfbfd9d1924d579015012f8a",
        ("billing_lotuse", "lot_use_is_never_changed"): "105d48f90ad38a0a72d27c2f3f55f3b6",
        ("billing_lotuse", "lot_use_is_never_truncated"): "1d904564219f6ef69c0b6b497b6fa44c",
        ("billing_moneyback", "money_back_is_never_changed"): "5592bce38dcfb0b40280b979c3473493",
        ("billing_moneyback", "money_back_is_never_truncated"): "0908554072a83062e678dec71bab1122",
        ("billing_order", "order_guard"): "7e1ca19fdde35f85972ef1aae3623ba3",
        ("billing_order", "order_is_credited"): "183d21f0751ce3670e840f0a6f4bb319",
        ("billing_order", "order_is_never_deleted"): "83787dae307b0e75cfcef57ac6546ab2",
        ("billing_order", "order_keeps_its_person"): "f58d227414ab42018df09e4462c346b4",
        ("billing_order", "orders_are_never_truncated"): "dbac565d9ae87847b02942b9361ebfa4",
        ("billing_plan", "plan_that_was_chosen_is_fixed"): "f4f45a3111caca64c3f9e67e690935b8",
        ("billing_plan", "plans_are_never_truncated"): "4b8b58bd55312b8da62dec0c5d1987d5",
        ("billing_price", "price_in_use_is_fixed"): "86f4c54a0dd9a856c31266239d073eec",
        ("billing_price", "price_lay_ahead_until_the_commit"): "af7b539d184c6b639d6f296ab94fa872",
        ("billing_price", "prices_are_never_truncated"): "2543f5b96ee67c77e7d91bcf4490d2b1",
        ("billing_stripeevent", "event_is_never_changed"): "f1d6bed701a55be13b7b71938f5a2d1b",
        ("billing_stripeevent", "event_is_never_deleted"): "3befd95b7deaeae35e5c1f8bb4c9bfdc",
        ("billing_stripeevent", "events_are_never_truncated"): "45ed19c7d1da347ce9a7ff5bf3af10ef",
        ("billing_transfer", "purchase_is_paid"): "096da9ae8c2081e80057214b83d9d3a4",
        ("billing_transfer", "transfer_apply"): "0c332f2e9ab641747f13f86aaf7cf61e",
        ("billing_transfer", "transfer_is_made_now"): "2d5e103acc0bda0d579a857ab5916522",
        ("billing_transfer", "transfer_is_never_changed"): "c1df64e2a2ffd39bebf20d67a7c23af9",
        ("billing_transfer", "transfer_is_never_truncated"): "ca1acc9058593c7d591b9fb8e3673a64",
    },
    functions={
        "billing_account_guard": "617d438c2dc5026650c6f906eadccf14",
        "billing_expirable": "d3a0b2bb7d59dc5d989467a416252449",
        "billing_hold_apply": "e5bc4d4644c758ed66a828b14956ffb6",
        "billing_hold_charged": "e74c09ea6b7c5bdb4e9509daf8e66b93",
        "billing_is_due": "e14645a9c16df386b8e6fceec91fd1f2",
        "billing_lot_guard": "b535599a101c315b9438c93e1fd15f87",
        "billing_lot_repays": "39df5ac3c1f7758d0a32a6f2b351118e",
        "billing_lot_use_apply": "4d331f5a59b6c7ad1ac31ab452ae5574",
        "billing_order_guard": "4db8c614d6093c05384f6e9077848c4f",
        "billing_person_is_gone": "2f74437b39591554a2032486e57b73c1",
        "billing_plan_guard": "47cb56506ac69a475fab3d793a2d0bd7",
        "billing_price_guard": "bd83584f956d777a3f597d02c6fbabc7",
        "billing_purchase_of_order": "4a3ead67882277e19495cba70b6ed7d5",
        "billing_refuse": "614c11b8160c52526fdd8417151df107",
        "billing_refuse_another_time": "ce03b0cb303537bb78a703eb66de203d",
        "billing_transfer_apply": "5ee949f3f635189e790126c80232d919",
        "billing_use_lots": "3d7c881b31fee84ddaff0d184a61a74d",
    },
)


def rules(guards: Guards, models: Iterable[type[Model]], *, prefix: str = "") -> tuple[Rule, ...]:
    """That the guards are there, and the constraints and keys of the models; `prefix` goes before the rules' names."""
    models = list(models)
    constraints = [
        (constraint.name, model._meta.db_table) for model in models for constraint in model._meta.constraints
    ]
    return (
        Rule(
            f"{prefix}trigger",
            "The triggers that keep the rules are there, as they were made, and switched on in every session.",
            TRIGGERS,
            (
                [name for _, name in guards.triggers],
                [table for table, _ in guards.triggers],
                list(guards.triggers.values()),
                guards.tables,
            ),
        ),
        Rule(
            f"{prefix}function",
            "The functions that keep the rules are those that were made for it.",
            FUNCTIONS,
            (list(guards.functions), list(guards.functions.values())),
        ),
        Rule(
            f"{prefix}constraint",
            "The constraints that keep the rules are there, and hold for every row.",
            CONSTRAINTS,
            ([name for name, _ in constraints], [table for _, table in constraints]),
        ),
        Rule(
            f"{prefix}key",
            "Each key is there, and holds for every row.",
            KEYS,
            tuple(map(list, zip(*_keys(models), strict=True))),
        ),
    )


def _keys(models: Iterable[type[Model]]) -> list[tuple[str, str, str, str]]:
    """Table and column of each primary (p), unique (u) and foreign (f) key, and the table that it refers to."""
    found = []
    for model in models:
        table = model._meta.db_table
        for field in model._meta.local_concrete_fields:
            column = str(field.column)
            if field.primary_key:
                found.append((table, column, "p", ""))
            elif field.unique:
                found.append((table, column, "u", ""))
            if field.related_model is not None:
                found.append((table, column, "f", field.related_model._meta.db_table))
    return found


# What PostgreSQL says of a trigger names no schema, and neither does what is compared of a function: its text and
# language, what it may do, and where it looks for tables.
TRIGGERS = """
    SELECT concat('trigger ', expected.name, ' on ', expected.table_name), concat('always enabled, ', expected.print),
        CASE t.tgenabled WHEN 'D' THEN 'disabled' WHEN 'R' THEN 'enabled on replicas only'
            WHEN 'O' THEN 'disabled on replicas' WHEN 'A' THEN concat('always enabled, ', there.print) ELSE 'none' END
    FROM unnest(%s::text[], %s::text[], %s::text[]) AS expected (name, table_name, print)
    LEFT JOIN pg_trigger t ON t.tgname = expected.name AND t.tgrelid = to_regclass(expected.table_name)
    LEFT JOIN LATERAL (SELECT md5(pg_get_triggerdef(t.oid, true)) AS print) there ON true
    WHERE (t.tgenabled = 'A' AND there.print = expected.print) IS NOT TRUE
    UNION ALL
    SELECT concat('foreign key ', c.conname, ' on ', t.tgrelid::regclass), 'enabled', 'disabled'
    FROM unnest(%s::text[]) AS guarded (table_name)
    JOIN pg_trigger t ON t.tgrelid = to_regclass(guarded.table_name) AND t.tgisinternal AND t.tgenabled <> 'O'
    JOIN pg_constraint c ON c.oid = t.tgconstraint
"""

FUNCTIONS = """
    SELECT concat('function ', expected.name), expected.print, COALESCE(there.print, 'none')
    FROM unnest(%s::text[], %s::text[]) AS expected (name, print)
    LEFT JOIN LATERAL (
        SELECT md5(concat_ws(
            ' ', p.prosrc, l.lanname, p.provolatile, p.prosecdef,
            replace(p.proconfig::text, '=' || quote_ident(current_schema()) || ',', '=')
        )) AS print
        FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
        WHERE p.proname = expected.name AND p.pronamespace = current_schema()::regnamespace
    ) there ON true
    WHERE there.print IS DISTINCT FROM expected.print
"""

CONSTRAINTS = """
    SELECT concat('constraint ', expected.name, ' on ', expected.table_name), 'valid',
        CASE WHEN c.conname IS NULL AND i.indexrelid IS NULL THEN 'none' ELSE 'not valid' END
    FROM unnest(%s::text[], %s::text[]) AS expected (name, table_name)
    LEFT JOIN pg_constraint c ON c.conname = expected.name AND c.conrelid = to_regclass(expected.table_name)
    LEFT JOIN pg_index i ON i.indexrelid = to_regclass(quote_ident(expected.name))
        AND i.indrelid = to_regclass(expected.table_name) AND i.indisunique
    WHERE (COALESCE(c.convalidated, i.indisvalid)) IS NOT TRUE
"""

KEYS = """
    SELECT concat(
            CASE expected.kind WHEN 'p' THEN 'primary key ' WHEN 'u' THEN 'unique key ' ELSE 'foreign key ' END,
            expected.column_name, ' of ', expected.table_name
        ), 'valid', CASE WHEN c.conname IS NULL THEN 'none' ELSE 'not valid' END
    FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[]) AS expected (table_name, column_name, kind, refers_to)
    LEFT JOIN pg_attribute a ON a.attrelid = to_regclass(expected.table_name) AND a.attname = expected.column_name
    LEFT JOIN pg_constraint c ON c.conrelid = a.attrelid AND c.conkey = ARRAY[a.attnum]
        AND c.contype::text = expected.kind
        AND (expected.kind <> 'f' OR c.confrelid = to_regclass(expected.refers_to))
    WHERE c.convalidated IS NOT TRUE
"""

RULES = rules(LEDGER, apps.get_app_config("billing").get_models())
