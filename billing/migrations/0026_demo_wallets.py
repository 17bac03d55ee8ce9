"""Which wallets are of logins that everybody knows: when such a login is gone, nothing else tells its wallet apart."""

from django.db import migrations, models

EMAILS = ["demo@example.org", "operator@example.org"]


def mark(apps, schema_editor):
    apps.get_model("billing", "Account").objects.filter(user__email__in=EMAILS).update(is_demo=True)


class Migration(migrations.Migration):
    dependencies = [("accounts", "0001_initial"), ("billing", "0025_paid_by_nobody")]

    operations = [
        migrations.AddField(
            model_name="account",
            name="is_demo",
            field=models.BooleanField(
                db_default=False,
                default=False,
                editable=False,
                help_text="Of a login that everybody knows: no sign-up, also when it was deleted.",
            ),
        ),
        migrations.RunPython(mark, migrations.RunPython.noop),
    ]
