"""The public page, the health of the process, refused forms, and the checks before a start."""

from datetime import timedelta
from decimal import Decimal

import httpx
import pytest
from django.core.checks import CheckMessage
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.db import connection
from django.utils import timezone
from pytest_django import Settings

from accounts.models import User
from billing.models import LanguageModel, Pack, Price
from chatapp.checks import models_on_sale_can_be_sold
from tests.calling import browser_of, refused, visitor
from tests.stack import Stack


def text(path: str) -> str:
    answer = visitor().get(path)
    assert answer.status_code == 200
    return answer.content.decode()


# --- /


def test_the_public_page_tells_the_prices_and_the_packs(db: None) -> None:
    price = Price.objects.now_for("claude-haiku-5-5")
    price.pk, price.effective_from, price.markup = None, timezone.now(), Decimal("1.2")
    price.save()
    Pack.objects.filter(name="Plenty").update(on_sale=False)
    LanguageModel.objects.filter(pk="claude-fable-5-2").update(on_sale=False)

    page = text("/")

    assert "Sonnet 5.5" in page
    for price in ("200", "1,000", "12", "60"):  # Sonnet's, and Haiku's 10 and 50 with the markup
        assert f'<td class="number">{price}</td>' in page
    assert "Fable" not in page
    assert "500 credits" in page
    assert "$5, paid once" in page
    assert "Plenty" not in page
    assert "100 credits to start with" in page


def test_the_public_page_stands_without_models_packs_and_gifts(db: None, settings: Settings) -> None:
    LanguageModel.objects.update(on_sale=False)
    settings.STRIPE_SECRET_KEY = ""
    settings.SIGNUP_CREDITS = Decimal(0)

    page = text("/")

    assert "No model is on sale at the moment." in page
    assert "Credit packs" not in page
    assert "to start with" not in page


def test_who_is_signed_in_goes_to_the_chat(db: None, alice: User) -> None:
    answer = browser_of(alice).get("/")
    assert (answer.status_code, answer["Location"]) == (302, "/chat/")


def test_a_refused_form_says_what_to_do(db: None, alice: User) -> None:
    browser = browser_of(alice)
    page = browser.post("/settings/", {"name": "Eve"})
    assert page.status_code == 403
    assert "Reload it and try again" in page.content.decode()

    status, problem = refused(browser.post("/api/v1/openapi.json"))
    assert (status, problem["code"]) == (403, "forbidden")


def test_the_icon_is_found_where_nobody_was_told_of_it(stack: Stack) -> None:
    with httpx.Client(base_url=stack.url, timeout=30) as client:
        moved = client.get("/favicon.ico")
        assert (moved.status_code, moved.headers["Cache-Control"]) == (301, "public, max-age=86400")
        icon = client.get(moved.headers["Location"])
    assert (icon.status_code, icon.headers["Content-Type"]) == (200, "image/svg+xml")


# --- Health


def test_the_process_says_that_it_is_up_without_asking_anybody(db: None) -> None:
    with connection.execute_wrapper(_refuse):
        answer = visitor().get("/healthz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
    assert "no-store" in answer["Cache-Control"]


def _refuse(*_query: object) -> None:
    raise AssertionError("a query was made")


def test_readiness_tells_of_the_database_valkey_and_a_worker(stack: Stack) -> None:
    with httpx.Client(base_url=stack.url, timeout=30) as client:

        def told() -> dict[str, bool]:
            answer = client.get("/readyz")
            assert answer.status_code == 200
            assert "no-store" in answer.headers["Cache-Control"]
            return answer.json()

        stack.wait_until(
            lambda: told() == {"database": True, "redis": True, "worker": True}, "the worker is up"
        )
        stack.worker.kill()
        assert told() == {"database": True, "redis": True, "worker": False}
        stack.valkey.kill()
        assert told() == {"database": True, "redis": False, "worker": False}


# --- Checks


def warnings() -> list[tuple[str, str]]:
    found: list[CheckMessage] = models_on_sale_can_be_sold(databases=["default"])
    assert all(warning.hint for warning in found)
    return [(str(warning.id), warning.msg) for warning in found]


def test_a_new_installation_has_nothing_to_warn_of(db: None) -> None:
    assert warnings() == []


@pytest.mark.parametrize(("days", "warned"), [(-1, True), (0, True), (30, True), (31, False)])
def test_a_model_on_sale_that_retires_within_a_month_is_warned_of(db: None, days: int, warned: bool) -> None:
    retires = timezone.now().date() + timedelta(days=days)
    LanguageModel.objects.filter(pk="claude-opus-5-5").update(retires_on=retires)
    LanguageModel.objects.filter(pk="claude-opus-4-5").update(retires_on=retires)  # not on sale

    sentence = f"claude-opus-5-5 is on sale and retires on {retires}."
    assert warnings() == ([("chatapp.W001", sentence)] if warned else [])


def test_a_model_on_sale_without_a_price_in_force_is_warned_of(db: None) -> None:
    new = LanguageModel.objects.create(
        id="claude-next", name="Next", context_tokens=200_000, max_output_tokens=8192, position=99
    )
    price = Price.objects.now_for("claude-opus-5-5")
    price.pk, price.model, price.effective_from = None, new, timezone.now() + timedelta(1)
    price.save()

    assert warnings() == [
        ("chatapp.W002", "claude-next is on sale without a price in force, so nobody can choose it.")
    ]


def test_the_checks_run_when_the_database_is_checked(db: None) -> None:
    LanguageModel.objects.filter(pk="claude-opus-5-5").update(retires_on=timezone.now().date())

    with pytest.raises(SystemCheckError, match=r"chatapp\.W001"):
        call_command("check", databases=["default"], fail_level="WARNING")
    assert models_on_sale_can_be_sold() == []
