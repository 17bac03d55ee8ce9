"""How long the conversations are that are sent to each model.

Where a provider asks more above some size of prompt, they stay a tenth below it: the size is estimated beforehand.
"""

import django.core.validators
from django.db import migrations, models


def stay_below_the_dearer_tier(apps, schema_editor):
    LanguageModel = apps.get_model("billing", "LanguageModel")
    Price = apps.get_model("billing", "Price")
    newest = Price.objects.order_by("model_id", "-effective_from").distinct("model_id")
    for price in newest.exclude(tier_tokens=None):
        most = price.tier_tokens * 9 // 10
        LanguageModel.objects.filter(pk=price.model_id, history_tokens__gt=most).update(history_tokens=most)


class Migration(migrations.Migration):
    dependencies = [("billing", "0012_reversals_spare_what_expired")]

    operations = [
        migrations.AddField(
            model_name="languagemodel",
            name="history_tokens",
            field=models.PositiveIntegerField(
                blank=True,
                default=150000,
                help_text=(
                    "Tokens of a conversation that are sent with a message at most; a longer one goes on with a "
                    "summary of its older part. Keep it below the size from which prompts are dearer. Empty: as much "
                    "as the context holds."
                ),
                null=True,
                validators=[django.core.validators.MinValueValidator(1024)],
                verbose_name="longest conversation",
            ),
        ),
        migrations.RunPython(stay_below_the_dearer_tier, migrations.RunPython.noop),
    ]
