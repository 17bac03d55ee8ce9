"""A new price never changes what was in force before it was entered.

A row may begin now or later; a minute is given to clocks and to whoever enters it. It may begin in the past only
where its model had no price until then, so that nothing can have been charged. A row that begins at once is looked at
again at the commit, since its transaction may have taken longer than that while turns were held at the price before.
"""

from django.db import migrations

RULES = """
-- As in 0002_ledger_rules: no temporary table is taken for one of ours.
SELECT set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

CREATE FUNCTION billing_price_begins() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    -- Of two who enter prices of one model at once, the second sees the first one's.
    PERFORM FROM billing_languagemodel WHERE id = NEW.model_id FOR NO KEY UPDATE;
    IF NEW.effective_from < clock_timestamp() - interval '1 minute' THEN
        PERFORM FROM billing_price
            WHERE model_id = NEW.model_id AND effective_from <= NEW.effective_from AND id <> NEW.id;
        IF FOUND THEN
            RAISE EXCEPTION 'a price of % cannot begin in the past, where another was in force', NEW.model_id
                USING ERRCODE = 'check_violation';
        END IF;
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER price_leaves_the_past BEFORE INSERT OR UPDATE ON billing_price
    FOR EACH ROW EXECUTE FUNCTION billing_price_begins();
CREATE CONSTRAINT TRIGGER price_leaves_the_past_until_the_commit AFTER INSERT OR UPDATE ON billing_price
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    WHEN (NEW.effective_from >= transaction_timestamp() - interval '1 minute')
    EXECUTE FUNCTION billing_price_begins();
ALTER TABLE billing_price ENABLE ALWAYS TRIGGER price_leaves_the_past;
ALTER TABLE billing_price ENABLE ALWAYS TRIGGER price_leaves_the_past_until_the_commit;
"""

WITHOUT = """
DROP TRIGGER price_leaves_the_past_until_the_commit ON billing_price;
DROP TRIGGER price_leaves_the_past ON billing_price;
DROP FUNCTION billing_price_begins();
"""


class Migration(migrations.Migration):
    dependencies = [("billing", "0023_welcomed_addresses")]

    operations = [migrations.RunSQL(RULES, WITHOUT)]
