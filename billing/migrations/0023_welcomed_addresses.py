"""Which addresses had the welcome credits, as keyed hashes: another account of such an address gets none.

Those who have them already, and whose account is there, are entered by the address that they have now.
"""

import unicodedata

from django.db import migrations, models
from django.utils.crypto import salted_hmac


def enter(apps, schema_editor):
    Transfer = apps.get_model("billing", "Transfer")
    WelcomedAddress = apps.get_model("billing", "WelcomedAddress")
    welcomes = Transfer.objects.filter(kind="signup", credit__user__isnull=False)
    batch = []
    for email in welcomes.values_list("credit__user__email", flat=True).iterator(chunk_size=1000):
        spelled = unicodedata.normalize("NFKC", email).strip().casefold()
        hashed = salted_hmac("billing.welcome", spelled, algorithm="sha256").hexdigest()
        batch.append(WelcomedAddress(hash=hashed))
    WelcomedAddress.objects.bulk_create(batch, batch_size=1000, ignore_conflicts=True)


class Migration(migrations.Migration):
    dependencies = [("accounts", "0001_initial"), ("billing", "0022_lots_repay_debts")]

    operations = [
        migrations.CreateModel(
            name="WelcomedAddress",
            fields=[
                (
                    "hash",
                    models.CharField(editable=False, max_length=64, primary_key=True, serialize=False),
                ),
            ],
        ),
        migrations.RunPython(enter, migrations.RunPython.noop),
    ]
