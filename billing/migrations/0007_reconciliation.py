"""What came of holding the books against Stripe's, and the rights to refund and to replay."""

import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("billing", "0006_customers_and_plans")]

    operations = [
        migrations.AlterModelOptions(
            name="order",
            options={
                "ordering": ["-created_at"],
                "permissions": [("refund_orders", "Can refund what people paid")],
            },
        ),
        migrations.AlterModelOptions(
            name="stripeevent",
            options={
                "ordering": ["-received_at"],
                "permissions": [("replay_events", "Can have events handled again")],
            },
        ),
        migrations.CreateModel(
            name="Reconciliation",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "began_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(), editable=False
                    ),
                ),
                ("since", models.DateTimeField()),
                ("ended_at", models.DateTimeField(null=True)),
                (
                    "checked",
                    models.JSONField(default=dict, help_text="How many of each kind were compared."),
                ),
                ("error", models.TextField(blank=True)),
            ],
            options={"ordering": ["-began_at"]},
        ),
        migrations.CreateModel(
            name="Discrepancy",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "kind",
                    models.CharField(
                        choices=[
                            ("not_credited", "paid, not credited"),
                            ("not_paid", "credited, not paid"),
                            ("paid_twice", "paid twice"),
                            ("credited_twice", "credited twice"),
                            ("amount", "another amount"),
                            ("not_reversed", "refund or dispute not booked"),
                            ("reversed", "taken back for nothing"),
                        ],
                        max_length=16,
                    ),
                ),
                ("stripe_id", models.CharField(blank=True, max_length=255, verbose_name="at Stripe")),
                ("says", models.CharField(max_length=300, verbose_name="what it is")),
                ("expected", models.CharField(help_text="As Stripe's books have it.", max_length=200)),
                ("found", models.CharField(help_text="As ours had it.", max_length=200)),
                ("mended", models.BooleanField(default=False)),
                ("resolved_at", models.DateTimeField(null=True)),
                (
                    "resolved_by",
                    models.CharField(
                        blank=True, help_text="The operator who looked into it.", max_length=254
                    ),
                ),
                ("note", models.CharField(blank=True, max_length=300)),
                (
                    "created_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(),
                        editable=False,
                        verbose_name="found at",
                    ),
                ),
                (
                    "order",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="discrepancies",
                        to="billing.order",
                    ),
                ),
                (
                    "run",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="discrepancies",
                        to="billing.reconciliation",
                    ),
                ),
            ],
            options={
                "verbose_name_plural": "discrepancies",
                "ordering": ["-created_at", "-pk"],
                "indexes": [
                    models.Index(
                        condition=models.Q(("mended", False), ("resolved_at", None)),
                        fields=["created_at"],
                        name="discrepancies_that_are_open",
                    )
                ],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("note", ""), ("resolved_at", None), ("resolved_by", "")),
                            models.Q(
                                ("mended", False),
                                ("resolved_at__isnull", False),
                                models.Q(("resolved_by", ""), _negated=True),
                                models.Q(("note", ""), _negated=True),
                            ),
                            _connector="OR",
                        ),
                        name="who_resolves_says_how",
                    )
                ],
            },
        ),
    ]
