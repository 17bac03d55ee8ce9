"""House accounts, models, prices and packs that a new installation begins with.

Provider prices as of November 2026. Fable's and Haiku 5.5's come partly from third parties: check them against your
own invoice. Markup begins at 1 (sold at cost); set yours in the admin.
"""

from datetime import UTC, datetime

from django.db import migrations

HOUSE = ["stripe", "signup", "promotions", "adjustments", "usage", "overruns", "expired"]
EFFECTIVE_FROM = datetime(2026, 11, 1, tzinfo=UTC)

# id: (name, description, context, longest output, thinks, on sale, retires on)
MODELS = {
    "claude-sonnet-5-5": (
        "Sonnet 5.5",
        "Fast and able: the one for most things",
        1_000_000,
        128_000,
        False,
        True,
        None,
    ),
    "claude-haiku-5-5": ("Haiku 5.5", "The quickest and cheapest", 1_000_000, 128_000, False, True, None),
    "claude-opus-5-5": ("Opus 5.5", "Thinks before it answers", 1_000_000, 128_000, True, True, None),
    "claude-fable-5-2": (
        "Fable 5.2",
        "The deepest, for the hardest questions",
        1_000_000,
        128_000,
        True,
        True,
        None,
    ),
    "claude-opus-5": ("Opus 5", "", 200_000, 32_000, False, False, None),
    "claude-opus-4-8": ("Opus 4.8", "", 200_000, 32_000, False, False, None),
    "claude-opus-4-7": ("Opus 4.7", "", 200_000, 32_000, False, False, None),
    "claude-opus-4-6": ("Opus 4.6", "", 200_000, 32_000, False, False, None),
    "claude-opus-4-5": ("Opus 4.5", "", 200_000, 32_000, False, False, None),
    "claude-haiku-4-5": ("Haiku 4.5", "", 200_000, 64_000, False, False, None),
}

# US$ per million tokens: input, output, cache write 5 m, cache write 1 h, cache read
OPUS_BEFORE_5_5 = ("5", "25", "6.25", "10", "0.50")
PRICES = {
    "claude-sonnet-5-5": ("2", "10", "2.50", "4", "0.10"),
    "claude-haiku-5-5": ("0.10", "0.50", "0.125", "0.20", "0.01"),
    "claude-opus-5-5": ("4", "20", "5", "8", "0.20"),
    "claude-fable-5-2": ("8", "40", "10", "16", "0.20"),
    "claude-opus-5": OPUS_BEFORE_5_5,
    "claude-opus-4-8": OPUS_BEFORE_5_5,
    "claude-opus-4-7": OPUS_BEFORE_5_5,
    "claude-opus-4-6": OPUS_BEFORE_5_5,
    "claude-opus-4-5": OPUS_BEFORE_5_5,
    "claude-haiku-4-5": ("1", "5", "1.25", "2", "0.10"),
}
TIERS = {"claude-haiku-5-5": (100_000, ("0.50", "2.50", "0.625", "1.00", "0.05"))}
CLASSES = ("input_usd", "output_usd", "cache_write_5m_usd", "cache_write_1h_usd", "cache_read_usd")

# name, credits, US cents
PACKS = [("Starter", 500, 500), ("Regular", 2_000, 2_000), ("Plenty", 10_500, 10_000)]


def fill(apps, schema_editor):
    Account = apps.get_model("billing", "Account")
    LanguageModel = apps.get_model("billing", "LanguageModel")
    Price = apps.get_model("billing", "Price")
    Pack = apps.get_model("billing", "Pack")

    for kind in HOUSE:
        Account.objects.create(kind=kind)
    for position, (id_, facts) in enumerate(MODELS.items()):
        name, description, context, output, thinks, on_sale, retires_on = facts
        model = LanguageModel.objects.create(
            id=id_,
            name=name,
            description=description,
            context_tokens=context,
            max_output_tokens=output,
            answer_tokens=8192,
            thinks=thinks,
            on_sale=on_sale,
            retires_on=retires_on,
            position=position,
        )
        tier_tokens, tier = TIERS.get(id_, (None, ()))
        Price.objects.create(
            model=model,
            effective_from=EFFECTIVE_FROM,
            tier_tokens=tier_tokens,
            **dict(zip(CLASSES, PRICES[id_], strict=True)),
            **{f"tier_{name}": usd for name, usd in zip(CLASSES, tier, strict=False)},
        )
    for position, (name, credits, cents) in enumerate(PACKS):
        Pack.objects.create(name=name, credits=credits, price_cents=cents, currency="usd", position=position)


class Migration(migrations.Migration):
    dependencies = [("billing", "0002_ledger_rules")]

    operations = [migrations.RunPython(fill, migrations.RunPython.noop)]
