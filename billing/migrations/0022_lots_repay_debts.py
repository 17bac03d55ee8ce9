"""What can still expire in a wallet is never more than it has, so an expiry takes no wallet below zero.

- Credits that expire and come to a wallet below zero repay that debt first: the very transfer that brings them uses as
  much of their lot.
- What a refund, a dispute or a charge leaves of a wallet can be less than what remains of its lots. Then it uses the
  difference as well, soonest expiry first.

Lots of before that have more than their wallet are used by the newest refund or dispute, or else adjustment, that took
from it. The function is that of 0014_uses_tell_what_they_leave otherwise.
"""

from django.db import migrations

RULES = """
-- See 0002_ledger_rules.
SELECT set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

-- Takes what a transfer uses out of a wallet's lots, soonest expiry first.
CREATE OR REPLACE FUNCTION billing_use_lots(moved billing_transfer) RETURNS void
    LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    wanted bigint := moved.amount;
    since timestamptz := statement_timestamp();
    own bigint;
    beside bigint := 0;
    found billing_lot;
    used bigint;
BEGIN
    IF moved.kind = 'charge' THEN
        SELECT created_at INTO since FROM billing_hold WHERE id = moved.hold_id;
    ELSIF moved.kind = 'expiry' THEN
        own := moved.source_id;
    ELSIF moved.kind IN ('refund', 'dispute') THEN
        -- What is given back was bought with this order; other credits are not its business.
        SELECT id INTO own FROM billing_transfer WHERE order_id = moved.order_id AND kind = 'purchase';
    END IF;
    FOR found IN SELECT * FROM billing_lot l WHERE l.account_id = moved.debit_id AND l.remaining > 0
        ORDER BY l.expires_at, l.transfer_id
    LOOP
        EXIT WHEN wanted = 0;
        IF (CASE WHEN moved.kind IN ('expiry', 'refund', 'dispute') THEN found.transfer_id = own
            ELSE found.expires_at > since END) THEN
            used := LEAST(wanted, found.remaining);
            INSERT INTO billing_lotuse (lot_id, transfer_id, amount, remaining_after)
                VALUES (found.transfer_id, moved.id, used, found.remaining - used);
            wanted := wanted - used;
        ELSE
            beside := beside + found.remaining;
        END IF;
    END LOOP;

    -- If something is still wanted, all that this could use has been used up: only other lots can be too much.
    beside := beside - GREATEST(moved.balance_after, 0);
    -- An adjustment has to leave what expires; it is refused otherwise.
    IF wanted = 0 OR beside <= 0 OR moved.kind = 'adjustment' THEN
        RETURN;
    END IF;
    FOR found IN SELECT * FROM billing_lot l WHERE l.account_id = moved.debit_id AND l.remaining > 0
        ORDER BY l.expires_at, l.transfer_id
    LOOP
        EXIT WHEN beside = 0;
        used := LEAST(beside, found.remaining);
        INSERT INTO billing_lotuse (lot_id, transfer_id, amount, remaining_after)
            VALUES (found.transfer_id, moved.id, used, found.remaining - used);
        beside := beside - used;
    END LOOP;
END $$;


CREATE FUNCTION billing_lot_repays() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    debt bigint := NEW.amount - (SELECT balance FROM billing_account WHERE id = NEW.account_id);
BEGIN
    IF debt > 0 THEN
        INSERT INTO billing_lotuse (lot_id, transfer_id, amount, remaining_after)
            VALUES (NEW.transfer_id, NEW.transfer_id, LEAST(debt, NEW.amount), NEW.amount - LEAST(debt, NEW.amount));
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER lot_repays AFTER INSERT ON billing_lot FOR EACH ROW EXECUTE FUNCTION billing_lot_repays();
ALTER TABLE billing_lot ENABLE ALWAYS TRIGGER lot_repays;
"""

# Nobody can switch triggers off but who may alter the table.
BEFORE = """
ALTER TABLE billing_lot DISABLE TRIGGER lot_guard;
ALTER TABLE billing_lotuse DISABLE TRIGGER lot_use_apply;
WITH lots AS (
    SELECT l.*, sum(remaining) OVER earlier AS up_to_here, sum(remaining) OVER (PARTITION BY account_id) AS together
    FROM billing_lot l WHERE remaining > 0 WINDOW earlier AS (PARTITION BY account_id ORDER BY expires_at, transfer_id)
), beside AS (
    SELECT lots.transfer_id, lots.account_id, remaining,
        LEAST(remaining, together - GREATEST(a.balance, 0) - (up_to_here - remaining)) AS amount
    FROM lots JOIN billing_account a ON a.id = lots.account_id
), used AS (
    INSERT INTO billing_lotuse (lot_id, transfer_id, amount, remaining_after)
    SELECT beside.transfer_id, newest.id, beside.amount, beside.remaining - beside.amount
    FROM beside CROSS JOIN LATERAL (
        SELECT id FROM billing_transfer t
        WHERE debit_id = beside.account_id AND kind IN ('refund', 'dispute', 'adjustment')
            AND NOT EXISTS (SELECT FROM billing_lotuse WHERE lot_id = beside.transfer_id AND transfer_id = t.id)
        ORDER BY kind = 'adjustment', id DESC LIMIT 1
    ) newest
    WHERE beside.amount > 0
    RETURNING lot_id, remaining_after
)
UPDATE billing_lot SET remaining = used.remaining_after FROM used WHERE transfer_id = used.lot_id;
SET CONSTRAINTS ALL IMMEDIATE;
ALTER TABLE billing_lotuse ENABLE ALWAYS TRIGGER lot_use_apply;
ALTER TABLE billing_lot ENABLE ALWAYS TRIGGER lot_guard;
"""

AS_BEFORE = """
SELECT set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

DROP TRIGGER lot_repays ON billing_lot;
DROP FUNCTION billing_lot_repays();

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


class Migration(migrations.Migration):
    dependencies = [("billing", "0021_rules_hold_always")]

    operations = [
        migrations.RunSQL(RULES, AS_BEFORE),
        migrations.RunSQL(BEFORE, migrations.RunSQL.noop),
    ]
