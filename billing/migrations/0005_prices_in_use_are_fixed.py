"""Prices that PostgreSQL holds still, and within reason.

- A row that has come into force, or that a turn was held at, is neither updated nor deleted: what was sold keeps its
  price. Rows that lie ahead can be. Who changes one in a transaction that lasts until it comes into force is refused
  at the commit, since a turn may have been held at it meanwhile.
- No price is NaN, infinite, negative, or above what the form takes.
"""

from decimal import Decimal

from django.db import migrations, models

FIXED = """
-- As in 0002_ledger_rules: no temporary table is taken for one of ours.
SELECT set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

CREATE FUNCTION billing_price_guard() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        RAISE EXCEPTION 'the price book is not emptied: turns keep the prices they were held at'
            USING ERRCODE = 'check_violation';
    END IF;
    -- By the clock and not by the beginning of the transaction, which may be long ago.
    IF OLD.effective_from <= clock_timestamp() THEN
        RAISE EXCEPTION 'price % has come into force and is fixed: a new price is a new row', OLD.id
            USING ERRCODE = 'check_violation';
    END IF;
    PERFORM FROM conversations_turn WHERE price_id = OLD.id;
    IF FOUND THEN
        RAISE EXCEPTION 'price % is fixed: a turn was held at it', OLD.id USING ERRCODE = 'check_violation';
    END IF;
    RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
END $$;

CREATE TRIGGER price_in_use_is_fixed BEFORE UPDATE OR DELETE ON billing_price
    FOR EACH ROW EXECUTE FUNCTION billing_price_guard();
CREATE TRIGGER prices_are_never_truncated BEFORE TRUNCATE ON billing_price
    FOR EACH STATEMENT EXECUTE FUNCTION billing_price_guard();
CREATE CONSTRAINT TRIGGER price_lay_ahead_until_the_commit AFTER UPDATE OR DELETE ON billing_price
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION billing_price_guard();
"""

CHANGEABLE = """
DROP TRIGGER price_lay_ahead_until_the_commit ON billing_price;
DROP TRIGGER prices_are_never_truncated ON billing_price;
DROP TRIGGER price_in_use_is_fixed ON billing_price;
DROP FUNCTION billing_price_guard();
"""

KINDS = ("input", "output", "cache_write_5m", "cache_write_1h", "cache_read")


def within_reason(prefix=""):
    least = {f"{prefix}{kind}_usd__{'gt' if kind == 'output' else 'gte'}": Decimal(0) for kind in KINDS}
    return least | {f"{prefix}{kind}_usd__lte": Decimal(1000) for kind in KINDS}


class Migration(migrations.Migration):
    dependencies = [("billing", "0003_catalogue")]

    operations = [
        migrations.RemoveConstraint(model_name="price", name="prices_are_not_negative"),
        migrations.RemoveConstraint(model_name="price", name="a_tier_has_all_its_prices"),
        migrations.AddConstraint(
            model_name="price",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    **within_reason(),
                    flat_fee__gte=Decimal(0),
                    flat_fee__lte=Decimal(1000),
                    markup__gte=Decimal("0.01"),
                    markup__lte=Decimal(20),
                ),
                name="prices_are_within_reason",
                violation_error_message="Prices cannot be negative or beyond reason, and output cannot be free.",
            ),
        ),
        migrations.AddConstraint(
            model_name="price",
            constraint=models.CheckConstraint(
                condition=models.Q(tier_tokens=None, **{f"tier_{kind}_usd": None for kind in KINDS})
                | models.Q(
                    tier_tokens__isnull=False,
                    **{f"tier_{kind}_usd__isnull": False for kind in KINDS},
                    tier_tokens__gt=0,
                    **within_reason("tier_"),
                ),
                name="a_tier_has_all_its_prices",
                violation_error_message="A tier needs its size and all five prices, or none of them.",
            ),
        ),
        migrations.RunSQL(FIXED, CHANGEABLE),
    ]
