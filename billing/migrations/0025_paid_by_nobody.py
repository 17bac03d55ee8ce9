"""What somebody paid whose account was gone is for the operator to look into."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("billing", "0024_prices_leave_the_past")]

    operations = [
        migrations.AlterField(
            model_name="discrepancy",
            name="kind",
            field=models.CharField(
                choices=[
                    ("not_credited", "paid, not credited"),
                    ("not_paid", "credited, not paid"),
                    ("paid_twice", "paid twice"),
                    ("credited_twice", "credited twice"),
                    ("amount", "another amount"),
                    ("not_reversed", "refund or dispute not booked"),
                    ("reversed", "taken back for nothing"),
                    ("paid_by_nobody", "paid after the account was deleted"),
                ],
                max_length=16,
            ),
        ),
    ]
