"""What keeps the rules: PostgreSQL's own triggers, functions, constraints and keys are as the migrations made them.

A migration that makes or changes a trigger, a function or a constraint says its fingerprint here; the audit tells the
new one.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from django.apps import apps
from django.db.models import Model

from billing.audit.proof import Rule


@dataclass(frozen=True, slots=True)
class Guards:
    """Triggers by their tables and names, functions by their names, and constraints by their tables and names, be they
    CHECKs or unique; each with its fingerprint.
    """

    triggers: Mapping[tuple[str, str], str]
    functions: Mapping[str, str]
    constraints: Mapping[tuple[str, str], str]

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
        ("billing_price", "price_leaves_the_past"): "634af28805e724a66f7149e82d2d3d34",
        ("billing_price", "price_leaves_the_past_until_the_commit"): "12ed38ce846b0d1f8a02373f500699e9",
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
        "billing_price_begins": "50242f376a9fd7cf8dd43c5ad45795ed",
        "billing_price_guard": "bd83584f956d777a3f597d02c6fbabc7",
        "billing_purchase_of_order": "4a3ead67882277e19495cba70b6ed7d5",
        "billing_refuse": "614c11b8160c52526fdd8417151df107",
        "billing_refuse_another_time": "ce03b0cb303537bb78a703eb66de203d",
        "billing_transfer_apply": "5ee949f3f635189e790126c80232d919",
        "billing_use_lots": "3d7c881b31fee84ddaff0d184a61a74d",
    },
    constraints={
        ("billing_account", "held_is_never_negative"): "7317d9a30d227dd3c47e4e94adedf08a",
        ("billing_account", "one_house_account_per_kind"): "2db23ba9dfe9fe4c8c433b88a15f0b1b",
        ("billing_account", "only_wallets_have_owners_and_balances"): "9be312b32a3817ddb64c05434dbbe389",
        ("billing_autotopup", "auto_topup_buys_one_thing"): "d09c9ed90ec2f0e13e0af6dd5308dfb6",
        ("billing_autotopup", "auto_topup_is_within_reason"): "c8b6e7fd15c3797fb516f41816980427",
        ("billing_autotopup", "billing_autotopup_amount_cents_check"): "49f5752d3872fa83d7dfef372d0ce14f",
        (
            "billing_autotopup",
            "billing_autotopup_monthly_cap_cents_check",
        ): "b9ba8698b7ee64f5a2bcd026c17f8853",
        ("billing_discrepancy", "who_resolves_says_how"): "0f5f4d55778261e063f0328688560771",
        ("billing_hold", "hold_amount_is_positive"): "dd165b85262157014a88a306012f7f0f",
        ("billing_hold", "hold_has_ended_unless_pending"): "73e11b3ea538f96c49174cf776354b9c",
        ("billing_languagemodel", "answers_fit_the_model"): "e54da4b3891e7405e210f130a5599f09",
        (
            "billing_languagemodel",
            "billing_languagemodel_answer_tokens_check",
        ): "962bef6e1dafabd7484fac5f704fe1d0",
        (
            "billing_languagemodel",
            "billing_languagemodel_context_tokens_check",
        ): "3d28e336033640337bcea9bea94f86e8",
        (
            "billing_languagemodel",
            "billing_languagemodel_history_tokens_check",
        ): "9b77472da411df2cc7b1d8b101349a71",
        (
            "billing_languagemodel",
            "billing_languagemodel_max_output_tokens_check",
        ): "516ee719f4d9e7a9bc29d14c303ff742",
        ("billing_languagemodel", "billing_languagemodel_position_check"): "d00443422761d0bb45b791b7a500a0c1",
        ("billing_lot", "a_lot_has_what_remains_of_it"): "27ab454971772b7af830401be7a81065",
        ("billing_lotuse", "lot_use_amount_is_positive"): "dd165b85262157014a88a306012f7f0f",
        ("billing_lotuse", "lot_use_leaves_no_less_than_nothing"): "8650c09e2441147acf8685403aa5b447",
        ("billing_lotuse", "one_use_per_lot_and_transfer"): "760ccf781cd24816e836c0df19a3d944",
        ("billing_lowbalancenotice", "low_balance_is_not_negative"): "1bf30193cdea3acc2dada99fe915d48c",
        ("billing_mail", "a_mail_is_sent_or_given_up"): "77eff0b1a8a7b1d6500534843f18ac97",
        ("billing_mail", "billing_mail_tries_check"): "129a07eb61d23f9c97547ed064a15ddf",
        ("billing_moneyback", "money_back_is_some"): "f6cd65cc7af5fc65bafae6999ef606fa",
        ("billing_order", "a_paid_order_names_its_payment"): "e99db3c58bcc01961a95e85f5626574f",
        ("billing_order", "billing_order_amount_cents_check"): "49f5752d3872fa83d7dfef372d0ce14f",
        ("billing_order", "billing_order_paid_cents_check"): "af1114b33c3a0d2d85e64454776b0c35",
        ("billing_order", "one_open_auto_topup_per_person"): "95086ae417fbf6a0e76e6e056f7b4212",
        ("billing_order", "order_has_a_plan_if_it_is_of_a_subscription"): "b3d7b8f63ecebb15bd6084f67358dd1c",
        ("billing_order", "order_is_for_something"): "55c563a1cef98720dc3c1fa7aba393fd",
        ("billing_order", "order_is_paid_at_a_time"): "428542d5f023814d316081b25d218774",
        ("billing_pack", "billing_pack_position_check"): "d00443422761d0bb45b791b7a500a0c1",
        ("billing_pack", "billing_pack_price_cents_check"): "554e367efeb773e0d03f01a2f4066cd7",
        ("billing_pack", "pack_has_a_currency"): "54a5a5d46b449aa8a21f232e7445c8d9",
        ("billing_pack", "pack_sells_something"): "8de7082f8c3605d5b4fb7a900f176b90",
        ("billing_plan", "billing_plan_position_check"): "d00443422761d0bb45b791b7a500a0c1",
        ("billing_plan", "billing_plan_price_cents_check"): "554e367efeb773e0d03f01a2f4066cd7",
        ("billing_plan", "plan_has_a_currency"): "54a5a5d46b449aa8a21f232e7445c8d9",
        ("billing_plan", "plan_sells_something"): "8de7082f8c3605d5b4fb7a900f176b90",
        ("billing_plancheckout", "one_open_plan_checkout_per_person"): "5df7ff50859378779912b17bf37d632d",
        ("billing_price", "a_tier_has_all_its_prices"): "b11fa2a3c5445fe59427cadecbdcf771",
        ("billing_price", "billing_price_tier_tokens_check"): "04d4fa9502778080425f38e1c8b6f601",
        ("billing_price", "one_price_per_model_and_date"): "f5706b401308932dff93502b4285a1a3",
        ("billing_price", "prices_are_within_reason"): "cece8b33106d6386b05f0de2b75178aa",
        (
            "billing_subscription",
            "billing_subscription_refused_changes_check",
        ): "825b08089b4767d8e999a6c041072bf2",
        ("billing_transfer", "adjustments_and_grants_say_who_and_why"): "953f9faa08fc296c372412854eb547e0",
        ("billing_transfer", "an_expiry_and_nothing_else_has_a_source"): "78e5756cc11a1482e7a2be63482dab01",
        ("billing_transfer", "charges_and_overruns_settle_a_hold"): "d3696af027a569e27e21b5c5f79d06ef",
        ("billing_transfer", "one_charge_per_hold"): "3d3f91e4bb7a7f6e58fd9b61604b4001",
        ("billing_transfer", "one_overrun_per_hold"): "91c8c1a3ee7adc0dd10edb2e5e358f97",
        ("billing_transfer", "one_purchase_per_order"): "c88b6c4f5e3e49b07d3081dc53b0e390",
        ("billing_transfer", "one_welcome_per_wallet"): "977287eaa04d88faf4944d53cf7d7e05",
        ("billing_transfer", "only_grants_and_purchases_expire"): "2be88d981fe5bb79949b922139bf8d35",
        ("billing_transfer", "purchase_fulfils_an_order"): "6672aae187851c0b1ae29d108f343533",
        ("billing_transfer", "transfer_amount_is_positive"): "dd165b85262157014a88a306012f7f0f",
        ("billing_transfer", "transfer_has_two_accounts"): "b9c96c06825c8405ec86595f92e5bc6d",
    },
)


def rules(guards: Guards, models: Iterable[type[Model]], *, prefix: str = "") -> tuple[Rule, ...]:
    """That the guards are there, and the keys of the models; `prefix` goes before the rules' names."""
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
            "The constraints that keep the rules are there, as they were made, and hold for every row.",
            CONSTRAINTS,
            (
                [name for _, name in guards.constraints],
                [table for table, _ in guards.constraints],
                list(guards.constraints.values()),
            ),
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

# A unique constraint with a condition is an index and nothing else.
CONSTRAINTS = """
    SELECT concat('constraint ', expected.name, ' on ', expected.table_name), concat('valid, ', expected.print),
        CASE there.valid WHEN true THEN concat('valid, ', there.print) WHEN false THEN 'not valid' ELSE 'none' END
    FROM unnest(%s::text[], %s::text[], %s::text[]) AS expected (name, table_name, print)
    LEFT JOIN pg_constraint c ON c.conname = expected.name AND c.conrelid = to_regclass(expected.table_name)
    LEFT JOIN pg_index i ON i.indexrelid = to_regclass(quote_ident(expected.name))
        AND i.indrelid = to_regclass(expected.table_name)
    CROSS JOIN LATERAL (
        SELECT COALESCE(c.convalidated, i.indisvalid) AS valid,
            md5(COALESCE(pg_get_constraintdef(c.oid, true), pg_get_indexdef(i.indexrelid, 0, true))) AS print
    ) there
    WHERE (there.valid AND there.print = expected.print) IS NOT TRUE
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
