"""What of the money went back is kept beside what was taken back of the credits, and is never changed.

For refunds and disputes before this, it is what Stripe's events said of them.
"""

import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models

RULES = """
-- See 0002_ledger_rules.
CREATE TRIGGER money_back_is_never_changed BEFORE UPDATE OR DELETE ON billing_moneyback
    FOR EACH ROW EXECUTE FUNCTION billing_refuse();
CREATE TRIGGER money_back_is_never_truncated BEFORE TRUNCATE ON billing_moneyback
    FOR EACH STATEMENT EXECUTE FUNCTION billing_refuse();
"""
UNDO = """
DROP TRIGGER money_back_is_never_changed ON billing_moneyback;
DROP TRIGGER money_back_is_never_truncated ON billing_moneyback;
"""

BEFORE = """
WITH reversal AS (
    SELECT split_part(key, ':', 1) || ':' || split_part(key, ':', 2) AS key, order_id, min(created_at) AS began,
        min(created_at) FILTER (WHERE key ~ ':returned$') AS ended
    FROM billing_transfer WHERE kind IN ('refund', 'dispute') GROUP BY 1, 2
), told AS (
    SELECT DISTINCT ON (1) payload #>> '{data,object,id}' AS id, (payload #>> '{data,object,amount}')::bigint AS cents
    FROM billing_stripeevent WHERE type LIKE 'refund.%' OR type LIKE 'charge.dispute.%' ORDER BY 1, received_at DESC
), back AS (
    SELECT reversal.*, told.cents FROM reversal JOIN told ON told.id = split_part(reversal.key, ':', 2)
    WHERE told.cents > 0
)
INSERT INTO billing_moneyback (reversal, order_id, cents, created_at)
SELECT key, order_id, cents, began FROM back
UNION ALL
SELECT key, order_id, -cents, ended FROM back WHERE ended IS NOT NULL
"""


class Migration(migrations.Migration):
    dependencies = [("billing", "0018_forgotten_customers")]

    operations = [
        migrations.CreateModel(
            name="MoneyBack",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "reversal",
                    models.CharField(
                        editable=False,
                        help_text="As in the ledger's keys: refund:… or dispute:…",
                        max_length=300,
                    ),
                ),
                (
                    "cents",
                    models.BigIntegerField(
                        editable=False, help_text="In the smallest unit of the order's currency."
                    ),
                ),
                (
                    "created_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(), editable=False
                    ),
                ),
                (
                    "order",
                    models.ForeignKey(
                        editable=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="money_back",
                        to="billing.order",
                    ),
                ),
            ],
            options={
                "indexes": [models.Index(fields=["created_at"], name="money_back_by_time")],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("cents", 0), _negated=True), name="money_back_is_some"
                    )
                ],
            },
        ),
        migrations.RunSQL(BEFORE, migrations.RunSQL.noop),
        migrations.RunSQL(RULES, UNDO),
    ]
