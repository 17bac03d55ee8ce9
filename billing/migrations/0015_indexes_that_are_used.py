"""Indexes that nothing uses go, since each makes every turn write more; Stripe's events are found by what they tell of.

The indexes of a transfer's two accounts begin others that stay, and holds are looked for by account while they are
pending only.
"""

import django.db.models.deletion
import django.db.models.fields.json
from django.db import migrations, models

DROP = """
DROP INDEX billing_transfer_debit_id_292fe32b;
DROP INDEX billing_transfer_credit_id_93202b6d;
DROP INDEX billing_hold_account_id_56c002f9;
"""

CREATE = """
CREATE INDEX billing_transfer_debit_id_292fe32b ON billing_transfer (debit_id);
CREATE INDEX billing_transfer_credit_id_93202b6d ON billing_transfer (credit_id);
CREATE INDEX billing_hold_account_id_56c002f9 ON billing_hold (account_id);
"""


class Migration(migrations.Migration):
    dependencies = [
        ("billing", "0014_uses_tell_what_they_leave"),
    ]

    operations = [
        migrations.AddField(
            model_name="stripeevent",
            name="about",
            field=models.GeneratedField(
                db_persist=True,
                expression=django.db.models.fields.json.KeyTextTransform(
                    "id",
                    django.db.models.fields.json.KeyTextTransform(
                        "object", django.db.models.fields.json.KeyTextTransform("data", "payload")
                    ),
                ),
                help_text="Stripe's id of what it tells of.",
                output_field=models.TextField(),
            ),
        ),
        # By name: Django would drop the unique index one_welcome_per_wallet as well, which is of the same column.
        migrations.SeparateDatabaseAndState(
            database_operations=[migrations.RunSQL(DROP, CREATE)],
            state_operations=[
                migrations.AlterField(
                    model_name="hold",
                    name="account",
                    field=models.ForeignKey(
                        db_index=False,
                        editable=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="holds",
                        to="billing.account",
                    ),
                ),
                migrations.AlterField(
                    model_name="transfer",
                    name="credit",
                    field=models.ForeignKey(
                        db_index=False,
                        editable=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="credits",
                        to="billing.account",
                    ),
                ),
                migrations.AlterField(
                    model_name="transfer",
                    name="debit",
                    field=models.ForeignKey(
                        db_index=False,
                        editable=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="debits",
                        to="billing.account",
                    ),
                ),
            ],
        ),
        migrations.AddIndex(
            model_name="stripeevent",
            index=models.Index(fields=["about"], name="events_about_something"),
        ),
    ]
