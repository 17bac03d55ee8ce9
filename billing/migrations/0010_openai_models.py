"""OpenAI's models, which answer when Claude cannot begin and OPENAI_API_KEY is set.

Prices as third parties reported them in November 2026: check them against your own invoice. They are not on sale by
themselves; put them on sale in the admin if people are to choose them.
"""

from datetime import UTC, datetime
from decimal import Decimal

from django.db import migrations

EFFECTIVE_FROM = datetime(2026, 11, 1, tzinfo=UTC)

# id: (name, context, longest output, US$ per million tokens of input, of output, of input read from the cache)
MODELS = {
    "gpt-5.5": ("GPT-5.5", 400_000, 128_000, "5", "30", "0.50"),
    "gpt-5.4": ("GPT-5.4", 272_000, 128_000, "2.50", "15", "0.25"),
    "gpt-5.4-nano": ("GPT-5.4 nano", 272_000, 128_000, "0.20", "1.25", "0.02"),
}
FALLBACKS = {
    "claude-sonnet-5-5": "gpt-5.4",
    "claude-haiku-5-5": "gpt-5.4-nano",
    "claude-opus-5-5": "gpt-5.5",
    "claude-fable-5-2": "gpt-5.5",
}


def fill(apps, schema_editor):
    LanguageModel = apps.get_model("billing", "LanguageModel")
    Price = apps.get_model("billing", "Price")
    position = LanguageModel.objects.count()
    for offset, (id_, (name, context, output, asked, answered, read)) in enumerate(MODELS.items()):
        model = LanguageModel.objects.create(
            id=id_,
            name=name,
            provider="openai",
            context_tokens=context,
            max_output_tokens=output,
            answer_tokens=8192,
            on_sale=False,
            position=position + offset,
        )
        Price.objects.create(
            model=model,
            effective_from=EFFECTIVE_FROM,
            input_usd=Decimal(asked),
            output_usd=Decimal(answered),
            # Writing to its cache costs what reading the prompt costs.
            cache_write_5m_usd=Decimal(asked),
            cache_write_1h_usd=Decimal(asked),
            cache_read_usd=Decimal(read),
        )
    for id_, fallback in FALLBACKS.items():
        LanguageModel.objects.filter(pk=id_, fallback=None).update(fallback=fallback)


class Migration(migrations.Migration):
    dependencies = [("billing", "0009_fallbacks")]

    operations = [migrations.RunPython(fill, migrations.RunPython.noop)]
