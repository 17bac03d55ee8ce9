"""A wrong setting ends the start with one line that says what to do; and where settings are looked for."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from django.core.mail import send_mail

from chatapp.local.environment import setting_names
from chatapp.local.process import CLONE
from tests.zygote import Zygote

DEVELOPMENT = {
    "CHATAPP_ENV_FILES": "",
    "DEBUG": "true",
    "SECRET_KEY": "x",
    "DATABASE_URL": "postgres://me@localhost/chat",
    "REDIS_URL": "redis://localhost",
    "ANTHROPIC_API_KEY": "sk-ant-x",
}
PRODUCTION = DEVELOPMENT | {
    "DEBUG": "false",
    "SECRET_KEY": "the quick brown fox jumps over the lazy dog 0123456789",
    "ALLOWED_HOSTS": "chat.example.org",
    "EMAIL_URL": "smtp+tls://me:secret@smtp.example.org:587",
    "DEFAULT_FROM_EMAIL": "Chat <chat@example.org>",
    "STRIPE_SECRET_KEY": "sk_live_x",
    "STRIPE_WEBHOOK_SECRET": "whsec_x",
}

# Reads environments, a line of JSON each, and begins each start in a fork: what settings.py needs is imported once.
STARTS = """
import decimal, json, os, sys
import csp.constants, django.urls, environ, psycopg, redis, structlog

for line in sys.stdin:
    said, saying = os.pipe()
    result, telling = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(saying, 2)
        os.environ.clear()
        os.environ.update(json.loads(line))
        from chatapp import settings
        found = {name: value for name, value in vars(settings).items() if name.isupper()}
        as_json = lambda value: str(value) if isinstance(value, decimal.Decimal) else None
        os.write(telling, json.dumps(found, default=as_json).encode())
        raise SystemExit
    os.close(saying), os.close(telling)
    found, errors = open(result).read(), open(said).read()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(json.dumps([code, errors, json.loads(found or "{}")]), flush=True)
"""


@dataclass
class Start:
    """How a start ended: its exit code, what it said on stderr, and the settings it found."""

    code: int
    errors: str
    found: dict[str, Any]


class Starts:
    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def __call__(self, env: dict[str, str]) -> Start:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(env) + "\n")
        self._process.stdin.flush()
        return Start(*json.loads(self._process.stdout.readline()))

    def found(self, env: dict[str, str]) -> dict[str, Any]:
        start = self(env)
        assert (start.code, start.errors) == (0, "")
        return start.found

    def refusal(self, env: dict[str, str]) -> str:
        """The one line with which a start is refused."""
        start = self(env)
        assert (start.code, start.found) == (1, {})
        assert start.errors.startswith("chatapp: ")
        assert start.errors.endswith("\n")
        assert start.errors.count("\n") == 1
        return start.errors.removeprefix("chatapp: ").removesuffix("\n")


@pytest.fixture(scope="module")
def start() -> Iterator[Starts]:
    process = subprocess.Popen(
        [sys.executable, "-c", STARTS], cwd=CLONE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        yield Starts(process)
        assert process.stdin
        process.stdin.close()


# --- Wrong settings


@pytest.mark.parametrize(
    ("name", "wrong", "sentence"),
    [
        ("SECRET_KEY", "", "SECRET_KEY is not set."),
        ("DEBUG", "maybe", "DEBUG must be true or false, not 'maybe'."),
        ("DATABASE_URL", "", "DATABASE_URL must begin with postgres:// or postgresql://"),
        ("DATABASE_URL", "sqlite:///db.sqlite3", "only PostgreSQL can enforce the ledger's rules."),
        ("DATABASE_URL", "mysql://me@localhost/chat", "only PostgreSQL can enforce the ledger's rules."),
        ("DATABASE_URL", "localhost:5432/chat", "must begin with postgres:// or postgresql://"),
        ("DATABASE_URL", "postgres://me@localhost", "DATABASE_URL names no database"),
        ("DATABASE_URL", "postgres://me:pa/ss@localhost/chat", "write special characters as %XX."),
        ("DATABASE_URL", "postgres://me@[localhost/chat", "DATABASE_URL is no URL."),
        ("DATABASE_POOL", "3", "DATABASE_POOL must be at least 4, not 3."),
        ("DATABASE_POOL", "ten", "DATABASE_POOL must be a whole number of at least 4, not 'ten'."),
        ("REDIS_URL", "", "REDIS_URL must begin with redis:// or rediss://"),
        ("REDIS_URL", "http://localhost", "Valkey or Redis carries the jobs"),
        ("REDIS_URL", "redis://localhost:first/0", "REDIS_URL is no URL."),
        ("ANTHROPIC_API_KEY", "", "ANTHROPIC_API_KEY is not set."),
        ("ANTHROPIC_BASE_URL", "api.anthropic.com", "ANTHROPIC_BASE_URL must begin with http:// or https://"),
        ("ANTHROPIC_BASE_URL", "https://", "ANTHROPIC_BASE_URL names no host"),
        ("STRIPE_API_BASE", "ftp://stripe", "STRIPE_API_BASE must begin with http:// or https://"),
        ("STRIPE_SECRET_KEY", "sk_live_x", "STRIPE_WEBHOOK_SECRET is empty"),
        ("SIGNUP_CREDITS", "-1", "SIGNUP_CREDITS must be a number with at most 6 decimal places"),
        ("SIGNUP_CREDITS", "0.0000001", "at most 6 decimal places of at least 0, not '0.0000001'."),
        ("SIGNUP_CREDITS", "1e3", "not '1e3'."),
        ("TURN_RECONNECT_SECONDS", "soon", "TURN_RECONNECT_SECONDS must be a number"),
        ("TURN_CONNECT_SECONDS", "0", "TURN_CONNECT_SECONDS must be at least 0.1, not 0."),
        ("TURN_STALL_SECONDS", "nan", "TURN_STALL_SECONDS must be a number"),
        ("TURNS_PER_MINUTE", "0", "TURNS_PER_MINUTE must be at least 1, not 0."),
        ("TURNS_PER_MINUTE", "1.5", "TURNS_PER_MINUTE must be a whole number"),
        ("TURNS_PER_MINUTE_PER_KEY", "0", "TURNS_PER_MINUTE_PER_KEY must be at least 1, not 0."),
        ("TURNS_PER_MINUTE_PER_ADDRESS", "lots", "TURNS_PER_MINUTE_PER_ADDRESS must be a whole number"),
        ("API_REQUESTS_PER_MINUTE", "0", "API_REQUESTS_PER_MINUTE must be at least 1, not 0."),
        ("PROMPT_GUARD", "on", "PROMPT_GUARD must be one of off, flag, refuse, not 'on'."),
        ("TRUSTED_PROXIES", "10.0.0.0/8", "TRUSTED_PROXIES must be a whole number of at least 0"),
        ("TURNS_AT_ONCE", "-3", "TURNS_AT_ONCE must be a whole number of at least 1, not '-3'."),
        ("ALLOWED_HOSTS", ",", "ALLOWED_HOSTS is empty"),
        ("ALLOWED_HOSTS", "https://chat.example.org", "not 'https://chat.example.org'."),
        ("ALLOWED_HOSTS", "chat.example.org:8000", "takes host names alone"),
        ("CSRF_TRUSTED_ORIGINS", "https://a.example.org, b.example.org", "not 'b.example.org'."),
        ("CSRF_TRUSTED_ORIGINS", "https://", "CSRF_TRUSTED_ORIGINS takes a scheme and a host"),
        ("EMAIL_VERIFICATION", "perhaps", "must be one of mandatory, optional, none, not 'perhaps'."),
        ("EMAIL_URL", "pigeon://loft", "EMAIL_URL is not understood."),
        ("EMAIL_URL", "smtp", "EMAIL_URL is not understood."),
        ("EMAIL_URL", "smtp://", "EMAIL_URL is not understood."),
        ("EMAIL_URL", "smtp://me:se[cret@x:many", "EMAIL_URL is not understood."),
        ("GOOGLE_CLIENT_ID", "x", "GOOGLE_CLIENT_SECRET is not set."),
        ("LOG_LEVEL", "LOUD", "LOG_LEVEL must be one of DEBUG, INFO, WARNING, ERROR, not 'LOUD'."),
    ],
)
def test_a_wrong_setting_ends_the_start_with_one_line(
    start: Starts, name: str, wrong: str, sentence: str
) -> None:
    line = start.refusal(DEVELOPMENT | {name: wrong})

    assert sentence in line
    assert "secret" not in line
    assert "pa/ss" not in line


@pytest.mark.parametrize(
    ("missing", "sentence"),
    [
        ("SECRET_KEY", "SECRET_KEY is not set."),
        ("ALLOWED_HOSTS", "ALLOWED_HOSTS is empty: name the host names"),
        ("DATABASE_URL", "DATABASE_URL must begin with"),
        ("REDIS_URL", "REDIS_URL must begin with"),
        ("ANTHROPIC_API_KEY", "ANTHROPIC_API_KEY is not set."),
        ("STRIPE_WEBHOOK_SECRET", "without it anyone could forge a payment."),
        ("EMAIL_URL", "EMAIL_URL is not set."),
        ("DEFAULT_FROM_EMAIL", "DEFAULT_FROM_EMAIL is not set."),
    ],
)
def test_production_makes_nothing_up(start: Starts, missing: str, sentence: str) -> None:
    assert sentence in start.refusal({name: value for name, value in PRODUCTION.items() if name != missing})


def test_a_short_secret_is_for_development_only(start: Starts) -> None:
    line = start.refusal(PRODUCTION | {"SECRET_KEY": "x" * 49})
    assert "SECRET_KEY must have at least 50 characters: python -c" in line


def test_in_production_the_demo_stand_ins_are_not_believed(start: Starts) -> None:
    asked = {"CHATAPP_DEMO_CLAUDE": "true", "CHATAPP_DEMO_STRIPE": "true"}
    found = start.found(PRODUCTION | asked)
    assert (found["DEMO_CLAUDE"], found["DEMO_STRIPE"]) == (False, False)
    found = start.found(DEVELOPMENT | asked)
    assert (found["DEMO_CLAUDE"], found["DEMO_STRIPE"]) == (True, True)


def test_a_command_ends_with_that_line_and_with_1() -> None:
    ended = subprocess.run(
        [sys.executable, "manage.py", "check"],
        cwd=CLONE,
        env=DEVELOPMENT | {"DATABASE_URL": "sqlite:///db.sqlite3"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith("chatapp: DATABASE_URL must begin with")
    assert ended.stderr.count("\n") == 1


# --- Right ones


def test_what_is_set_is_found(start: Starts) -> None:
    found = start.found(
        PRODUCTION
        | {
            "ALLOWED_HOSTS": " chat.example.org , [::1],*.example.com,",
            "CSRF_TRUSTED_ORIGINS": "https://a.example.org,http://b.example.org:8000",
            "DATABASE_URL": "postgresql://me:p%40ss@one:5432,two:5433/chat?sslmode=require",
            "DATABASE_POOL": "40",
            "SIGNUP_CREDITS": "0.5",
            "TURN_RECONNECT_SECONDS": "0",
        }
    )

    assert found["ALLOWED_HOSTS"] == ["chat.example.org", "[::1]", "*.example.com"]
    assert found["CSRF_TRUSTED_ORIGINS"] == ["https://a.example.org", "http://b.example.org:8000"]
    database = found["DATABASES"]["default"]
    assert (database["HOST"], database["PORT"], database["NAME"]) == ("one,two", "5432,5433", "chat")
    assert (database["USER"], database["PASSWORD"]) == ("me", "p@ss")
    assert database["OPTIONS"]["sslmode"] == "require"
    assert database["OPTIONS"]["pool"]["max_size"] == 40
    assert (found["SIGNUP_CREDITS"], found["TURN_RECONNECT_SECONDS"]) == ("0.5", 0.0)
    assert (found["EMAIL_HOST"], found["EMAIL_PORT"], found["EMAIL_USE_TLS"]) == (
        "smtp.example.org",
        587,
        True,
    )


def test_without_a_mail_server_the_text_of_a_mail_is_printed_with_its_links(
    start: Starts, settings: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    settings.EMAIL_BACKEND = start.found(DEVELOPMENT)["EMAIL_BACKEND"]
    link = f"https://chat.example.org/accounts/confirm-email/{'key' * 40}/"
    send_mail("Welcome", f"Hé!\n{link}\n", None, ["al@example.org"], html_message=f'<a href="{link}">Hé</a>')
    printed = capsys.readouterr().out
    assert "Mail to al@example.org: Welcome" in printed
    assert f"Hé!\n{link}\n" in printed
    assert "<a" not in printed
    assert start.found(PRODUCTION)["EMAIL_BACKEND"] == "django.core.mail.backends.smtp.EmailBackend"


def test_defaults_are_those_of_the_contract(start: Starts) -> None:
    found = start.found(PRODUCTION)
    assert {
        name: found[name]
        for name in (
            *("DEBUG", "SIGNUP_CREDITS", "TURN_RECONNECT_SECONDS", "TURN_CONNECT_SECONDS"),
            *("TURNS_PER_MINUTE", "TURNS_AT_ONCE", "ACCOUNT_EMAIL_VERIFICATION", "ANTHROPIC_BASE_URL"),
        )
    } == {
        "DEBUG": False,
        "SIGNUP_CREDITS": "100",
        "TURN_RECONNECT_SECONDS": 10.0,
        "TURN_CONNECT_SECONDS": 5.0,
        "TURNS_PER_MINUTE": 10,
        "TURNS_AT_ONCE": 3,
        "ACCOUNT_EMAIL_VERIFICATION": "mandatory",
        "ANTHROPIC_BASE_URL": "https://api.anthropic.com",
    }
    assert start.found(DEVELOPMENT)["ACCOUNT_EMAIL_VERIFICATION"] == "optional"


def test_without_stripes_key_buying_is_off(start: Starts) -> None:
    without = {name: value for name, value in PRODUCTION.items() if not name.startswith("STRIPE")}
    assert start.found(without)["STRIPE_SECRET_KEY"] == ""


# --- Where they are looked for


def test_the_environment_wins_over_the_first_file_and_that_over_the_second(
    start: Starts, tmp_path: Path
) -> None:
    first, second = tmp_path / ".env", tmp_path / "run.env"
    first.write_text("# a comment\nexport TURNS_AT_ONCE=22\nTURNS_PER_MINUTE='23'\nSIGNUP_CREDITS=\n\n")
    second.write_text("TURNS_AT_ONCE=31\nTURNS_PER_MINUTE=32\nSIGNUP_CREDITS=33\nLOG_LEVEL=ERROR\n")
    files = {"CHATAPP_ENV_FILES": f"{first},{tmp_path / 'missing'},{second}"}

    found = start.found(DEVELOPMENT | files | {"TURNS_AT_ONCE": "11", "LOG_LEVEL": " "})

    assert (found["TURNS_AT_ONCE"], found["TURNS_PER_MINUTE"]) == (11, 23)
    # A blank line, or a blank variable, says nothing.
    assert (found["SIGNUP_CREDITS"], found["LOG_LEVEL"]) == ("33", "ERROR")


def test_what_the_files_say_is_held_to_the_same_rules(start: Starts, tmp_path: Path) -> None:
    file = tmp_path / ".env"
    files = DEVELOPMENT | {"CHATAPP_ENV_FILES": str(file)}

    file.write_text("TURNS_AT_ONCE=many\n")
    assert "TURNS_AT_ONCE must be a whole number" in start.refusal(files)
    file.write_bytes(b"TURNS_AT_ONCE=\xff\n")
    assert start.refusal(files) == f"{file} is not text in UTF-8."


def test_the_readme_and_the_example_name_the_settings_that_there_are() -> None:
    source = (CLONE / "chatapp" / "settings.py").read_text()
    read = set(re.findall(r'\b(?:text|switch|number|choice|listed|url)\(\s*"([A-Z_]+)"', source))
    read |= {f"{provider}_CLIENT_{part}" for provider in ("GOOGLE", "GITHUB") for part in ("ID", "SECRET")}
    # Which `make run` sets by itself; and those that only it or docker compose reads.
    read -= {"CHATAPP_DEMO_CLAUDE", "CHATAPP_DEMO_STRIPE"}
    elsewhere = {"HOST", "PORT", "SITE_ADDRESS", "POSTGRES_PASSWORD"}

    assert len(read) > 20
    assert setting_names() == read | elsewhere
    readme = (CLONE / "README.md").read_text()
    assert [name for name in read if name not in readme] == []


# --- Production is safe

# `check --deploy`, as it is and once more under Django's names: its checks of headers, cookies and CSRF look for its
# own middleware, and would pass over ours.
CHECKS = """
import json, django
from django.conf import settings
from django.core import checks

django.setup()
found = [checks.run_checks(include_deployment_checks=True)]
settings.MIDDLEWARE = [
    *("django.middleware.security.SecurityMiddleware", "django.contrib.sessions.middleware.SessionMiddleware"),
    *("django.middleware.csrf.CsrfViewMiddleware", "django.middleware.clickjacking.XFrameOptionsMiddleware"),
]
found.append(checks.run_checks(tags=["security"], include_deployment_checks=True))
print(json.dumps([[message.id for message in messages if not message.is_silenced()] for messages in found]))
"""


def test_django_finds_nothing_to_say_against_production(zygote: Zygote, tmp_path: Path) -> None:
    script = tmp_path / "checks.py"
    script.write_text(CHECKS)

    checked = zygote.run(
        [sys.executable, str(script)], env=PRODUCTION | {"DJANGO_SETTINGS_MODULE": "chatapp.settings"}
    )

    assert checked.returncode == 0, checked.stderr
    as_it_is, under_djangos_names = json.loads(checked.stdout)
    assert as_it_is == []
    # To have browsers preload HSTS binds the whole domain for good: that is for the operator to decide.
    assert under_djangos_names == ["security.W021"]
