import pytest
from django.core.management import CommandError, call_command


def test_djangos_development_server_is_not_what_serves_chatapp() -> None:
    with pytest.raises(CommandError, match="make run"):
        call_command("runserver", "8080")
