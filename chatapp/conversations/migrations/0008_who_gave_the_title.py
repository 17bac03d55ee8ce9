from django.db import migrations, models

CHOICES = [("words", "its first words"), ("model", "a model"), ("person", "the person")]


class Migration(migrations.Migration):
    dependencies = [
        ("conversations", "0007_turns_that_ended_are_fixed"),
    ]

    operations = [
        # Of the titles that there are nobody knows who gave them: they stay.
        migrations.AddField(
            model_name="conversation",
            name="titled_by",
            field=models.CharField(choices=CHOICES, default="person", max_length=6),
        ),
        migrations.AlterField(
            model_name="conversation",
            name="titled_by",
            field=models.CharField(choices=CHOICES, db_default="words", default="words", max_length=6),
        ),
    ]
