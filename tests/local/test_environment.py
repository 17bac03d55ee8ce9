"""What `make run` makes of the settings a developer chose."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from chatapp.local.environment import Arranged, arrange, chosen_settings, setting_names, write_settings
from chatapp.local.process import CLONE

Arrange = Callable[..., Arranged]


@pytest.fixture
def arranged(tmp_path: Path) -> Arrange:
    def arranged(**chosen: str) -> Arranged:
        return arrange(chosen, claude_url="http://claude", stripe_url="http://stripe", secrets_in=tmp_path)

    return arranged


def test_with_no_keys_both_stand_ins_are_used(arranged: Arrange) -> None:
    run = arranged()
    assert run.demo_claude
    assert run.demo_stripe
    assert run.settings["DEBUG"] == "true"
    assert run.settings["ANTHROPIC_BASE_URL"] == "http://claude"
    assert run.settings["STRIPE_API_BASE"] == "http://stripe"
    assert run.settings["CHATAPP_DEMO_CLAUDE"] == run.settings["CHATAPP_DEMO_STRIPE"] == "true"
    assert run.settings["ANTHROPIC_API_KEY"]
    assert run.settings["STRIPE_SECRET_KEY"]
    assert run.settings["STRIPE_WEBHOOK_SECRET"].startswith("whsec_")


def test_a_key_is_for_the_real_service(arranged: Arrange) -> None:
    run = arranged(ANTHROPIC_API_KEY="sk-ant-mine", STRIPE_SECRET_KEY="sk_test_mine")
    assert not run.demo_claude
    assert not run.demo_stripe
    assert not {"ANTHROPIC_BASE_URL", "STRIPE_API_BASE", "STRIPE_WEBHOOK_SECRET"} & run.settings.keys()
    assert not any(name.startswith("CHATAPP_DEMO") for name in run.settings)


def test_an_address_without_a_key_is_an_emulator_that_takes_any_key(arranged: Arrange) -> None:
    run = arranged(ANTHROPIC_BASE_URL="http://mine", STRIPE_API_BASE="http://mine")
    assert not run.demo_claude
    assert not run.demo_stripe
    assert run.settings["ANTHROPIC_BASE_URL"] == run.settings["STRIPE_API_BASE"] == "http://mine"
    assert run.settings["ANTHROPIC_API_KEY"]
    assert run.settings["STRIPE_SECRET_KEY"]
    assert run.settings["STRIPE_WEBHOOK_SECRET"]


def test_outside_debug_nothing_is_made_up(arranged: Arrange) -> None:
    run = arranged(DEBUG="false")
    assert run.settings.keys() == {"DEBUG", "SECRET_KEY"}
    assert not run.demo_claude
    assert not run.demo_stripe


def test_secrets_are_kept_from_run_to_run(arranged: Arrange) -> None:
    assert arranged().settings == arranged().settings
    assert len(arranged().settings["SECRET_KEY"]) >= 50


def test_a_blank_setting_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", " ")
    monkeypatch.setenv("STRIPE_SECRET_KEY", "sk_test_mine")
    assert "ANTHROPIC_API_KEY" not in chosen_settings()
    assert chosen_settings()["STRIPE_SECRET_KEY"] == "sk_test_mine"


def test_what_is_written_for_another_terminal_is_for_its_owner_only(tmp_path: Path) -> None:
    write_settings(tmp_path / "run.env", {"B": "b=c#d", "A": "a"})
    assert (tmp_path / "run.env").read_text() == "A=a\nB=b=c#d\n"
    assert (tmp_path / "run.env").stat().st_mode & 0o777 == 0o600


def test_every_setting_is_in_the_example() -> None:
    source = (CLONE / "chatapp" / "settings.py").read_text()
    read = set(re.findall(r"\b(?:text|switch|number|choice|listed|url)\(\s*\"([A-Z_]+)\"", source))
    assert "DATABASE_URL" in read
    assert {name for name in read if not name.startswith("CHATAPP_")} <= setting_names()
