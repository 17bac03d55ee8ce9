from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("billing", "0005_prices_in_use_are_fixed")]

    operations = []
