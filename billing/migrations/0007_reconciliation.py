from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("billing", "0006_customers_and_plans")]

    operations = []
