"""The ledger's rules, kept by PostgreSQL itself, whoever sends the statement.

- A transfer is never updated, deleted or truncated.
- A wallet's balance changes only with a transfer, and what it holds only with a hold: by the triggers below.
- A hold is made pending, within what is available, and ends once.
- A wallet goes below zero only by a reversal (refund or dispute); a charge is covered by its hold.
"""

from django.db import migrations

RULES = """
CREATE FUNCTION billing_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% on % is refused: the ledger is append-only', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'check_violation';
END $$;

CREATE TRIGGER transfer_is_never_changed BEFORE UPDATE OR DELETE ON billing_transfer
    FOR EACH ROW EXECUTE FUNCTION billing_refuse();
CREATE TRIGGER transfer_is_never_truncated BEFORE TRUNCATE ON billing_transfer
    FOR EACH STATEMENT EXECUTE FUNCTION billing_refuse();
CREATE TRIGGER hold_is_never_deleted BEFORE DELETE ON billing_hold
    FOR EACH ROW EXECUTE FUNCTION billing_refuse();
CREATE TRIGGER hold_is_never_truncated BEFORE TRUNCATE ON billing_hold
    FOR EACH STATEMENT EXECUTE FUNCTION billing_refuse();
CREATE TRIGGER account_is_never_deleted BEFORE DELETE ON billing_account
    FOR EACH ROW EXECUTE FUNCTION billing_refuse();
CREATE TRIGGER account_is_never_truncated BEFORE TRUNCATE ON billing_account
    FOR EACH STATEMENT EXECUTE FUNCTION billing_refuse();


CREATE FUNCTION billing_account_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        IF NEW.balance <> 0 OR NEW.held <> 0 THEN
            RAISE EXCEPTION 'an account is opened empty' USING ERRCODE = 'check_violation';
        END IF;
    ELSIF NEW.id <> OLD.id OR NEW.kind <> OLD.kind THEN
        RAISE EXCEPTION 'an account does not change its kind' USING ERRCODE = 'check_violation';
    ELSIF (NEW.balance <> OLD.balance OR NEW.held <> OLD.held) AND pg_trigger_depth() < 2 THEN
        -- Depth 1 is a statement of a client's own; transfers and holds come here from their triggers.
        RAISE EXCEPTION 'a balance follows its transfers and holds and cannot be written'
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER account_guard BEFORE INSERT OR UPDATE ON billing_account
    FOR EACH ROW EXECUTE FUNCTION billing_account_guard();


CREATE FUNCTION billing_transfer_apply() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    credited bigint;
    debited bigint;
    blocked bigint;
    covered bigint;
BEGIN
    UPDATE billing_account SET balance = balance + NEW.amount
        WHERE id = NEW.credit_id AND kind = 'wallet' RETURNING balance INTO credited;
    UPDATE billing_account SET balance = balance - NEW.amount
        WHERE id = NEW.debit_id AND kind = 'wallet' RETURNING balance, held INTO debited, blocked;
    IF credited IS NOT NULL AND debited IS NOT NULL THEN
        RAISE EXCEPTION 'a transfer has a house account on one side' USING ERRCODE = 'check_violation';
    END IF;
    IF debited IS NOT NULL AND NEW.kind = 'charge' THEN
        SELECT amount INTO covered FROM billing_hold
            WHERE id = NEW.hold_id AND account_id = NEW.debit_id AND state = 'settled';
        IF covered IS NULL OR covered < NEW.amount THEN
            RAISE EXCEPTION 'a charge needs a settled hold of this wallet that covers it'
                USING ERRCODE = 'check_violation';
        END IF;
    ELSIF debited - blocked < 0 AND NEW.kind NOT IN ('refund', 'dispute') THEN
        RAISE EXCEPTION 'the wallet does not have so many credits available'
            USING ERRCODE = 'check_violation';
    END IF;
    IF NEW.balance_after IS DISTINCT FROM COALESCE(credited, debited) THEN
        RAISE EXCEPTION 'balance_after is %, the wallet has %', NEW.balance_after, COALESCE(credited, debited)
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END $$;
-- After the insert: a row that a unique key turned away moves nothing, even under ON CONFLICT DO NOTHING.
CREATE TRIGGER transfer_apply AFTER INSERT ON billing_transfer
    FOR EACH ROW EXECUTE FUNCTION billing_transfer_apply();


CREATE FUNCTION billing_hold_apply() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        IF NEW.state <> 'pending' THEN
            RAISE EXCEPTION 'a hold begins pending' USING ERRCODE = 'check_violation';
        END IF;
        UPDATE billing_account SET held = held + NEW.amount
            WHERE id = NEW.account_id AND kind = 'wallet' AND balance - held >= NEW.amount;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'the wallet does not have so many credits available'
                USING ERRCODE = 'check_violation';
        END IF;
    ELSE
        IF OLD.state <> 'pending' OR NEW.state = 'pending'
            OR ROW(NEW.id, NEW.account_id, NEW.amount, NEW.created_at)
               IS DISTINCT FROM ROW(OLD.id, OLD.account_id, OLD.amount, OLD.created_at) THEN
            RAISE EXCEPTION 'a hold ends once and does not change otherwise' USING ERRCODE = 'check_violation';
        END IF;
        UPDATE billing_account SET held = held - OLD.amount WHERE id = OLD.account_id;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER hold_apply AFTER INSERT OR UPDATE ON billing_hold
    FOR EACH ROW EXECUTE FUNCTION billing_hold_apply();
"""

WITHOUT_RULES = """
DROP TRIGGER hold_apply ON billing_hold;
DROP TRIGGER transfer_apply ON billing_transfer;
DROP TRIGGER account_guard ON billing_account;
DROP TRIGGER account_is_never_truncated ON billing_account;
DROP TRIGGER account_is_never_deleted ON billing_account;
DROP TRIGGER hold_is_never_truncated ON billing_hold;
DROP TRIGGER hold_is_never_deleted ON billing_hold;
DROP TRIGGER transfer_is_never_truncated ON billing_transfer;
DROP TRIGGER transfer_is_never_changed ON billing_transfer;
DROP FUNCTION billing_hold_apply();
DROP FUNCTION billing_transfer_apply();
DROP FUNCTION billing_account_guard();
DROP FUNCTION billing_refuse();
"""


class Migration(migrations.Migration):
    dependencies = [("billing", "0001_initial")]

    operations = [migrations.RunSQL(RULES, WITHOUT_RULES)]
