"""The rules that PostgreSQL keeps: raw SQL, as an operator or a mistake of ours could send it, is refused."""

import uuid
from collections.abc import Callable
from contextlib import nullcontext

import pytest
from django.db import connection

from accounts.models import User
from billing.models import Account, Hold, MoneyBack, Order, StripeEvent, Transfer
from billing.movements import Filters, older
from tests.billing.books import (
    CREDIT,
    close_turn,
    commit_would_follow,
    give,
    open_turn,
    order,
    pay,
    refused,
    sql,
    wallet_of,
)

WELCOME = 100 * CREDIT
ONLY_APPENDED = "the ledger is append-only"

COLUMNS = "key, kind, debit_id, credit_id, amount, balance_after, reason, made_by"
INSERT = f"INSERT INTO public.billing_transfer ({COLUMNS})"


@pytest.fixture
def wallet(alice: User) -> Account:
    """Alice's, with her welcome credits and nothing held."""
    return wallet_of(alice)


@pytest.fixture
def other(bob: User) -> Account:
    return wallet_of(bob)


def house(kind: str) -> int:
    return Account.objects.get(kind=kind).pk


def hold(wallet: Account, amount: int = CREDIT, state: str = "pending") -> uuid.UUID:
    hold_id = uuid.uuid4()
    ended = "NULL" if state == "pending" else "now()"
    sql(
        f"INSERT INTO billing_hold (id, account_id, amount, state, ended_at) VALUES (%s, %s, %s, %s, {ended})",
        *(hold_id, wallet.pk, amount, state),
    )
    return hold_id


def end(hold_id: uuid.UUID, state: str) -> None:
    sql("UPDATE billing_hold SET state = %s, ended_at = statement_timestamp() WHERE id = %s", state, hold_id)


def transfer(
    kind: str,
    debit: int,
    credit: int,
    amount: int,
    balance_after: int | None,
    *,
    key: str | None = None,
    hold: uuid.UUID | None = None,
    order: Order | None = None,
    reason: str = "typed by hand",
    made_by: str = "an operator",
    conflict: str = "",
) -> None:
    sql(
        f"INSERT INTO public.billing_transfer ({COLUMNS}, hold_id, order_id)"
        f" VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s) {conflict}",
        *(
            key or uuid.uuid4().hex,
            kind,
            debit,
            credit,
            amount,
            balance_after,
            reason,
            made_by,
            hold,
            order and order.pk,
        ),
    )


def balances(wallet: Account) -> tuple[int, int]:
    wallet.refresh_from_db()
    return wallet.balance, wallet.held


# --- Rows stay -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE billing_transfer SET amount = 1",
        "UPDATE billing_transfer SET reason = 'a better one'",
        "UPDATE billing_transfer SET key = key",
        "DELETE FROM billing_transfer",
        "TRUNCATE billing_transfer CASCADE",
        "TRUNCATE billing_lot CASCADE",
        "TRUNCATE billing_lotuse",
        "DELETE FROM billing_hold",
        "TRUNCATE billing_hold, billing_transfer, billing_lot, billing_lotuse, billing_lowbalancenotice",
        "TRUNCATE billing_account CASCADE",
        "TRUNCATE billing_order CASCADE",
        "TRUNCATE accounts_user CASCADE",
        "DELETE FROM billing_account WHERE kind = 'wallet'",
        "DELETE FROM billing_account WHERE kind = 'usage'",
        "MERGE INTO billing_transfer t USING billing_account a ON a.id = t.credit_id WHEN MATCHED THEN DELETE",
        "MERGE INTO billing_transfer t USING billing_account a ON a.id = t.credit_id"
        " WHEN MATCHED THEN UPDATE SET amount = t.amount + 1",
        "WITH gone AS (DELETE FROM billing_transfer RETURNING *) SELECT count(*) FROM gone",
    ],
)
def test_nothing_is_changed_or_removed(wallet: Account, statement: str) -> None:
    hold(wallet)
    commit_would_follow()
    with refused(ONLY_APPENDED):
        sql(statement)


@pytest.mark.parametrize(
    "statement", ["UPDATE billing_moneyback SET cents = 1", "DELETE FROM billing_moneyback"]
)
def test_what_was_paid_back_is_not_changed(wallet: Account, statement: str) -> None:
    MoneyBack.objects.create(order=order(wallet.user, CREDIT), reversal="refund:1", cents=100)
    with refused(ONLY_APPENDED):
        sql(statement)


@pytest.mark.parametrize(
    "table", ["billing_transfer", "billing_hold", "billing_account", "billing_lot", "billing_moneyback"]
)
def test_no_table_of_the_ledger_is_emptied_by_itself(wallet: Account, table: str) -> None:
    """TRUNCATE fires no trigger of a row. The foreign keys are taken away, which would refuse it on their own."""
    hold(wallet)
    commit_would_follow()
    for referring, name in sql(
        "SELECT conrelid::regclass::text, conname FROM pg_constraint WHERE contype = 'f' AND confrelid = %s::regclass",
        table,
    ):
        sql(f'ALTER TABLE {referring} DROP CONSTRAINT "{name}"')
    with refused(ONLY_APPENDED):
        sql(f"TRUNCATE {table}")


def test_a_deleted_persons_wallet_stays_with_all_its_transfers(wallet: Account, alice: User) -> None:
    alice.delete()

    wallet.refresh_from_db()
    assert (wallet.user_id, wallet.balance) == (None, WELCOME)
    assert [move.kind for move in older(wallet, Filters(), than=None, limit=2).transfers] == ["signup"]


# --- Balances follow -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "assignment",
    ["balance = balance + 1", "balance = 0", "balance = -1", "held = 1", "balance = balance + 1, held = 1"],
)
def test_a_balance_cannot_be_written(wallet: Account, assignment: str) -> None:
    with refused("is refused: (by its newest transfer|the pending holds)"):
        sql(f"UPDATE billing_account SET {assignment} WHERE id = %s", wallet.pk)


def test_what_is_held_cannot_be_let_go_by_hand(wallet: Account) -> None:
    hold(wallet)
    with refused("holding 0 is refused: the pending holds are 1000000"):
        sql("UPDATE billing_account SET held = 0 WHERE id = %s", wallet.pk)


def test_a_balance_cannot_be_written_from_inside_another_trigger(wallet: Account) -> None:
    """Anybody can make a trigger on a temporary table, so how deep a statement is nested proves nothing."""
    sql("CREATE TEMP TABLE lever (pulled int)")
    sql(
        "CREATE FUNCTION pg_temp.pull() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        f" UPDATE billing_account SET balance = balance + 1, held = held WHERE id = {wallet.pk}; RETURN NULL; END $$"
    )
    sql("CREATE TRIGGER pull AFTER INSERT ON lever FOR EACH ROW EXECUTE FUNCTION pg_temp.pull()")
    with refused("by its newest transfer"):
        sql("INSERT INTO lever VALUES (1)")


def test_a_transfer_and_its_lie_in_one_statement_are_refused(wallet: Account) -> None:
    for written in (WELCOME + 1000, WELCOME + 999, WELCOME):
        with refused("by its newest transfer|balance_after is"):
            sql(
                f"WITH forged AS ({INSERT}"
                " VALUES ('forged', 'adjustment', %s, %s, 1, %s, 'forged', 'me') RETURNING balance_after)"
                " UPDATE billing_account SET balance = %s FROM forged WHERE id = %s",
                *(house("adjustments"), wallet.pk, WELCOME + 1000, written, wallet.pk),
            )
    assert balances(wallet) == (WELCOME, 0)


def shadow(table: str) -> None:
    """A temporary table by a ledger's name, with all its rows: what an unqualified name means from now on."""
    sql(f"CREATE TEMP TABLE {table} (LIKE public.{table} INCLUDING DEFAULTS)")
    sql(f"INSERT INTO pg_temp.{table} SELECT * FROM public.{table}")


@pytest.mark.parametrize("table", ["billing_account", "billing_hold", "billing_transfer"])
def test_a_temporary_table_is_not_taken_for_the_ledger(wallet: Account, table: str) -> None:
    adjustments = house("adjustments")
    shadow(table)
    transfer("adjustment", adjustments, wallet.pk, 1, WELCOME + 1)
    sql(
        "INSERT INTO public.billing_hold (id, account_id, amount, state) VALUES (gen_random_uuid(), %s, 5, 'pending')",
        wallet.pk,
    )
    assert sql("SELECT balance, held FROM public.billing_account WHERE id = %s", wallet.pk) == [
        (WELCOME + 1, 5)
    ]


def test_what_is_forged_in_a_temporary_table_is_not_believed(wallet: Account) -> None:
    hold_id = hold(wallet, 10)
    shadow("billing_transfer")
    shadow("billing_hold")
    sql("UPDATE pg_temp.billing_transfer SET balance_after = 7")
    sql("UPDATE pg_temp.billing_hold SET amount = 7")
    for column in ("balance", "held"):
        with refused("a balance of 7 is refused|holding 7 is refused"):
            sql(f"UPDATE public.billing_account SET {column} = 7 WHERE id = %s", wallet.pk)
    sql("UPDATE pg_temp.billing_transfer SET kind = 'charge', hold_id = %s", hold_id)
    with refused("a hold is charged in the transaction that settles it"):
        sql(
            "UPDATE public.billing_hold SET state = 'settled', ended_at = statement_timestamp() WHERE id = %s",
            hold_id,
        )


@pytest.mark.parametrize(
    "columns",
    ["kind, balance, held) VALUES ('wallet', 1, 0)", "kind, balance, held) VALUES ('wallet', 0, 1)"],
)
def test_an_account_is_opened_empty(db: None, columns: str) -> None:
    with refused("an account is opened empty"):
        sql(f"INSERT INTO billing_account ({columns}")


def test_a_wallet_stays_a_wallet_and_its_owners(wallet: Account, other: Account, charlie: User) -> None:
    for assignment in ("kind = 'usage'", "id = id + 1000000"):
        with refused("does not change its kind"):
            sql(f"UPDATE billing_account SET {assignment} WHERE id = %s", wallet.pk)
    with refused("is not given to another person"):
        sql("UPDATE billing_account SET user_id = %s WHERE id = %s", charlie.pk, wallet.pk)
    with refused("stays theirs as long as they are there"):
        sql("UPDATE billing_account SET user_id = NULL WHERE id = %s", wallet.pk)
    assert wallet.user
    wallet.user.delete()
    with refused("is not given to another person"):
        sql("UPDATE billing_account SET user_id = %s WHERE id = %s", charlie.pk, wallet.pk)


def test_house_accounts_are_one_of_each_kind_without_owner_or_balance(db: None, alice: User) -> None:
    with refused("one_house_account_per_kind"):
        sql("INSERT INTO billing_account (kind, balance, held) VALUES ('usage', 0, 0)")
    with refused("only_wallets_have_owners_and_balances"):
        sql("INSERT INTO billing_account (kind, balance, held, user_id) VALUES ('bank', 0, 0, %s)", alice.pk)


# --- Transfers -------------------------------------------------------------------------------------------


def test_a_transfer_moves_its_amount_and_says_what_is_there_after_it(wallet: Account) -> None:
    transfer("adjustment", house("adjustments"), wallet.pk, 5, WELCOME + 5)
    transfer("adjustment", wallet.pk, house("adjustments"), 7, WELCOME - 2)
    assert balances(wallet) == (WELCOME - 2, 0)


@pytest.mark.parametrize("balance_after", [None, 0, WELCOME, WELCOME + 4, WELCOME + 6])
def test_a_transfer_cannot_tell_another_balance(wallet: Account, balance_after: int | None) -> None:
    with refused("is refused: by its newest transfer it is"):
        transfer("adjustment", house("adjustments"), wallet.pk, 5, balance_after)


def test_a_transfer_that_empties_a_wallet_says_so(wallet: Account) -> None:
    with refused("balance_after is <NULL>, the wallet has 0"):
        transfer("adjustment", wallet.pk, house("adjustments"), WELCOME, None)


def test_a_transfer_within_the_house_tells_no_balance(wallet: Account) -> None:
    with refused("balance_after is 5, the wallet has <NULL>"):
        transfer("overrun", house("overruns"), house("usage"), 5, 5, hold=hold(wallet))


@pytest.mark.parametrize("amount", [0, -1, -WELCOME])
def test_an_amount_is_positive(wallet: Account, amount: int) -> None:
    with refused("transfer_amount_is_positive"):
        transfer("adjustment", house("adjustments"), wallet.pk, amount, WELCOME + amount)


@pytest.mark.parametrize("amount", ["'NaN'::numeric", "'Infinity'::numeric", "9223372036854775808", "NULL"])
def test_an_amount_is_a_number_that_fits(wallet: Account, amount: str) -> None:
    with refused("NaN|infinity|out of range|not-null"):
        sql(
            f"{INSERT} VALUES ('k', 'adjustment', %s, %s, {amount}, 0, 'r', '')",
            *(house("adjustments"), wallet.pk),
        )


def test_a_balance_does_not_wrap_around(wallet: Account) -> None:
    most = 2**63 - 1
    with refused("out of range"):
        transfer("adjustment", house("adjustments"), wallet.pk, most, most)
    transfer("adjustment", house("adjustments"), wallet.pk, most - WELCOME, most)
    with refused("out of range"):
        transfer("adjustment", house("adjustments"), wallet.pk, 1, -most - 1)
    hold(wallet, most)
    with refused("out of range"):
        hold(wallet, 1)
    assert balances(wallet) == (most, most)


@pytest.mark.parametrize(
    ("kind", "payer", "payee"),
    [
        ("adjustment", "wallet", "other"),
        ("purchase", "wallet", "other"),
        ("charge", "wallet", "other"),
        ("charge", "usage", "wallet"),
        ("charge", "wallet", "adjustments"),
        ("overrun", "wallet", "usage"),
        ("overrun", "usage", "wallet"),
        ("signup", "signup", "usage"),
        ("signup", "wallet", "signup"),
        ("purchase", "signup", "wallet"),
        ("purchase", "wallet", "stripe"),
        ("adjustment", "usage", "wallet"),
        ("adjustment", "wallet", "usage"),
        ("refund", "wallet", "usage"),
        ("dispute", "wallet", "adjustments"),
        ("refund", "adjustments", "wallet"),
        ("gift", "adjustments", "wallet"),
    ],
)
def test_each_kind_of_transfer_has_its_two_accounts(
    wallet: Account, other: Account, kind: str, payer: str, payee: str
) -> None:
    wallets = {"wallet": wallet.pk, "other": other.pk}
    debit, credit = (wallets.get(name) or house(name) for name in (payer, payee))
    after = WELCOME + 1 if payee == "wallet" else WELCOME - 1
    with refused(f"no {kind} runs from"):
        transfer(kind, debit, credit, 1, after, hold=hold(wallet), order=order(wallet.user, 1))


def test_a_transfer_needs_two_accounts_that_exist(wallet: Account) -> None:
    with refused("no adjustment runs from <NULL> to wallet"):
        transfer("adjustment", 0, wallet.pk, 1, WELCOME + 1)
    with refused("transfer_has_two_accounts"):
        transfer("adjustment", wallet.pk, wallet.pk, 1, WELCOME)


def test_a_key_is_used_once(wallet: Account) -> None:
    transfer("adjustment", house("adjustments"), wallet.pk, 1, WELCOME + 1, key="once")
    with refused("billing_transfer_key_key"):
        transfer("adjustment", house("adjustments"), wallet.pk, 1, WELCOME + 2, key="once")


def test_a_repeated_key_moves_nothing_even_when_the_conflict_is_hushed(wallet: Account) -> None:
    for _ in range(3):
        transfer(
            "adjustment",
            house("adjustments"),
            wallet.pk,
            1,
            WELCOME + 1,
            key="once",
            conflict="ON CONFLICT DO NOTHING",
        )
    assert balances(wallet) == (WELCOME + 1, 0)
    with refused(ONLY_APPENDED):
        transfer(
            *("adjustment", house("adjustments"), wallet.pk, 1, WELCOME + 2),
            key="once",
            conflict="ON CONFLICT (key) DO UPDATE SET amount = 99",
        )


def test_the_order_of_transfers_is_not_chosen(wallet: Account) -> None:
    values = f"'adjustment', {house('adjustments')}, {wallet.pk}, 1, {WELCOME + 1}, 'r', 'me')"
    with refused("cannot insert a non-DEFAULT value"):
        sql(f"INSERT INTO billing_transfer (id, {COLUMNS}) VALUES (1000000000, 'k', {values}")
    with refused("by its newest transfer"):
        sql(f"INSERT INTO billing_transfer (id, {COLUMNS}) OVERRIDING SYSTEM VALUE VALUES (-1, 'k', {values}")


def test_one_statement_moves_many_wallets_but_each_once(wallet: Account, other: Account) -> None:
    many = (
        f"{INSERT} SELECT concat(id, '-', n), 'adjustment', %s, id, 3, balance + 3 * n, 'for all', 'me'"
        " FROM billing_account, generate_series(1, %s) n WHERE id IN (%s, %s)"
    )
    sql(many, house("adjustments"), 1, wallet.pk, other.pk)
    assert balances(wallet) == balances(other) == (WELCOME + 3, 0)
    with refused("by its newest transfer"):
        sql(many.replace("'-'", "'+'"), house("adjustments"), 2, wallet.pk, other.pk)


def test_copy_is_held_to_the_same_rules(wallet: Account) -> None:
    adjustments = house("adjustments")

    def copy(key: str, balance_after: int) -> None:
        with (
            connection.wrap_database_errors,
            connection.cursor() as cursor,
            cursor.copy(f"COPY billing_transfer ({COLUMNS}) FROM STDIN") as rows,
        ):
            rows.write_row((key, "adjustment", adjustments, wallet.pk, 5, balance_after, "copied", "me"))

    copy("honest", WELCOME + 5)
    assert balances(wallet) == (WELCOME + 5, 0)
    with refused("by its newest transfer"):
        copy("forged", WELCOME + 5000)


def test_an_adjustment_says_who_and_why_and_takes_only_what_is_available(wallet: Account) -> None:
    hold(wallet, 40 * CREDIT)
    for missing in ({"reason": ""}, {"made_by": ""}):
        with refused("adjustments_and_grants_say_who_and_why"):
            transfer("adjustment", house("adjustments"), wallet.pk, 1, WELCOME + 1, **missing)
    with refused("does not have so many credits available"):
        transfer("adjustment", wallet.pk, house("adjustments"), 60 * CREDIT + 1, 40 * CREDIT - 1)
    transfer("adjustment", wallet.pk, house("adjustments"), 60 * CREDIT, 40 * CREDIT)
    assert balances(wallet) == (40 * CREDIT, 40 * CREDIT)


def test_a_wallet_is_welcomed_once(wallet: Account) -> None:
    with refused("one_welcome_per_wallet"):
        transfer("signup", house("signup"), wallet.pk, 1, WELCOME + 1)


# --- Purchases and their reversals -----------------------------------------------------------------------


def test_a_purchase_credits_what_its_order_says_to_who_ordered_it(
    wallet: Account, other: Account, alice: User
) -> None:
    bought = order(alice, 500)
    stripe = house("stripe")
    for amount, taker in ((499, wallet), (501, wallet), (500, other)):
        with refused("a purchase credits what its order says to who ordered it"):
            transfer("purchase", stripe, taker.pk, amount, WELCOME + amount, order=bought)
    with refused("purchase_fulfils_an_order"):
        transfer("purchase", stripe, wallet.pk, 500, WELCOME + 500)
    with refused("is paid in the transaction that credits it"):
        transfer("purchase", stripe, wallet.pk, 500, WELCOME + 500, order=bought)
    pay(bought)
    with refused("one_purchase_per_order"):
        transfer("purchase", stripe, wallet.pk, 500, WELCOME + 1000, order=bought)


def test_a_reversal_takes_back_no_more_than_was_bought(wallet: Account, alice: User) -> None:
    bought, stripe = order(alice, 500), house("stripe")
    beyond = "takes back, or gives back, a part of a purchase of this wallet"
    with refused(beyond):
        transfer("refund", wallet.pk, stripe, 1, WELCOME - 1, order=bought)
    pay(bought)
    with refused(beyond):
        transfer("refund", wallet.pk, stripe, 501, WELCOME - 1, order=bought)
    transfer("refund", wallet.pk, stripe, 200, WELCOME + 300, order=bought)
    with refused(beyond):
        transfer("dispute", wallet.pk, stripe, 301, WELCOME - 1, order=bought)
    transfer("dispute", wallet.pk, stripe, 300, WELCOME, order=bought)
    with refused(beyond):
        transfer("dispute", stripe, wallet.pk, 501, WELCOME + 501, order=bought)
    transfer("dispute", stripe, wallet.pk, 300, WELCOME + 300, order=bought)
    assert balances(wallet) == (WELCOME + 300, 0)


def test_a_reversal_is_of_a_purchase_of_this_wallet(wallet: Account, bob: User) -> None:
    bobs, stripe = order(bob, 500), house("stripe")
    pay(bobs)
    for of in (bobs, None):
        with refused("a part of a purchase of this wallet"):
            transfer("refund", wallet.pk, stripe, 1, WELCOME - 1, order=of)
        with refused("a part of a purchase of this wallet"):
            transfer("refund", stripe, wallet.pk, 1, WELCOME + 1, order=of)


def test_only_a_purchase_can_be_reversed(wallet: Account, alice: User) -> None:
    bought = order(alice, 500)
    pay(bought)
    transfer("adjustment", house("adjustments"), wallet.pk, 50, WELCOME + 550, order=bought)
    with refused("a part of a purchase of this wallet"):
        transfer("refund", wallet.pk, house("stripe"), 501, WELCOME + 49, order=bought)
    transfer("refund", wallet.pk, house("stripe"), 500, WELCOME + 50, order=bought)


def test_only_a_reversal_takes_a_wallet_below_zero(wallet: Account, alice: User) -> None:
    bought = order(alice, 500)
    pay(bought)
    give(alice, -WELCOME)
    give(alice, -400)
    with refused("does not have so many credits available"):
        transfer("adjustment", wallet.pk, house("adjustments"), 101, -1)
    transfer("refund", wallet.pk, house("stripe"), 500, -400, order=bought)
    assert balances(wallet) == (-400, 0)
    with refused("does not have so many credits available"):
        hold(wallet, 1)


# --- Holds -----------------------------------------------------------------------------------------------


def test_a_hold_sets_credits_aside_and_its_end_lets_them_go(wallet: Account) -> None:
    first, second = hold(wallet, 3), hold(wallet, 4)
    assert balances(wallet) == (WELCOME, 7)
    end(first, "released")
    end(second, "released")
    assert balances(wallet) == (WELCOME, 0)


def test_many_holds_can_begin_and_end_in_one_statement(wallet: Account) -> None:
    sql(
        "INSERT INTO billing_hold (id, account_id, amount, state)"
        " SELECT gen_random_uuid(), %s, n, 'pending' FROM generate_series(1, 4) n",
        wallet.pk,
    )
    assert balances(wallet) == (WELCOME, 10)
    sql(
        "UPDATE billing_hold SET state = 'released', ended_at = statement_timestamp()"
        " WHERE account_id = %s AND amount > 1",
        wallet.pk,
    )
    assert balances(wallet) == (WELCOME, 1)


def test_a_hold_is_within_what_is_available(wallet: Account) -> None:
    hold(wallet, WELCOME - 1)
    with refused("does not have so many credits available"):
        hold(wallet, 2)
    hold(wallet, 1)


def test_holds_stand_on_wallets(db: None) -> None:
    for account in (house("usage"), 0):
        with refused("does not have so many credits available"):
            hold(Account(pk=account))


@pytest.mark.parametrize("amount", [0, -1])
def test_a_hold_is_positive(wallet: Account, amount: int) -> None:
    with refused("hold_amount_is_positive"):
        hold(wallet, amount)


@pytest.mark.parametrize("state", ["settled", "released"])
def test_a_hold_begins_pending(wallet: Account, state: str) -> None:
    with refused("a hold begins pending"):
        hold(wallet, state=state)


@pytest.mark.parametrize(
    "assignment",
    [
        "amount = amount - 1",
        "amount = 1, state = 'released', ended_at = statement_timestamp()",
        "account_id = {other}",
        "account_id = {other}, state = 'released', ended_at = statement_timestamp()",
        "id = gen_random_uuid(), state = 'released', ended_at = statement_timestamp()",
        "created_at = now() - interval '1 day', state = 'released', ended_at = statement_timestamp()",
        "state = state",
    ],
)
def test_a_hold_changes_only_by_ending(wallet: Account, other: Account, assignment: str) -> None:
    hold_id = hold(wallet)
    with refused("a hold ends once and does not change otherwise"):
        sql(f"UPDATE billing_hold SET {assignment.format(other=other.pk)} WHERE id = %s", hold_id)


@pytest.mark.parametrize("state", ["pending", "settled", "released"])
def test_a_hold_ends_once(wallet: Account, state: str) -> None:
    hold_id = hold(wallet)
    end(hold_id, "released")
    with refused("a hold ends once"):
        sql(
            "UPDATE billing_hold SET state = %s,"
            " ended_at = CASE WHEN %s <> 'pending' THEN statement_timestamp() END WHERE id = %s",
            *(state, state, hold_id),
        )


def test_a_hold_has_an_end_when_it_has_ended(wallet: Account) -> None:
    hold_id = hold(wallet)
    with refused("hold_has_ended_unless_pending"):
        sql("UPDATE billing_hold SET state = 'released' WHERE id = %s", hold_id)


# --- Charges ---------------------------------------------------------------------------------------------


def charge(wallet: Account, hold_id: uuid.UUID | None, amount: int) -> None:
    wallet.refresh_from_db()
    transfer("charge", wallet.pk, house("usage"), amount, wallet.balance - amount, hold=hold_id)


def test_a_charge_is_covered_by_its_settled_hold(wallet: Account) -> None:
    hold_id = hold(wallet, 10)
    with refused("a charge needs a settled hold"):
        charge(wallet, hold_id, 10)
    end(hold_id, "settled")
    with refused("a charge needs a settled hold"):
        charge(wallet, hold_id, 11)
    charge(wallet, hold_id, 10)
    with refused("one_charge_per_hold"):
        charge(wallet, hold_id, 1)
    commit_would_follow()
    assert balances(wallet) == (WELCOME - 10, 0)


def test_a_released_hold_is_not_charged(wallet: Account) -> None:
    hold_id = hold(wallet, 10)
    end(hold_id, "released")
    with refused("a charge needs a settled hold"):
        charge(wallet, hold_id, 10)


def test_nobody_is_charged_for_anothers_hold(wallet: Account, other: Account) -> None:
    hold_id = hold(other, 10)
    end(hold_id, "settled")
    with refused("a charge needs a settled hold of this wallet"):
        charge(wallet, hold_id, 10)
    charge(other, hold_id, 10)


@pytest.mark.parametrize("kind", ["charge", "overrun"])
def test_usage_is_of_a_hold(wallet: Account, kind: str) -> None:
    debit, after = (wallet.pk, WELCOME - 1) if kind == "charge" else (house("overruns"), None)
    with refused("charges_and_overruns_settle_a_hold"):
        transfer(kind, debit, house("usage"), 1, after)


def test_usage_above_a_hold_is_booked_once(wallet: Account) -> None:
    hold_id = hold(wallet, 10)
    end(hold_id, "settled")
    charge(wallet, hold_id, 10)
    transfer("overrun", house("overruns"), house("usage"), 3, None, hold=hold_id)
    with refused("one_overrun_per_hold"):
        transfer("overrun", house("overruns"), house("usage"), 3, None, hold=hold_id)


def test_a_hold_cannot_be_settled_now_and_charged_later(wallet: Account) -> None:
    """In between, its credits could be spent again; the charge would then take the wallet below zero."""
    hold_id = hold(wallet, 10)
    with refused("a hold is charged in the transaction that settles it"):
        end(hold_id, "settled")


# --- What was ordered, told and used ---------------------------------------------------------------------

PAST = "'2020-01-01 00:00+00'"


@pytest.fixture
def paid(wallet: Account, alice: User) -> Order:
    bought = order(alice, 500)
    pay(bought)
    return bought


@pytest.mark.parametrize(
    ("assignment", "because"),
    [
        ("credits_microcredits = 10 ^ 12", "is fixed"),
        ("amount_cents = 1", "is fixed"),
        ("currency = 'jpy'", "is fixed"),
        ("source = 'auto_topup'", "is fixed"),
        ("credits_expire_at = now()", "is fixed"),
        ("pack_id = 1", "is fixed"),
        ("user_id = '{other}'", "is fixed"),
        ("user_id = NULL", "stays theirs as long as they are there"),
        (f"state = 'paid', paid_cents = 100, stripe_session = 'cs', paid_at = {PAST}", "is paid now"),
        (
            "state = 'paid', paid_cents = 100, paid_at = statement_timestamp()",
            "a_paid_order_names_its_payment",
        ),
        (
            "state = 'paid', paid_cents = 100, stripe_session = 'cs', paid_at = statement_timestamp()",
            "is paid in the transaction that credits it",
        ),
    ],
)
def test_what_was_ordered_is_not_changed(alice: User, bob: User, assignment: str, because: str) -> None:
    waiting = order(alice, 500)
    with refused(because):
        sql(f"UPDATE billing_order SET {assignment.format(other=bob.pk)} WHERE id = %s", waiting.pk)


@pytest.mark.parametrize(
    "assignment",
    [
        "paid_cents = 1",
        f"paid_at = {PAST}",
        f"created_at = {PAST}",
        "state = 'open', paid_at = NULL, paid_cents = NULL",
        "stripe_session = NULL, stripe_invoice = 'in_1'",
        "stripe_payment_intent = 'pi_other'",
        "failure = 'not really'",
    ],
)
def test_a_paid_order_stays_as_it_is(paid: Order, assignment: str) -> None:
    with refused("is paid and stays as it is"):
        sql(f"UPDATE billing_order SET {assignment} WHERE id = %s", paid.pk)


def test_an_invoice_that_comes_later_is_told_once(paid: Order) -> None:
    sql("UPDATE billing_order SET stripe_invoice = 'in_1' WHERE id = %s", paid.pk)
    for other in ("'in_2'", "NULL"):
        with refused("is paid and stays as it is"):
            sql(f"UPDATE billing_order SET stripe_invoice = {other} WHERE id = %s", paid.pk)


@pytest.mark.parametrize(
    ("change", "is_refused"),
    [
        ("UPDATE billing_stripeevent SET payload = '{}'", True),
        ("UPDATE billing_stripeevent SET type = 'other'", True),
        (f"UPDATE billing_stripeevent SET received_at = {PAST}", True),
        ("UPDATE billing_stripeevent SET outcome = 'failed', error = 'what became of it'", False),
        ("UPDATE billing_stripeevent SET outcome = 'handled'", False),
        ("DELETE FROM billing_stripeevent", True),
        ("TRUNCATE billing_stripeevent", True),
        ("DELETE FROM billing_order", True),
        ("TRUNCATE billing_order CASCADE", True),
    ],
)
def test_an_event_stays_as_it_came(db: None, alice: User, change: str, is_refused: bool) -> None:
    order(alice, 1)
    event = StripeEvent.objects.create(
        id=uuid.uuid4().hex, type="refund.created", payload={"a": 1}, outcome="ignored"
    )
    commit_would_follow()
    with refused(ONLY_APPENDED) if is_refused else nullcontext():
        sql(change)
    event.refresh_from_db()
    if event.outcome == "handled":
        with refused(ONLY_APPENDED):
            sql("UPDATE billing_stripeevent SET outcome = 'failed' WHERE id = %s", event.pk)


@pytest.mark.parametrize("moment", [PAST, "'2099-01-01 00:00+00'"])
def test_what_happens_now_is_dated_now(wallet: Account, moment: str) -> None:
    dated = INSERT.replace("made_by", "made_by, created_at")
    with refused("what happens now is dated now"):
        sql(
            f"{dated} VALUES ('k', 'adjustment', %s, %s, 1, %s, 'r', 'me', {moment})",
            *(house("adjustments"), wallet.pk, WELCOME + 1),
        )
    hold_id = hold(wallet)
    with refused("what happens now is dated now"):
        sql(f"UPDATE billing_hold SET state = 'released', ended_at = {moment} WHERE id = %s", hold_id)


@pytest.mark.parametrize(
    "change",
    [
        "input_tokens = 1",
        "charged = 0",
        "cost = 5",
        "overrun = 1",
        "state = 'failed'",
        "state = 'running', ended_at = NULL",
        f"ended_at = {PAST}",
        "price_id = price_id + 1",
        "model_id = 'claude-opus-5-5'",
        "held = held + 1",
        "provider_request = 'another'",
    ],
)
def test_a_turn_that_has_ended_stays_as_it_is(wallet: Account, alice: User, change: str) -> None:
    turn = open_turn(alice, 9)
    close_turn(turn, 7)
    with refused("has ended and stays as it is"):
        sql(f"UPDATE conversations_turn SET {change} WHERE id = %s", turn)


def test_a_turn_keeps_what_it_was_opened_at_and_whose_it_is(wallet: Account, alice: User) -> None:
    turn = open_turn(alice, 9)
    for change in ("price_id = price_id + 1", "held = 8", "model_id = 'x'", f"created_at = {PAST}"):
        with refused("keeps what it was opened at"):
            sql(f"UPDATE conversations_turn SET {change} WHERE id = %s", turn)
    close_turn(turn, 7)
    with refused("stays theirs as long as they are there"):
        sql("UPDATE conversations_turn SET user_id = NULL WHERE id = %s", turn)
    commit_would_follow()
    for change in ("DELETE FROM conversations_turn WHERE id = %s", "TRUNCATE conversations_turn CASCADE"):
        with refused(ONLY_APPENDED):
            sql(change, *([turn] if "%s" in change else []))


def test_the_rules_hold_in_a_session_that_calls_itself_a_replica(wallet: Account) -> None:
    sql("SET LOCAL session_replication_role = replica")
    with refused(ONLY_APPENDED):
        sql("UPDATE billing_transfer SET amount = 1")
    with refused("is refused: by its newest transfer it is"):
        sql("UPDATE billing_account SET balance = 1 WHERE id = %s", wallet.pk)


# --- Whoever asks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        lambda wallet: Account.objects.filter(pk=wallet.pk).update(balance=0),
        lambda wallet: Transfer.objects.all().delete(),
        lambda wallet: Transfer.objects.update(amount=1),
        lambda wallet: Hold.objects.all().delete(),
        lambda wallet: wallet.delete(),
    ],
)
def test_the_orm_is_held_to_the_same_rules(wallet: Account, change: Callable[[Account], object]) -> None:
    hold(wallet)
    with refused("append-only|by its newest transfer|protected foreign keys"):
        change(wallet)
