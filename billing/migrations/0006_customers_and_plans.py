"""Customers, plans, subscriptions and automatic top-ups, and two plans to begin with.

What a plan grants for which price is fixed as soon as Stripe knows that price: from then on somebody may be paying it.
"""

import uuid
from decimal import Decimal

import django.core.validators
import django.db.models.deletion
import django.db.models.functions.datetime
from django.conf import settings
from django.db import migrations, models

FIXED = """
-- As in 0002_ledger_rules: no temporary table is taken for one of ours.
SELECT set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

CREATE FUNCTION billing_plan_guard() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        RAISE EXCEPTION 'plans are not emptied: people pay for them' USING ERRCODE = 'check_violation';
    END IF;
    IF OLD.stripe_price IS NULL THEN
        RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
    END IF;
    IF TG_OP = 'DELETE' THEN
        RAISE EXCEPTION 'plan % is fixed: take it off sale', OLD.id USING ERRCODE = 'check_violation';
    END IF;
    IF ROW(NEW.credits, NEW.price_cents, NEW.currency, NEW."interval", NEW.credits_last, NEW.stripe_price)
        IS DISTINCT FROM
        ROW(OLD.credits, OLD.price_cents, OLD.currency, OLD."interval", OLD.credits_last, OLD.stripe_price) THEN
        RAISE EXCEPTION 'plan % is fixed: a new offer is a new plan', OLD.id USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER plan_that_was_chosen_is_fixed BEFORE UPDATE OR DELETE ON billing_plan
    FOR EACH ROW EXECUTE FUNCTION billing_plan_guard();
CREATE TRIGGER plans_are_never_truncated BEFORE TRUNCATE ON billing_plan
    FOR EACH STATEMENT EXECUTE FUNCTION billing_plan_guard();
"""

CHANGEABLE = """
DROP TRIGGER plans_are_never_truncated ON billing_plan;
DROP TRIGGER plan_that_was_chosen_is_fixed ON billing_plan;
DROP FUNCTION billing_plan_guard();
"""

# name, credits a month, US cents
PLANS = [("Plus", 1_050, 1_000), ("Max", 5_500, 5_000)]


def fill(apps, schema_editor):
    Plan = apps.get_model("billing", "Plan")
    for position, (name, credits, cents) in enumerate(PLANS):
        Plan.objects.create(name=name, credits=credits, price_cents=cents, position=position)


class Migration(migrations.Migration):
    dependencies = [
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
        ("billing", "0005_prices_in_use_are_fixed"),
    ]

    operations = [
        migrations.AddField(
            model_name="order",
            name="keeps_card",
            field=models.BooleanField(
                default=False, help_text="Whether the buyer lets Stripe keep the card for automatic top-ups."
            ),
        ),
        migrations.AddField(
            model_name="order",
            name="stripe_payment_method",
            field=models.CharField(
                blank=True, help_text="What an automatic top-up is paid with.", max_length=255
            ),
        ),
        migrations.CreateModel(
            name="AutoTopUp",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("enabled", models.BooleanField(default=False)),
                ("threshold_microcredits", models.BigIntegerField()),
                ("amount_cents", models.PositiveIntegerField(blank=True, help_text="US cents", null=True)),
                (
                    "monthly_cap_cents",
                    models.PositiveIntegerField(help_text="US cents in a calendar month, UTC"),
                ),
                (
                    "payment_method",
                    models.CharField(blank=True, help_text="Stripe's id of the card.", max_length=255),
                ),
                (
                    "card",
                    models.CharField(
                        blank=True, help_text="As its owner knows it, such as Visa 4242.", max_length=60
                    ),
                ),
                (
                    "paused_because",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("no_card", "no card is kept for it"),
                            ("authentication_required", "the bank wants the payment confirmed"),
                            ("refused", "the bank refused the payment"),
                            ("nothing_to_buy", "its pack is no longer on sale"),
                        ],
                        max_length=24,
                    ),
                ),
                ("changed_at", models.DateTimeField(auto_now=True)),
                (
                    "pack",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="auto_topups",
                        to="billing.pack",
                    ),
                ),
                (
                    "user",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="auto_topup",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={
                "verbose_name": "automatic top-up",
            },
        ),
        migrations.CreateModel(
            name="Customer",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("stripe_id", models.CharField(max_length=255, unique=True)),
                (
                    "email",
                    models.EmailField(blank=True, max_length=254, verbose_name="e-mail address at Stripe"),
                ),
                (
                    "created_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(), editable=False
                    ),
                ),
                (
                    "user",
                    models.OneToOneField(
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="stripe_customer",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="Plan",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("name", models.CharField(max_length=60)),
                (
                    "credits",
                    models.DecimalField(
                        decimal_places=6,
                        help_text="Credits for each period.",
                        max_digits=15,
                        validators=[django.core.validators.MinValueValidator(Decimal("1"))],
                    ),
                ),
                (
                    "price_cents",
                    models.PositiveIntegerField(
                        help_text="For each period, in the currency's smallest unit. Stripe takes no less than 50.",
                        validators=[django.core.validators.MinValueValidator(50)],
                    ),
                ),
                (
                    "currency",
                    models.CharField(default="usd", help_text="ISO 4217 code, lower case", max_length=3),
                ),
                (
                    "interval",
                    models.CharField(
                        choices=[("month", "Month"), ("year", "Year")],
                        default="month",
                        max_length=5,
                        verbose_name="period",
                    ),
                ),
                (
                    "credits_last",
                    models.CharField(
                        choices=[("period", "until the period ends"), ("forever", "until they are used")],
                        default="period",
                        max_length=7,
                    ),
                ),
                ("on_sale", models.BooleanField(default=True)),
                (
                    "position",
                    models.PositiveSmallIntegerField(default=0, help_text="Plans are shown in this order."),
                ),
                ("stripe_price", models.CharField(editable=False, max_length=255, null=True, unique=True)),
            ],
            options={
                "ordering": ["position", "price_cents"],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("credits__gt", 0), ("price_cents__gt", 0)),
                        name="plan_sells_something",
                    )
                ],
            },
        ),
        migrations.AddField(
            model_name="order",
            name="plan",
            field=models.ForeignKey(
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="orders",
                to="billing.plan",
            ),
        ),
        migrations.CreateModel(
            name="PlanCheckout",
            fields=[
                (
                    "id",
                    models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False),
                ),
                (
                    "state",
                    models.CharField(
                        choices=[("open", "Open"), ("complete", "Complete"), ("expired", "Expired")],
                        default="open",
                        max_length=8,
                    ),
                ),
                ("stripe_session", models.CharField(max_length=255, null=True, unique=True)),
                (
                    "created_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(), editable=False
                    ),
                ),
                (
                    "plan",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="checkouts",
                        to="billing.plan",
                    ),
                ),
                (
                    "user",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="plan_checkouts",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="Subscription",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("stripe_id", models.CharField(max_length=255, unique=True)),
                (
                    "stripe_item",
                    models.CharField(
                        help_text="Stripe's id of the line that holds the plan.", max_length=255
                    ),
                ),
                (
                    "status",
                    models.CharField(
                        choices=[
                            ("incomplete", "waiting for its first payment"),
                            ("incomplete_expired", "never paid"),
                            ("trialing", "on trial"),
                            ("active", "Active"),
                            ("past_due", "past due"),
                            ("unpaid", "Unpaid"),
                            ("paused", "Paused"),
                            ("canceled", "Canceled"),
                        ],
                        max_length=18,
                    ),
                ),
                ("current_period_end", models.DateTimeField()),
                ("cancel_at_period_end", models.BooleanField(default=False)),
                ("as_of", models.DateTimeField(help_text="When Stripe was asked for what stands here.")),
                (
                    "told_of",
                    models.CharField(
                        blank=True,
                        help_text="The failed attempt to pay that the person was told of last.",
                        max_length=255,
                    ),
                ),
                (
                    "refused_changes",
                    models.PositiveIntegerField(
                        default=0, help_text="How often the bank refused to pay for another plan."
                    ),
                ),
                (
                    "created_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(), editable=False
                    ),
                ),
                (
                    "plan",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="subscriptions",
                        to="billing.plan",
                    ),
                ),
                (
                    "user",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="subscriptions",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={
                "ordering": ["-created_at"],
            },
        ),
        migrations.AddField(
            model_name="order",
            name="subscription",
            field=models.ForeignKey(
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="orders",
                to="billing.subscription",
            ),
        ),
        migrations.AddConstraint(
            model_name="order",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(
                        ("plan__isnull", False), ("source", "subscription"), ("subscription__isnull", False)
                    ),
                    models.Q(
                        models.Q(("source", "subscription"), _negated=True),
                        ("plan", None),
                        ("subscription", None),
                    ),
                    _connector="OR",
                ),
                name="order_has_a_plan_if_it_is_of_a_subscription",
            ),
        ),
        migrations.AddConstraint(
            model_name="order",
            constraint=models.UniqueConstraint(
                models.F("user"),
                condition=models.Q(("source", "auto_topup"), ("state__in", ["open", "pending"])),
                name="one_open_auto_topup_per_person",
            ),
        ),
        migrations.AddConstraint(
            model_name="autotopup",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("monthly_cap_cents__gt", 0),
                    ("threshold_microcredits__gte", 0),
                    models.Q(("amount_cents", None), ("amount_cents__gt", 0), _connector="OR"),
                ),
                name="auto_topup_is_within_reason",
            ),
        ),
        migrations.AddConstraint(
            model_name="autotopup",
            constraint=models.CheckConstraint(
                condition=models.Q(("pack", None), ("amount_cents", None), _connector="OR"),
                name="auto_topup_buys_one_thing",
            ),
        ),
        migrations.AddConstraint(
            model_name="plancheckout",
            constraint=models.UniqueConstraint(
                models.F("user"),
                condition=models.Q(("state", "open")),
                name="one_open_plan_checkout_per_person",
            ),
        ),
        migrations.RunSQL(FIXED, CHANGEABLE),
        migrations.RunPython(fill, migrations.RunPython.noop),
    ]
