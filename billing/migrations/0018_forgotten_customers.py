"""Customers that were deleted at Stripe, and two more mails: of a top-up that stopped, and of books that differ."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("billing", "0017_currencies"),
    ]

    operations = [
        migrations.AddField(
            model_name="customer",
            name="is_forgotten",
            field=models.BooleanField(
                default=False, help_text="Whether Stripe has deleted it: the next payment makes another."
            ),
        ),
        migrations.AlterField(
            model_name="mail",
            name="kind",
            field=models.CharField(
                choices=[
                    ("receipt", "Receipt"),
                    ("low_balance", "Low Balance"),
                    ("topup_failed", "Topup Failed"),
                    ("topup_stopped", "Topup Stopped"),
                    ("plan_unpaid", "Plan Unpaid"),
                    ("debt", "Debt"),
                    ("discrepancies", "Discrepancies"),
                ],
                max_length=16,
            ),
        ),
    ]
