"""A refund or dispute takes no credits that had expired before: that part of the purchase has left the wallet already.

The function is that of 0002_ledger_rules, with this one rule more. It holds for what is taken from now on.
"""

from django.db import migrations

RULE = """
-- See 0002_ledger_rules.
SELECT set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

CREATE OR REPLACE FUNCTION billing_transfer_apply() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
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
        -- What is left of the purchase: never less than nothing, never more than was bought. What has expired of it
        -- is not there to be taken either.
        SELECT sum(CASE WHEN credit_id = wallet.id THEN amount ELSE -amount END) INTO due
            FROM billing_transfer WHERE order_id = NEW.order_id AND kind IN ('purchase', 'refund', 'dispute')
            AND wallet.id IN (debit_id, credit_id);
        PERFORM FROM billing_transfer bought WHERE order_id = NEW.order_id AND kind = 'purchase'
            AND credit_id = wallet.id AND due BETWEEN CASE WHEN payer <> 'wallet' THEN 0 ELSE (
                SELECT COALESCE(sum(amount), 0) FROM billing_transfer WHERE source_id = bought.id AND kind = 'expiry'
            ) END AND amount;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'a reversal takes back, or gives back, a part of a purchase of this wallet'
                USING ERRCODE = 'check_violation';
        END IF;
    END IF;
    RETURN NULL;
END $$;
"""

AS_BEFORE = """
SELECT set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

CREATE OR REPLACE FUNCTION billing_transfer_apply() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
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
"""


class Migration(migrations.Migration):
    dependencies = [("billing", "0010_openai_models")]

    operations = [migrations.RunSQL(RULE, AS_BEFORE)]
