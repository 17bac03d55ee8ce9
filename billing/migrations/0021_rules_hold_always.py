"""The ledger's rules hold in every session, also in one that calls itself a replica, where triggers else are off."""

from django.db import migrations

SWITCH = """
DO $$
DECLARE
    found record;
BEGIN
    FOR found IN SELECT tgrelid::regclass AS of, tgname AS name FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
        WHERE NOT tgisinternal AND c.relnamespace = current_schema()::regnamespace AND c.relname LIKE 'billing\\_%%'
    LOOP
        EXECUTE format('ALTER TABLE %%s %s TRIGGER %%I', found.of, found.name);
    END LOOP;
END $$;
"""


class Migration(migrations.Migration):
    dependencies = [("billing", "0020_what_was_is_fixed")]

    operations = [migrations.RunSQL(SWITCH % "ENABLE ALWAYS", SWITCH % "ENABLE")]
