"""What was ordered, paid and told by Stripe stays as it was, and what happens now is dated now; kept by PostgreSQL.

- What an order is for, and whose it is, is fixed from the first; once it is paid all of it is, but for the invoice,
  which Stripe may make later. A person who is deleted, and a pack, leave it. It is never deleted.
- An order that is paid names Stripe's session, invoice or payment, and has its purchase when the transaction ends; a
  purchase has an order that is paid by then.
- An event of Stripe's stays as it came. What became of it may change until it is handled.
- A transfer is made, a hold ends and an order is paid at the moment of the statement that says so.
- A wallet or an order loses its owner only when that person is deleted.
- Whoever gives or takes credits by hand is named.
"""

from django.db import migrations, models

RULES = """
-- As in 0002_ledger_rules: no temporary table is taken for one of ours.
SELECT set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

CREATE FUNCTION billing_order_guard() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF NEW.state = 'paid' AND OLD.state IS DISTINCT FROM 'paid' AND NEW.paid_at <> statement_timestamp() THEN
        RAISE EXCEPTION 'an order is paid now, and at no other time' USING ERRCODE = 'check_violation';
    END IF;
    IF TG_OP = 'INSERT' THEN
        RETURN NEW;
    END IF;
    IF ROW(NEW.id, NEW.source, NEW.plan_id, NEW.subscription_id, NEW.credits_microcredits, NEW.credits_expire_at,
            NEW.amount_cents, NEW.currency)
        IS DISTINCT FROM
        ROW(OLD.id, OLD.source, OLD.plan_id, OLD.subscription_id, OLD.credits_microcredits, OLD.credits_expire_at,
            OLD.amount_cents, OLD.currency)
        OR NEW.user_id IS NOT NULL AND NEW.user_id IS DISTINCT FROM OLD.user_id
        OR NEW.pack_id IS NOT NULL AND NEW.pack_id IS DISTINCT FROM OLD.pack_id THEN
        RAISE EXCEPTION 'order % is fixed: what is bought otherwise is a new order', OLD.id
            USING ERRCODE = 'check_violation';
    END IF;
    IF OLD.state = 'paid' AND (
        ROW(NEW.state, NEW.paid_at, NEW.paid_cents, NEW.created_at, NEW.stripe_session, NEW.stripe_payment_intent,
            NEW.stripe_payment_method, NEW.keeps_card, NEW.failure)
        IS DISTINCT FROM
        ROW(OLD.state, OLD.paid_at, OLD.paid_cents, OLD.created_at, OLD.stripe_session, OLD.stripe_payment_intent,
            OLD.stripe_payment_method, OLD.keeps_card, OLD.failure)
        OR OLD.stripe_invoice IS NOT NULL AND NEW.stripe_invoice IS DISTINCT FROM OLD.stripe_invoice
    ) THEN
        RAISE EXCEPTION 'order % is paid and stays as it is', OLD.id USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER order_guard BEFORE INSERT OR UPDATE ON billing_order
    FOR EACH ROW EXECUTE FUNCTION billing_order_guard();
CREATE TRIGGER order_is_never_deleted BEFORE DELETE ON billing_order
    FOR EACH ROW EXECUTE FUNCTION billing_refuse();
CREATE TRIGGER orders_are_never_truncated BEFORE TRUNCATE ON billing_order
    FOR EACH STATEMENT EXECUTE FUNCTION billing_refuse();


CREATE FUNCTION billing_purchase_of_order() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    bought uuid := to_jsonb(NEW) ->> CASE TG_TABLE_NAME WHEN 'billing_order' THEN 'id' ELSE 'order_id' END;
BEGIN
    PERFORM FROM billing_order o JOIN billing_transfer t ON t.order_id = o.id AND t.kind = 'purchase'
        WHERE o.id = bought AND o.state = 'paid';
    IF NOT FOUND THEN
        RAISE EXCEPTION 'order % is paid in the transaction that credits it, and credited once it is paid', bought
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER order_is_credited AFTER INSERT OR UPDATE ON billing_order DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (NEW.state = 'paid') EXECUTE FUNCTION billing_purchase_of_order();
CREATE CONSTRAINT TRIGGER purchase_is_paid AFTER INSERT ON billing_transfer DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (NEW.kind = 'purchase') EXECUTE FUNCTION billing_purchase_of_order();


CREATE TRIGGER event_is_never_changed BEFORE UPDATE ON billing_stripeevent FOR EACH ROW WHEN (
        ROW(NEW.id, NEW.type, NEW.payload, NEW.received_at)
            IS DISTINCT FROM ROW(OLD.id, OLD.type, OLD.payload, OLD.received_at)
        OR OLD.outcome = 'handled' AND NEW.outcome <> 'handled'
    ) EXECUTE FUNCTION billing_refuse();
CREATE TRIGGER event_is_never_deleted BEFORE DELETE ON billing_stripeevent
    FOR EACH ROW EXECUTE FUNCTION billing_refuse();
CREATE TRIGGER events_are_never_truncated BEFORE TRUNCATE ON billing_stripeevent
    FOR EACH STATEMENT EXECUTE FUNCTION billing_refuse();


CREATE FUNCTION billing_refuse_another_time() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% on % is refused: what happens now is dated now', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'check_violation';
END $$;
CREATE TRIGGER transfer_is_made_now BEFORE INSERT ON billing_transfer
    FOR EACH ROW WHEN (NEW.created_at <> statement_timestamp()) EXECUTE FUNCTION billing_refuse_another_time();
CREATE TRIGGER hold_ends_now BEFORE UPDATE ON billing_hold
    FOR EACH ROW WHEN (OLD.ended_at IS NULL AND NEW.ended_at <> statement_timestamp())
    EXECUTE FUNCTION billing_refuse_another_time();


CREATE FUNCTION billing_person_is_gone() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM FROM accounts_user WHERE id = OLD.user_id;
    IF FOUND THEN
        RAISE EXCEPTION 'what is of % stays theirs as long as they are there', OLD.user_id
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END $$;
-- At the commit: a person who is deleted is there until everything of theirs has been let go.
CREATE CONSTRAINT TRIGGER account_keeps_its_person AFTER UPDATE ON billing_account DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (OLD.user_id IS NOT NULL AND NEW.user_id IS NULL) EXECUTE FUNCTION billing_person_is_gone();
CREATE CONSTRAINT TRIGGER order_keeps_its_person AFTER UPDATE ON billing_order DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (OLD.user_id IS NOT NULL AND NEW.user_id IS NULL) EXECUTE FUNCTION billing_person_is_gone();
"""

WITHOUT = """
DROP TRIGGER order_keeps_its_person ON billing_order;
DROP TRIGGER account_keeps_its_person ON billing_account;
DROP FUNCTION billing_person_is_gone();
DROP TRIGGER hold_ends_now ON billing_hold;
DROP TRIGGER transfer_is_made_now ON billing_transfer;
DROP FUNCTION billing_refuse_another_time();
DROP TRIGGER events_are_never_truncated ON billing_stripeevent;
DROP TRIGGER event_is_never_deleted ON billing_stripeevent;
DROP TRIGGER event_is_never_changed ON billing_stripeevent;
DROP TRIGGER purchase_is_paid ON billing_transfer;
DROP TRIGGER order_is_credited ON billing_order;
DROP FUNCTION billing_purchase_of_order();
DROP TRIGGER orders_are_never_truncated ON billing_order;
DROP TRIGGER order_is_never_deleted ON billing_order;
DROP TRIGGER order_guard ON billing_order;
DROP FUNCTION billing_order_guard();
"""


class Migration(migrations.Migration):
    dependencies = [("accounts", "0001_initial"), ("billing", "0019_money_back")]

    operations = [
        migrations.RemoveConstraint(model_name="transfer", name="adjustments_and_grants_have_a_reason"),
        migrations.AddConstraint(
            model_name="transfer",
            constraint=models.CheckConstraint(
                condition=models.Q(("kind__in", ["adjustment", "grant"]), _negated=True)
                | models.Q(models.Q(("reason", ""), _negated=True), models.Q(("made_by", ""), _negated=True)),
                name="adjustments_and_grants_say_who_and_why",
            ),
        ),
        migrations.AddConstraint(
            model_name="order",
            constraint=models.CheckConstraint(
                condition=models.Q(("state", "paid"), _negated=True)
                | models.Q(("stripe_session__isnull", False))
                | models.Q(("stripe_invoice__isnull", False))
                | models.Q(("stripe_payment_intent", ""), _negated=True),
                name="a_paid_order_names_its_payment",
            ),
        ),
        migrations.RunSQL(RULES, WITHOUT),
    ]
