from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("conversations", "0004_instructions")]

    operations = [
        migrations.AddField(
            model_name="turn",
            name="retry_at",
            field=models.DateTimeField(
                help_text="Before that the provider wants no other request", null=True
            ),
        ),
    ]
