"""Each use of a lot tells what it leaves of it, as each transfer tells the balance after it.

So a lot is guarded by its newest use alone: to add up all its uses made each charge slower than the one before. The
functions are those of 0002_ledger_rules otherwise. `ledger_audit` goes on adding up.
"""

import django.db.models.deletion
from django.db import migrations, models

TELL = """
-- Nobody can do this but who may alter the table; it changes no use.
ALTER TABLE billing_lotuse DISABLE TRIGGER lot_use_is_never_changed;
UPDATE billing_lotuse SET remaining_after = told.remaining_after FROM (
    SELECT u.id, l.amount - sum(u.amount) OVER (PARTITION BY u.lot_id ORDER BY u.id) AS remaining_after
    FROM billing_lotuse u JOIN billing_lot l ON l.transfer_id = u.lot_id
) told WHERE told.id = billing_lotuse.id;
ALTER TABLE billing_lotuse ENABLE TRIGGER lot_use_is_never_changed;
"""

RULES = """
-- See 0002_ledger_rules.
SELECT set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

CREATE OR REPLACE FUNCTION billing_lot_guard() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    told bigint;
BEGIN
    IF TG_OP = 'INSERT' THEN
        PERFORM FROM billing_transfer WHERE id = NEW.transfer_id AND credit_id = NEW.account_id
            AND amount = NEW.amount AND expires_at = NEW.expires_at;
        IF NOT FOUND OR NEW.remaining <> NEW.amount THEN
            RAISE EXCEPTION 'a lot is what its transfer brought' USING ERRCODE = 'check_violation';
        END IF;
        RETURN NEW;
    END IF;
    SELECT remaining_after INTO told FROM billing_lotuse WHERE lot_id = NEW.transfer_id ORDER BY id DESC LIMIT 1;
    IF NEW.remaining <> COALESCE(told, NEW.amount) OR ROW(NEW.transfer_id, NEW.account_id, NEW.amount, NEW.expires_at)
        IS DISTINCT FROM ROW(OLD.transfer_id, OLD.account_id, OLD.amount, OLD.expires_at) THEN
        RAISE EXCEPTION 'a lot has what its uses leave, and does not change otherwise'
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;


CREATE OR REPLACE FUNCTION billing_lot_use_apply() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    -- Which lots a transfer uses is decided by its own trigger, never by a statement.
    IF pg_trigger_depth() < 2 THEN
        RAISE EXCEPTION 'a lot is used by transfers alone' USING ERRCODE = 'check_violation';
    END IF;
    UPDATE billing_lot SET remaining = remaining - NEW.amount
        WHERE transfer_id = NEW.lot_id AND remaining - NEW.amount = NEW.remaining_after;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'a use of a lot tells what it leaves' USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END $$;


CREATE OR REPLACE FUNCTION billing_use_lots(moved billing_transfer) RETURNS void
    LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    wanted bigint := moved.amount;
    since timestamptz := statement_timestamp();
    found billing_lot;
    used bigint;
BEGIN
    IF moved.kind = 'charge' THEN
        SELECT created_at INTO since FROM billing_hold WHERE id = moved.hold_id;
    END IF;
    FOR found IN SELECT l.* FROM billing_lot l WHERE l.account_id = moved.debit_id AND l.remaining > 0
        AND CASE
            WHEN moved.kind = 'expiry' THEN l.transfer_id = moved.source_id
            -- What is given back was bought with this order; other credits are not its business.
            WHEN moved.kind IN ('refund', 'dispute') THEN l.transfer_id = (
                SELECT id FROM billing_transfer WHERE order_id = moved.order_id AND kind = 'purchase'
            )
            ELSE l.expires_at > since
        END
        ORDER BY l.expires_at, l.transfer_id
    LOOP
        EXIT WHEN wanted = 0;
        used := LEAST(wanted, found.remaining);
        INSERT INTO billing_lotuse (lot_id, transfer_id, amount, remaining_after)
            VALUES (found.transfer_id, moved.id, used, found.remaining - used);
        wanted := wanted - used;
    END LOOP;
END $$;
"""

AS_BEFORE = """
SELECT set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

CREATE OR REPLACE FUNCTION billing_lot_guard() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    used bigint;
BEGIN
    IF TG_OP = 'INSERT' THEN
        PERFORM FROM billing_transfer WHERE id = NEW.transfer_id AND credit_id = NEW.account_id
            AND amount = NEW.amount AND expires_at = NEW.expires_at;
        IF NOT FOUND OR NEW.remaining <> NEW.amount THEN
            RAISE EXCEPTION 'a lot is what its transfer brought' USING ERRCODE = 'check_violation';
        END IF;
        RETURN NEW;
    END IF;
    SELECT COALESCE(sum(amount), 0) INTO used FROM billing_lotuse WHERE lot_id = NEW.transfer_id;
    IF NEW.remaining <> NEW.amount - used OR ROW(NEW.transfer_id, NEW.account_id, NEW.amount, NEW.expires_at)
        IS DISTINCT FROM ROW(OLD.transfer_id, OLD.account_id, OLD.amount, OLD.expires_at) THEN
        RAISE EXCEPTION 'a lot has what its uses leave, and does not change otherwise'
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;


CREATE OR REPLACE FUNCTION billing_lot_use_apply() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    -- Which lots a transfer uses is decided by its own trigger, never by a statement.
    IF pg_trigger_depth() < 2 THEN
        RAISE EXCEPTION 'a lot is used by transfers alone' USING ERRCODE = 'check_violation';
    END IF;
    UPDATE billing_lot SET remaining = remaining - NEW.amount WHERE transfer_id = NEW.lot_id;
    RETURN NULL;
END $$;


CREATE OR REPLACE FUNCTION billing_use_lots(moved billing_transfer) RETURNS void
    LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    wanted bigint := moved.amount;
    since timestamptz := statement_timestamp();
    found billing_lot;
BEGIN
    IF moved.kind = 'charge' THEN
        SELECT created_at INTO since FROM billing_hold WHERE id = moved.hold_id;
    END IF;
    FOR found IN SELECT l.* FROM billing_lot l WHERE l.account_id = moved.debit_id AND l.remaining > 0
        AND CASE
            WHEN moved.kind = 'expiry' THEN l.transfer_id = moved.source_id
            -- What is given back was bought with this order; other credits are not its business.
            WHEN moved.kind IN ('refund', 'dispute') THEN l.transfer_id = (
                SELECT id FROM billing_transfer WHERE order_id = moved.order_id AND kind = 'purchase'
            )
            ELSE l.expires_at > since
        END
        ORDER BY l.expires_at, l.transfer_id
    LOOP
        EXIT WHEN wanted = 0;
        INSERT INTO billing_lotuse (lot_id, transfer_id, amount)
            VALUES (found.transfer_id, moved.id, LEAST(wanted, found.remaining));
        wanted := wanted - LEAST(wanted, found.remaining);
    END LOOP;
END $$;
"""


class Migration(migrations.Migration):
    dependencies = [("billing", "0013_history_tokens")]

    operations = [
        migrations.AddField(
            model_name="lotuse",
            name="remaining_after",
            field=models.BigIntegerField(editable=False, null=True),
        ),
        migrations.RunSQL(TELL, migrations.RunSQL.noop),
        migrations.AlterField(
            model_name="lotuse",
            name="remaining_after",
            field=models.BigIntegerField(editable=False, help_text="Microcredits that it left of the lot"),
        ),
        migrations.AlterField(
            model_name="lotuse",
            name="lot",
            field=models.ForeignKey(
                db_index=False,
                editable=False,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="uses",
                to="billing.lot",
            ),
        ),
        migrations.AddIndex(
            model_name="lotuse",
            index=models.Index(fields=["lot", "-id"], name="uses_of_lot"),
        ),
        migrations.AddConstraint(
            model_name="lotuse",
            constraint=models.CheckConstraint(
                condition=models.Q(("remaining_after__gte", 0)), name="lot_use_leaves_no_less_than_nothing"
            ),
        ),
        migrations.RunSQL(RULES, AS_BEFORE),
    ]
