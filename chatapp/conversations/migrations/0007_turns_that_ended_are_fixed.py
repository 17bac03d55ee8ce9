"""A turn that has ended stays as it is, and what it was opened at is fixed from the first; kept by PostgreSQL.

The books point to turns: what was used, at which price, and what it cost. What a turn belongs to can still be deleted,
and leaves it then; its person only by being deleted. A turn is never deleted itself.
"""

from django.db import migrations

RULES = """
-- As in billing's 0002_ledger_rules: no temporary table is taken for one of ours.
SELECT set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

CREATE FUNCTION conversations_turn_guard() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    kept conversations_turn := NEW;
BEGIN
    IF OLD.ended_at IS NULL THEN
        RAISE EXCEPTION 'turn % keeps what it was opened at', OLD.id USING ERRCODE = 'check_violation';
    END IF;
    kept.user_id := COALESCE(NEW.user_id, OLD.user_id);
    kept.conversation_id := COALESCE(NEW.conversation_id, OLD.conversation_id);
    kept.user_message_id := COALESCE(NEW.user_message_id, OLD.user_message_id);
    kept.assistant_message_id := COALESCE(NEW.assistant_message_id, OLD.assistant_message_id);
    IF kept IS DISTINCT FROM OLD THEN
        RAISE EXCEPTION 'turn % has ended and stays as it is', OLD.id USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER turn_that_ended_is_fixed BEFORE UPDATE ON conversations_turn FOR EACH ROW WHEN (
        OLD.ended_at IS NOT NULL
        OR ROW(NEW.id, NEW.fingerprint, NEW.model_id, NEW.price_id, NEW.fallback_price_id, NEW.max_tokens,
            NEW.limited_by_balance, NEW.held, NEW.created_at)
            IS DISTINCT FROM
            ROW(OLD.id, OLD.fingerprint, OLD.model_id, OLD.price_id, OLD.fallback_price_id, OLD.max_tokens,
            OLD.limited_by_balance, OLD.held, OLD.created_at)
    ) EXECUTE FUNCTION conversations_turn_guard();
CREATE TRIGGER turn_is_never_deleted BEFORE DELETE ON conversations_turn
    FOR EACH ROW EXECUTE FUNCTION billing_refuse();
CREATE TRIGGER turns_are_never_truncated BEFORE TRUNCATE ON conversations_turn
    FOR EACH STATEMENT EXECUTE FUNCTION billing_refuse();
CREATE CONSTRAINT TRIGGER turn_keeps_its_person AFTER UPDATE ON conversations_turn DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (OLD.user_id IS NOT NULL AND NEW.user_id IS NULL) EXECUTE FUNCTION billing_person_is_gone();

-- As in billing's 0021_rules_hold_always.
ALTER TABLE conversations_turn ENABLE ALWAYS TRIGGER turn_that_ended_is_fixed;
ALTER TABLE conversations_turn ENABLE ALWAYS TRIGGER turn_is_never_deleted;
ALTER TABLE conversations_turn ENABLE ALWAYS TRIGGER turns_are_never_truncated;
ALTER TABLE conversations_turn ENABLE ALWAYS TRIGGER turn_keeps_its_person;
"""

WITHOUT = """
DROP TRIGGER turn_keeps_its_person ON conversations_turn;
DROP TRIGGER turns_are_never_truncated ON conversations_turn;
DROP TRIGGER turn_is_never_deleted ON conversations_turn;
DROP TRIGGER turn_that_ended_is_fixed ON conversations_turn;
DROP FUNCTION conversations_turn_guard();
"""


class Migration(migrations.Migration):
    dependencies = [
        ("billing", "0021_rules_hold_always"),
        ("conversations", "0006_recaps"),
    ]

    operations = [migrations.RunSQL(RULES, WITHOUT)]
