"""The models on sale and the price book."""

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, Self

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now


class LanguageModelQuerySet(models.QuerySet["LanguageModel"]):
    def on_sale(self) -> Self:
        """What a person can choose now: on sale, not retired, and with a price in force."""
        priced = Price.objects.filter(model=models.OuterRef("pk"), effective_from__lte=Now())
        return self.filter(models.Exists(priced), on_sale=True, provider__in=providers_with_a_key()).exclude(
            retires_on__lte=Now()
        )


def providers_with_a_key() -> list[str]:
    """Whose models can be asked on this site."""
    keys = {
        LanguageModel.Provider.ANTHROPIC: settings.ANTHROPIC_API_KEY,
        LanguageModel.Provider.OPENAI: settings.OPENAI_API_KEY,
    }
    return [provider.value for provider, key in keys.items() if key]


# A long book. What a turn reads from the cache of so much is still cheap; a full context would be seven times that.
HISTORY_TOKENS = 150_000


class LanguageModel(models.Model):
    """A model that answers, under the name by which the provider knows it."""

    class Provider(models.TextChoices):
        ANTHROPIC = "anthropic", "Anthropic"
        OPENAI = "openai", "OpenAI"

    id = models.CharField("provider's name", max_length=80, primary_key=True)
    name = models.CharField(max_length=60, help_text="As people see it, such as Sonnet 5.5")
    description = models.CharField(max_length=120, blank=True)
    provider = models.CharField(max_length=20, choices=Provider.choices, default=Provider.ANTHROPIC)
    fallback = models.ForeignKey(
        "self",
        models.SET_NULL,
        null=True,
        blank=True,
        related_name="+",
        help_text="Another provider's model that answers when this one cannot begin. It need not be on sale.",
    )
    context_tokens = models.PositiveIntegerField(validators=[MinValueValidator(1024)])
    max_output_tokens = models.PositiveIntegerField(validators=[MinValueValidator(256)])
    answer_tokens = models.PositiveIntegerField(
        default=8192,
        validators=[MinValueValidator(256)],
        help_text="The longest answer we ask for; the price of so many tokens is held while it is written.",
    )
    history_tokens = models.PositiveIntegerField(
        "longest conversation",
        null=True,
        blank=True,
        default=HISTORY_TOKENS,
        validators=[MinValueValidator(1024)],
        help_text="Tokens of a conversation that are sent with a message at most; a longer one goes on with a summary "
        "of its older part. Keep it below the size from which prompts are dearer. Empty: as much as the context holds.",
    )
    thinks = models.BooleanField(default=False, help_text="Ask for adaptive thinking and show it.")
    on_sale = models.BooleanField(default=True)
    retires_on = models.DateField(null=True, blank=True)
    position = models.PositiveSmallIntegerField(default=0, help_text="The first one on sale is the default.")

    objects = LanguageModelQuerySet.as_manager()

    class Meta:
        ordering = ["position", "id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(answer_tokens__lte=models.F("max_output_tokens")),
                name="answers_fit_the_model",
                violation_error_message="An answer cannot be longer than the model's longest output.",
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def standby(self) -> "LanguageModel | None":
        """Who answers when this one cannot begin, if there is somebody who can give an answer as long."""
        other = self.fallback
        fits = other is not None and other.can_be_asked and other.max_output_tokens >= self.answer_tokens
        return other if fits else None

    @property
    def can_be_asked(self) -> bool:
        """Whether its provider has a key here and has not retired it."""
        retired = self.retires_on is not None and self.retires_on <= datetime.now(UTC).date()
        return self.provider in providers_with_a_key() and not retired

    def retires_within(self, days: int, *, today: date) -> bool:
        return self.retires_on is not None and (self.retires_on - today).days <= days


class PriceQuerySet(models.QuerySet["Price"]):
    def in_force(self) -> Self:
        """The rows that apply now: per model, the newest whose date has come."""
        return (
            self.filter(effective_from__lte=Now())
            .order_by("model_id", "-effective_from")
            .distinct("model_id")
        )

    def now_for(self, model_id: str) -> "Price":
        """The price of a model at this moment; Price.DoesNotExist when it has none."""
        return self.filter(model=model_id, effective_from__lte=Now()).latest("effective_from")


# A thousand dollars a million tokens is fifty times today's dearest: beyond it is a slip of the keyboard.
MOST_USD = Decimal(1000)
MOST_FEE = Decimal(1000)
LEAST_MARKUP, MOST_MARKUP = Decimal("0.01"), Decimal(20)
KINDS = ("input", "output", "cache_write_5m", "cache_write_1h", "cache_read")


def _between(least: Decimal, most: Decimal) -> list[Any]:
    return [MinValueValidator(least), MaxValueValidator(most)]


def _usd(**kwargs: Any) -> models.DecimalField:
    return models.DecimalField(
        max_digits=10, decimal_places=6, validators=_between(Decimal(0), MOST_USD), **kwargs
    )


def _within_reason(prefix: str = "") -> dict[str, Decimal]:
    """The bounds of the five prices, as lookups. Only the upper ones keep out NaN, which is above any number."""
    least = {f"{prefix}{kind}_usd__{'gt' if kind == 'output' else 'gte'}": Decimal(0) for kind in KINDS}
    return least | {f"{prefix}{kind}_usd__lte": MOST_USD for kind in KINDS}


class Price(models.Model):
    """What a model's tokens cost from a date on: US$ per million, as the provider asks, and our markup.

    A turn keeps the row it was held at, so a new price is a new row. PostgreSQL refuses to change or delete a row
    that has come into force (migration 0005_prices_in_use_are_fixed), and one that begins where another was in force
    (0024_prices_leave_the_past).
    """

    model = models.ForeignKey(LanguageModel, models.PROTECT, related_name="prices")
    effective_from = models.DateTimeField(db_default=Now())
    input_usd = _usd(verbose_name="input")
    output_usd = _usd(verbose_name="output")
    cache_write_5m_usd = _usd(verbose_name="cache write, 5 minutes")
    cache_write_1h_usd = _usd(verbose_name="cache write, 1 hour")
    cache_read_usd = _usd(verbose_name="cache read")
    tier_tokens = models.PositiveIntegerField(
        null=True, blank=True, help_text="Above this prompt size the tier's prices apply to every token."
    )
    tier_input_usd = _usd(verbose_name="tier input", null=True, blank=True)
    tier_output_usd = _usd(verbose_name="tier output", null=True, blank=True)
    tier_cache_write_5m_usd = _usd(verbose_name="tier cache write, 5 minutes", null=True, blank=True)
    tier_cache_write_1h_usd = _usd(verbose_name="tier cache write, 1 hour", null=True, blank=True)
    tier_cache_read_usd = _usd(verbose_name="tier cache read", null=True, blank=True)
    flat_fee = models.DecimalField(
        max_digits=12,
        decimal_places=6,
        default=Decimal(0),
        validators=_between(Decimal(0), MOST_FEE),
        help_text="Credits added to each message.",
    )
    markup = models.DecimalField(
        max_digits=6,
        decimal_places=4,
        default=Decimal(1),
        validators=_between(LEAST_MARKUP, MOST_MARKUP),
        help_text="Factor on the provider's price: 1 sells at cost, 1.2 adds 20 %.",
    )

    objects = PriceQuerySet.as_manager()

    class Meta:
        ordering = ["model", "-effective_from"]
        constraints = [
            models.UniqueConstraint("model", "effective_from", name="one_price_per_model_and_date"),
            models.CheckConstraint(
                condition=Q(
                    **_within_reason(),
                    flat_fee__gte=Decimal(0),
                    flat_fee__lte=MOST_FEE,
                    markup__gte=LEAST_MARKUP,
                    markup__lte=MOST_MARKUP,
                ),
                name="prices_are_within_reason",
                violation_error_message="Prices cannot be negative or beyond reason, and output cannot be free.",
            ),
            models.CheckConstraint(
                condition=Q(tier_tokens=None, **{f"tier_{kind}_usd": None for kind in KINDS})
                | Q(
                    # A comparison with NULL is not false, and what is not false passes.
                    tier_tokens__isnull=False,
                    **{f"tier_{kind}_usd__isnull": False for kind in KINDS},
                    tier_tokens__gt=0,
                    **_within_reason("tier_"),
                ),
                name="a_tier_has_all_its_prices",
                violation_error_message="A tier needs its size and all five prices, or none of them.",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.model_id} from {self.effective_from:%Y-%m-%d}"

    def clean(self) -> None:
        """Refuse what no provider asks: output for nothing or below input, a cache that is dearer than no cache."""
        wrong: dict[str, str] = {}
        for prefix in ("", "tier_"):
            names = [f"{prefix}{kind}_usd" for kind in ("input", "output", "cache_read")]
            asked, answered, reread = (getattr(self, name) for name in names)
            if answered is not None and answered <= 0:
                wrong[names[1]] = "Output cannot be free: what a balance affords could not be told."
            elif asked is not None and answered is not None and answered < asked:
                wrong[names[1]] = "Output is never cheaper than input. Are the two figures swapped?"
            if asked is not None and reread is not None and reread > asked:
                wrong[names[2]] = "Reading from the cache is never dearer than input. Is a figure misplaced?"
        if wrong:
            raise ValidationError(wrong)
