"""Currencies of packs and plans are three lower-case letters, as Stripe writes them."""

from django.core.validators import RegexValidator
from django.db import migrations, models

CODE = r"^[a-z]{3}$"
LOWER = """
    UPDATE billing_pack SET currency = lower(currency) WHERE currency <> lower(currency);
    UPDATE billing_plan SET currency = lower(currency) WHERE currency <> lower(currency);
"""
CURRENCY = models.CharField(
    default="usd",
    help_text="ISO 4217 code, lower case",
    max_length=3,
    validators=[
        RegexValidator(CODE, "Write the three letters of its ISO 4217 code in lower case, such as usd.")
    ],
)


class Migration(migrations.Migration):
    dependencies = [("billing", "0016_topups_stop_after_reversals")]

    operations = [
        migrations.RunSQL(LOWER, migrations.RunSQL.noop),
        *(migrations.AlterField(model, "currency", CURRENCY) for model in ("pack", "plan")),
        *(
            migrations.AddConstraint(
                model,
                models.CheckConstraint(
                    condition=models.Q(currency__regex=CODE), name=f"{model}_has_a_currency"
                ),
            )
            for model in ("pack", "plan")
        ),
    ]
