"""Which addresses had the welcome credits, as keyed hashes: another account of such an address gets none.

Those who have them already, and whose account is there, are entered by the address that they have now.
"""

from itertools import islice

from django.db import migrations, models
from django.utils.crypto import salted_hmac

CHUNK = 1000


def enter(apps, schema_editor):
    Transfer = apps.get_model("billing", "Transfer")
    WelcomedAddress = apps.get_model("billing", "WelcomedAddress")
    welcomes = Transfer.objects.filter(kind="signup", credit__user__isnull=False)
    emails = welcomes.values_list("credit__user__email", flat=True).iterator(chunk_size=CHUNK)
    while chunk := list(islice(emails, CHUNK)):
        entered = [WelcomedAddress(hash=digest(email)) for email in chunk]
        WelcomedAddress.objects.bulk_create(entered, ignore_conflicts=True)


def digest(email):
    return salted_hmac("billing.welcome", email.lower(), algorithm="sha256").hexdigest()


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
