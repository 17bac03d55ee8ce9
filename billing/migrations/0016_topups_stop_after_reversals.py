"""An automatic top-up stops when a payment of its person is refunded or disputed."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("billing", "0015_indexes_that_are_used")]

    operations = [
        migrations.AlterField(
            "autotopup",
            "paused_because",
            models.CharField(
                blank=True,
                choices=[
                    ("no_card", "no card is kept for it"),
                    ("authentication_required", "the bank wants the payment confirmed"),
                    ("refused", "the bank refused the payment"),
                    ("nothing_to_buy", "its pack is no longer on sale"),
                    ("reversed", "a payment was refunded or disputed"),
                ],
                max_length=24,
            ),
        ),
    ]
