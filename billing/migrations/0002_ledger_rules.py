"""The ledger's rules, kept by PostgreSQL itself, whoever sends the statement.

- A transfer is never updated, deleted or truncated; holds and accounts are never deleted.
- A wallet's balance is what its newest transfer says, and what it holds is the sum of its pending holds: anything
  else written there is refused, by whatever way it comes. Transfers and holds write it by the triggers below.
- Each kind of transfer runs between the accounts that are its own, so one side is always the house.
- A purchase credits what its order says to who ordered it; reversals take back no more than that.
- A hold is made pending, within what is available, ends once, and is charged in the transaction that settles it.
- A wallet goes below zero only by a reversal (refund or dispute); a charge is covered by its hold.
- Credits that expire are a lot, made with the transfer that brings them. What leaves a wallet uses lots first, soonest
  expiry first; each use is a row that nobody else can write, and a lot has what its uses leave.
- An expiry books exactly what a lot has left when its day has come, except what holds from before may still need.

A superuser can switch triggers off and an owner can drop them: `ledger_audit` proves that neither has happened, and
adds everything up without them.
"""

from django.db import migrations

RULES = """
-- The functions below find the ledger where it is made now, and a session's own temporary tables last: one that is
-- named like a table of the ledger must not be taken for it.
SELECT set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);


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
CREATE TRIGGER lot_is_never_deleted BEFORE DELETE ON billing_lot
    FOR EACH ROW EXECUTE FUNCTION billing_refuse();
CREATE TRIGGER lot_is_never_truncated BEFORE TRUNCATE ON billing_lot
    FOR EACH STATEMENT EXECUTE FUNCTION billing_refuse();
CREATE TRIGGER lot_use_is_never_changed BEFORE UPDATE OR DELETE ON billing_lotuse
    FOR EACH ROW EXECUTE FUNCTION billing_refuse();
CREATE TRIGGER lot_use_is_never_truncated BEFORE TRUNCATE ON billing_lotuse
    FOR EACH STATEMENT EXECUTE FUNCTION billing_refuse();

-- The order of ids is the order of a wallet's transfers, so nobody chooses one.
ALTER TABLE billing_transfer ALTER COLUMN id SET GENERATED ALWAYS;


CREATE FUNCTION billing_account_guard() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    told bigint;
BEGIN
    IF TG_OP = 'INSERT' THEN
        IF NEW.balance <> 0 OR NEW.held <> 0 THEN
            RAISE EXCEPTION 'an account is opened empty' USING ERRCODE = 'check_violation';
        END IF;
        RETURN NEW;
    END IF;
    IF NEW.id <> OLD.id OR NEW.kind <> OLD.kind
        OR NEW.user_id IS NOT NULL AND NEW.user_id IS DISTINCT FROM OLD.user_id THEN
        RAISE EXCEPTION 'an account does not change its kind, and a wallet is not given to another person'
            USING ERRCODE = 'check_violation';
    END IF;
    IF NEW.balance <> OLD.balance THEN
        SELECT balance_after INTO told FROM billing_transfer WHERE id = GREATEST(
            (SELECT max(id) FROM billing_transfer WHERE debit_id = NEW.id),
            (SELECT max(id) FROM billing_transfer WHERE credit_id = NEW.id)
        );
        IF NEW.balance <> COALESCE(told, 0) THEN
            RAISE EXCEPTION 'a balance of % is refused: by its newest transfer it is %', NEW.balance, COALESCE(told, 0)
                USING ERRCODE = 'check_violation';
        END IF;
    END IF;
    IF NEW.held <> OLD.held THEN
        SELECT sum(amount) INTO told FROM billing_hold WHERE account_id = NEW.id AND state = 'pending';
        IF NEW.held <> COALESCE(told, 0) THEN
            RAISE EXCEPTION 'holding % is refused: the pending holds are %', NEW.held, COALESCE(told, 0)
                USING ERRCODE = 'check_violation';
        END IF;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER account_guard BEFORE INSERT OR UPDATE ON billing_account
    FOR EACH ROW EXECUTE FUNCTION billing_account_guard();


CREATE FUNCTION billing_lot_guard() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
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
CREATE TRIGGER lot_guard BEFORE INSERT OR UPDATE ON billing_lot
    FOR EACH ROW EXECUTE FUNCTION billing_lot_guard();


CREATE FUNCTION billing_lot_use_apply() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    -- Which lots a transfer uses is decided by its own trigger, never by a statement.
    IF pg_trigger_depth() < 2 THEN
        RAISE EXCEPTION 'a lot is used by transfers alone' USING ERRCODE = 'check_violation';
    END IF;
    UPDATE billing_lot SET remaining = remaining - NEW.amount WHERE transfer_id = NEW.lot_id;
    RETURN NULL;
END $$;
CREATE TRIGGER lot_use_apply AFTER INSERT ON billing_lotuse
    FOR EACH ROW EXECUTE FUNCTION billing_lot_use_apply();


-- What of a wallet's lots is to be booked as expired now. A hold from before a lot's expiry may still use it, so as
-- much as such holds can need of it stays; those who could use an earlier lot are counted on that one first.
CREATE FUNCTION billing_expirable(wallet bigint) RETURNS TABLE (lot bigint, amount bigint)
    LANGUAGE plpgsql STABLE SET search_path FROM CURRENT AS $$
DECLARE
    due billing_lot;
    needed bigint;
    kept bigint := 0;
BEGIN
    FOR due IN SELECT * FROM billing_lot l
        WHERE l.account_id = wallet AND l.remaining > 0 AND l.expires_at <= statement_timestamp()
        ORDER BY l.expires_at, l.transfer_id
    LOOP
        SELECT COALESCE(sum(h.amount), 0) - kept INTO needed FROM billing_hold h
            WHERE h.account_id = wallet AND h.state = 'pending' AND h.created_at < due.expires_at;
        needed := LEAST(due.remaining, GREATEST(needed, 0));
        kept := kept + needed;
        IF due.remaining > needed THEN
            lot := due.transfer_id;
            amount := due.remaining - needed;
            RETURN NEXT;
        END IF;
    END LOOP;
END $$;


-- Whether a wallet has lots whose day has come. Volatile, so that it looks at the lots of this moment: who has waited
-- for the wallet's lock asks it about what was done meanwhile, which the waiting statement itself does not see.
CREATE FUNCTION billing_is_due(wallet bigint) RETURNS boolean
    LANGUAGE plpgsql VOLATILE SET search_path FROM CURRENT AS $$
BEGIN
    RETURN EXISTS (
        SELECT FROM billing_lot WHERE account_id = wallet AND remaining > 0 AND expires_at <= clock_timestamp()
    );
END $$;


-- Takes `amount` out of those lots of a wallet that a transfer may use, soonest expiry first.
CREATE FUNCTION billing_use_lots(moved billing_transfer) RETURNS void
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


CREATE FUNCTION billing_transfer_apply() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    payer text := (SELECT kind FROM billing_account WHERE id = NEW.debit_id);
    payee text := (SELECT kind FROM billing_account WHERE id = NEW.credit_id);
    wallet billing_account;
    due bigint;
BEGIN
    IF ((NEW.kind, payer, payee) IN (
        ('signup', 'signup', 'wallet'),
        ('purchase', 'stripe', 'wallet'),
        ('grant', 'promotions', 'wallet'),
        ('charge', 'wallet', 'usage'),
        ('overrun', 'overruns', 'usage'),
        ('adjustment', 'adjustments', 'wallet'), ('adjustment', 'wallet', 'adjustments'),
        ('refund', 'wallet', 'stripe'), ('refund', 'stripe', 'wallet'),
        ('dispute', 'wallet', 'stripe'), ('dispute', 'stripe', 'wallet'),
        ('expiry', 'wallet', 'expired')
    )) IS NOT TRUE THEN
        RAISE EXCEPTION 'no % runs from % to %', NEW.kind, payer, payee USING ERRCODE = 'check_violation';
    END IF;

    IF payee = 'wallet' THEN
        UPDATE billing_account SET balance = balance + NEW.amount WHERE id = NEW.credit_id RETURNING * INTO wallet;
    ELSIF payer = 'wallet' THEN
        UPDATE billing_account SET balance = balance - NEW.amount WHERE id = NEW.debit_id RETURNING * INTO wallet;
    END IF;
    IF NEW.balance_after IS DISTINCT FROM wallet.balance THEN
        RAISE EXCEPTION 'balance_after is %, the wallet has %', NEW.balance_after, wallet.balance
            USING ERRCODE = 'check_violation';
    END IF;

    IF NEW.kind = 'expiry' THEN
        PERFORM FROM billing_expirable(wallet.id) WHERE lot = NEW.source_id AND amount = NEW.amount;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'an expiry books what its lot has left, when its day has come'
                USING ERRCODE = 'check_violation';
        END IF;
    END IF;
    IF NEW.expires_at IS NOT NULL THEN
        INSERT INTO billing_lot (transfer_id, account_id, amount, remaining, expires_at)
            VALUES (NEW.id, wallet.id, NEW.amount, NEW.amount, NEW.expires_at);
    ELSIF payer = 'wallet' THEN
        PERFORM billing_use_lots(NEW);
    END IF;

    IF NEW.kind = 'purchase' THEN
        PERFORM FROM billing_order WHERE id = NEW.order_id AND credits_microcredits = NEW.amount
            AND user_id IS NOT DISTINCT FROM wallet.user_id
            AND credits_expire_at IS NOT DISTINCT FROM NEW.expires_at;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'a purchase credits what its order says to who ordered it'
                USING ERRCODE = 'check_violation';
        END IF;
    ELSIF NEW.kind = 'charge' THEN
        PERFORM FROM billing_hold
            WHERE id = NEW.hold_id AND account_id = NEW.debit_id AND state = 'settled' AND amount >= NEW.amount;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'a charge needs a settled hold of this wallet that covers it'
                USING ERRCODE = 'check_violation';
        END IF;
    ELSIF NEW.kind = 'adjustment' AND payer = 'wallet' AND wallet.balance < wallet.held
        + (SELECT COALESCE(sum(amount), 0) FROM billing_expirable(wallet.id)) THEN
        RAISE EXCEPTION 'the wallet does not have so many credits available' USING ERRCODE = 'check_violation';
    ELSIF NEW.kind IN ('refund', 'dispute') THEN
        -- What is left of the purchase: never less than nothing, never more than was bought.
        SELECT sum(CASE WHEN credit_id = wallet.id THEN amount ELSE -amount END) INTO due
            FROM billing_transfer WHERE order_id = NEW.order_id AND kind IN ('purchase', 'refund', 'dispute')
            AND wallet.id IN (debit_id, credit_id);
        PERFORM FROM billing_transfer WHERE order_id = NEW.order_id AND kind = 'purchase'
            AND credit_id = wallet.id AND due BETWEEN 0 AND amount;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'a reversal takes back, or gives back, a part of a purchase of this wallet'
                USING ERRCODE = 'check_violation';
        END IF;
    END IF;
    RETURN NULL;
END $$;
-- After the insert: a row that a unique key turned away moves nothing, even under ON CONFLICT DO NOTHING.
CREATE TRIGGER transfer_apply AFTER INSERT ON billing_transfer
    FOR EACH ROW EXECUTE FUNCTION billing_transfer_apply();


CREATE FUNCTION billing_hold_apply() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    available bigint;
BEGIN
    IF TG_OP = 'INSERT' THEN
        -- Now, because an older hold could use what has expired.
        IF NEW.state <> 'pending' OR NEW.created_at <> statement_timestamp() THEN
            RAISE EXCEPTION 'a hold begins pending, and now' USING ERRCODE = 'check_violation';
        END IF;
    ELSIF OLD.state <> 'pending' OR NEW.state = 'pending'
        OR ROW(NEW.id, NEW.account_id, NEW.amount, NEW.created_at)
           IS DISTINCT FROM ROW(OLD.id, OLD.account_id, OLD.amount, OLD.created_at) THEN
        RAISE EXCEPTION 'a hold ends once and does not change otherwise' USING ERRCODE = 'check_violation';
    END IF;
    -- Locked before it is added up, so that no other hold can come between.
    PERFORM FROM billing_account WHERE id = NEW.account_id FOR NO KEY UPDATE;
    UPDATE billing_account SET held = (
        SELECT COALESCE(sum(amount), 0) FROM billing_hold WHERE account_id = NEW.account_id AND state = 'pending'
    ) WHERE id = NEW.account_id AND kind = 'wallet' RETURNING balance - held INTO available;
    IF TG_OP = 'INSERT' THEN
        available := available - (SELECT COALESCE(sum(amount), 0) FROM billing_expirable(NEW.account_id));
    END IF;
    IF TG_OP = 'INSERT' AND (available >= 0) IS NOT TRUE THEN
        RAISE EXCEPTION 'the wallet does not have so many credits available' USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER hold_apply AFTER INSERT OR UPDATE ON billing_hold
    FOR EACH ROW EXECUTE FUNCTION billing_hold_apply();


CREATE FUNCTION billing_hold_charged() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM FROM billing_transfer WHERE hold_id = NEW.id AND kind = 'charge';
    IF NOT FOUND THEN
        RAISE EXCEPTION 'a hold is charged in the transaction that settles it, or else released'
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END $$;
-- At the commit. A charge that came later would find its credits spent.
CREATE CONSTRAINT TRIGGER hold_is_charged AFTER UPDATE ON billing_hold DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (NEW.state = 'settled') EXECUTE FUNCTION billing_hold_charged();
"""

WITHOUT_RULES = """
DROP TRIGGER hold_is_charged ON billing_hold;
DROP TRIGGER hold_apply ON billing_hold;
DROP TRIGGER transfer_apply ON billing_transfer;
DROP TRIGGER lot_use_apply ON billing_lotuse;
DROP TRIGGER lot_guard ON billing_lot;
DROP TRIGGER account_guard ON billing_account;
ALTER TABLE billing_transfer ALTER COLUMN id SET GENERATED BY DEFAULT;
DROP TRIGGER lot_use_is_never_truncated ON billing_lotuse;
DROP TRIGGER lot_use_is_never_changed ON billing_lotuse;
DROP TRIGGER lot_is_never_truncated ON billing_lot;
DROP TRIGGER lot_is_never_deleted ON billing_lot;
DROP TRIGGER account_is_never_truncated ON billing_account;
DROP TRIGGER account_is_never_deleted ON billing_account;
DROP TRIGGER hold_is_never_truncated ON billing_hold;
DROP TRIGGER hold_is_never_deleted ON billing_hold;
DROP TRIGGER transfer_is_never_truncated ON billing_transfer;
DROP TRIGGER transfer_is_never_changed ON billing_transfer;
DROP FUNCTION billing_hold_charged();
DROP FUNCTION billing_hold_apply();
DROP FUNCTION billing_transfer_apply();
DROP FUNCTION billing_use_lots(billing_transfer);
DROP FUNCTION billing_is_due(bigint);
DROP FUNCTION billing_expirable(bigint);
DROP FUNCTION billing_lot_use_apply();
DROP FUNCTION billing_lot_guard();
DROP FUNCTION billing_account_guard();
DROP FUNCTION billing_refuse();
"""


class Migration(migrations.Migration):
    dependencies = [("billing", "0001_initial")]

    operations = [migrations.RunSQL(RULES, WITHOUT_RULES)]
