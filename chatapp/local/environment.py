"""The settings a local run starts with: what the developer chose, and what is arranged for the rest."""

import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import environ

from chatapp.local.process import CLONE, write_private

NAMES = re.compile(r"^(?:# )?([A-Z][A-Z_]+)=", re.MULTILINE)


@dataclass(frozen=True)
class Arranged:
    """All the settings of a run, and which stand-ins it needs."""

    settings: dict[str, str]
    demo_claude: bool
    demo_stripe: bool


def arrange(chosen: Mapping[str, str], *, claude_url: str, stripe_url: str, secrets_in: Path) -> Arranged:
    """Complete what the developer chose: a stand-in for each service that was neither given a key nor an address.

    An address without a key is another emulator's, which takes any key. Outside DEBUG nothing is made up.
    """
    debug = chosen.get("DEBUG", "true").lower() in {"true", "1", "yes", "on"}
    settings = {"DEBUG": "true", "SECRET_KEY": kept_secret(secrets_in / "secret-key"), **chosen}
    if not debug:
        return Arranged(settings, demo_claude=False, demo_stripe=False)
    demo_claude = not {"ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL"} & chosen.keys()
    demo_stripe = not {"STRIPE_SECRET_KEY", "STRIPE_API_BASE"} & chosen.keys()
    if demo_claude:
        settings |= {"ANTHROPIC_BASE_URL": claude_url, "CHATAPP_DEMO_CLAUDE": "true"}
    if demo_stripe:
        settings |= {"STRIPE_API_BASE": stripe_url, "CHATAPP_DEMO_STRIPE": "true"}
    if "ANTHROPIC_BASE_URL" in settings:
        settings.setdefault("ANTHROPIC_API_KEY", "sk-ant-any")
    if "STRIPE_API_BASE" in settings and "STRIPE_SECRET_KEY" not in settings:
        settings["STRIPE_SECRET_KEY"] = "sk_test_any"  # noqa: S105
        settings.setdefault("STRIPE_WEBHOOK_SECRET", "whsec_" + kept_secret(secrets_in / "webhook-secret"))
    return Arranged(settings, demo_claude, demo_stripe)


def chosen_settings() -> dict[str, str]:
    """What the developer set, in the environment or else in `.env`; a blank value is none, as in settings.py."""
    files = os.environ.get("CHATAPP_ENV_FILES", ".env").split(",")
    written = _values_in(CLONE / ".env") if ".env" in files else {}
    values = {**written, **{name: value for name, value in os.environ.items() if value.strip()}}
    return {name: values[name].strip() for name in setting_names() if values.get(name, "").strip()}


def without_settings(env: Mapping[str, str]) -> dict[str, str]:
    """`env` less every setting of Chatapp: what is left is the machine's."""
    names = setting_names()
    return {
        name: value for name, value in env.items() if name not in names and not name.startswith("CHATAPP_")
    }


def setting_names() -> set[str]:
    """Every setting there is: `.env.example` lists them all."""
    return set(NAMES.findall((CLONE / ".env.example").read_text()))


def kept_secret(file: Path) -> str:
    """A random secret that stays the same from run to run."""
    if not file.exists():
        write_private(file, secrets.token_urlsafe(50))
    return file.read_text()


def write_settings(file: Path, settings: Mapping[str, str]) -> None:
    """Write them as an env file that only its owner can read."""
    write_private(file, "".join(f"{name}={value}\n" for name, value in sorted(settings.items())))


def _values_in(file: Path) -> dict[str, str]:
    class Reader(environ.Env):
        ENVIRON: dict[str, str] = {}

    if file.is_file():
        Reader.read_env(file)
    return Reader.ENVIRON
