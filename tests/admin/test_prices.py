"""The catalogue: packs and models are edited, prices are a book in which rows are added."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.test import Client
from django.utils import timezone

from accounts.models import User
from billing.models import LanguageModel, Pack, Price
from chatapp.conversations.models import Turn
from tests.admin.desk import ended_turn, page, text_of

LIST = "/admin/billing/price/"
TIER = {
    "tier_tokens": "100000",
    "tier_input_usd": "4",
    "tier_output_usd": "20",
    "tier_cache_write_5m_usd": "5",
    "tier_cache_write_1h_usd": "8",
    "tier_cache_read_usd": "0.4",
}


@pytest.fixture
def model(db: None) -> LanguageModel:
    return LanguageModel.objects.create(
        id="claude-test-1", name="Test 1", context_tokens=1_000_000, max_output_tokens=128_000, position=999
    )


def row(model: LanguageModel, begins: datetime | None = None, **fields: str) -> dict[str, str]:
    """What the form sends for a new row; without `begins`, one that starts at once."""
    return {
        "model": model.pk,
        "effective_from_0": f"{begins:%Y-%m-%d}" if begins else "",
        "effective_from_1": f"{begins:%H:%M:%S}" if begins else "",
        "input_usd": "2",
        "output_usd": "10",
        "cache_write_5m_usd": "2.5",
        "cache_write_1h_usd": "4",
        "cache_read_usd": "0.1",
        "markup": "1.2",
        "flat_fee": "0",
        **fields,
    }


def price(model: LanguageModel, begins: datetime) -> Price:
    usd = {f"{kind}_usd": 1 for kind in ("input", "output", "cache_write_5m", "cache_write_1h", "cache_read")}
    return Price.objects.create(model=model, effective_from=begins, **usd)


def test_a_row_begins_at_once_or_on_a_date(desk: Client, model: LanguageModel) -> None:
    next_year = datetime(timezone.now().year + 1, 1, 1, tzinfo=UTC)
    for begins in (None, next_year):
        assert desk.post(f"{LIST}add/", row(model, begins)).status_code == 302
    now, later = Price.objects.filter(model=model).order_by("effective_from")
    assert now == Price.objects.now_for(model.pk)
    assert later.effective_from == next_year
    assert now.markup == Decimal("1.2")


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"input_usd": "-1"}, "greater than or equal to 0"),
        ({"output_usd": "0"}, "Output cannot be free"),
        ({"output_usd": "1000.01"}, "less than or equal to 1000"),
        ({"cache_read_usd": ""}, "This field is required."),
        ({"markup": "0"}, "greater than or equal to 0.01"),
        ({"markup": "21"}, "less than or equal to 20"),
        ({"flat_fee": "-0.5"}, "greater than or equal to 0"),
        ({"input_usd": "two"}, "Enter a number."),
        ({"effective_from_0": "2020-01-01", "effective_from_1": "00:00"}, "A price cannot begin in the past"),
        ({"effective_from_0": "soon"}, "Enter a valid date."),
    ],
)
def test_a_price_that_makes_no_sense_is_refused_in_words(
    fields: dict[str, str], sentence: str, desk: Client, model: LanguageModel
) -> None:
    answer = desk.post(f"{LIST}add/", row(model, **fields))
    assert answer.status_code == 200
    assert sentence in text_of(answer)
    assert not Price.objects.filter(model=model).exists()


@pytest.mark.parametrize("missing", TIER)
def test_a_tier_has_all_its_prices_or_none(missing: str, desk: Client, model: LanguageModel) -> None:
    answer = desk.post(f"{LIST}add/", row(model, **TIER | {missing: ""}))
    assert text_of(answer).count("A tier needs its size and all five prices, or none of them.") == 1
    assert desk.post(f"{LIST}add/", row(model, **TIER)).status_code == 302
    assert Price.objects.get(model=model).tier_output_usd == 20


def test_two_rows_cannot_begin_together(desk: Client, model: LanguageModel) -> None:
    begins = datetime(timezone.now().year + 1, 1, 1, tzinfo=UTC)
    answers = [desk.post(f"{LIST}add/", row(model, begins)) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [302, 200]
    assert "Another price of this model begins at this moment." in text_of(answers[1])


def test_a_row_that_lies_ahead_is_changed_and_deleted(desk: Client, model: LanguageModel) -> None:
    begins = timezone.now() + timedelta(days=9)
    ahead = price(model, begins)
    assert desk.post(f"{LIST}{ahead.pk}/change/", row(model, begins, input_usd="3")).status_code == 302
    ahead.refresh_from_db()
    assert ahead.input_usd == 3
    assert desk.post(f"{LIST}{ahead.pk}/delete/", {"post": "yes"}).status_code == 302
    assert not Price.objects.filter(pk=ahead.pk).exists()


@pytest.mark.parametrize("used", [False, True])
def test_a_row_in_force_or_past_is_only_read(
    used: bool, desk: Client, model: LanguageModel, alice: User
) -> None:
    past, now = (price(model, timezone.now() - timedelta(days=days)) for days in (9, 1))
    if used:
        ended_turn(alice, model=model.pk)
    for fixed in (past, now):
        shown = desk.get(f"{LIST}{fixed.pk}/change/")
        assert shown.status_code == 200
        assert 'name="input_usd"' not in shown.content.decode()
        assert desk.post(f"{LIST}{fixed.pk}/change/", row(model, input_usd="3")).status_code == 403
        assert desk.post(f"{LIST}{fixed.pk}/delete/", {"post": "yes"}).status_code == 403
        fixed.refresh_from_db()
        assert fixed.input_usd == 1


def test_a_row_that_a_turn_was_held_at_is_only_read_whatever_its_date(
    desk: Client, model: LanguageModel, alice: User
) -> None:
    ahead = price(model, timezone.now() + timedelta(days=9))
    Turn.objects.filter(pk=ended_turn(alice).pk).update(price=ahead)
    assert desk.post(f"{LIST}{ahead.pk}/change/", row(model, input_usd="3")).status_code == 403
    assert desk.post(f"{LIST}{ahead.pk}/delete/", {"post": "yes"}).status_code == 403


def test_the_book_tells_what_a_typical_turn_costs_and_earns(desk: Client, model: LanguageModel) -> None:
    desk.post(f"{LIST}add/", row(model, flat_fee="0.05"))
    price(model, timezone.now() + timedelta(days=9))
    shown = page(desk, LIST, model__id__exact=model.pk)
    # 1,000 tokens at $2 and 500 at $10 a million are 0.7 credits; a fifth more and the fee make 0.89.
    assert "in force 0.890000 0.190000 × 1.2 0.05 2 10 2.5 4 0.1 –" in shown
    assert "lies ahead 0.150000 0.000000 × 1 0 1 1 1 1 1 –" in shown


def test_a_new_row_begins_as_a_copy(desk: Client, model: LanguageModel) -> None:
    desk.post(f"{LIST}add/", row(model, **TIER))
    fixed = Price.objects.get(model=model)
    form = desk.get(f"{LIST}{fixed.pk}/replace/", follow=True)
    assert form.status_code == 200
    initial = form.context["adminform"].form
    assert initial["model"].value() == model.pk
    assert Decimal(initial["tier_output_usd"].value()) == 20
    assert Decimal(initial["markup"].value()) == Decimal("1.2")
    assert initial["effective_from"].value() is None


def test_a_model_is_taken_off_sale_and_never_deleted(desk: Client, model: LanguageModel) -> None:
    address = f"/admin/billing/languagemodel/{model.pk}/"
    fields = {
        "name": "Test One",
        "description": "",
        "context_tokens": "1000000",
        "max_output_tokens": "128000",
        "answer_tokens": "4096",
        "position": "998",
        "retires_on": "",
    }
    assert desk.post(f"{address}change/", fields).status_code == 302
    model.refresh_from_db()
    assert (model.name, model.on_sale, model.answer_tokens) == ("Test One", False, 4096)
    assert desk.post(f"{address}delete/", {"post": "yes"}).status_code == 403
    too_long = desk.post(f"{address}change/", fields | {"answer_tokens": "200000"})
    assert "An answer cannot be longer than the model's longest output." in text_of(too_long)


def test_a_model_without_a_price_says_that_it_is_not_offered(desk: Client, model: LanguageModel) -> None:
    assert "no price: not offered" in page(desk, "/admin/billing/languagemodel/")


def test_packs_are_edited(desk: Client) -> None:
    fields = {"name": "Sack", "credits": "1100.5", "price_cents": "1000", "currency": "usd", "position": "7"}
    assert desk.post("/admin/billing/pack/add/", fields | {"on_sale": "on"}).status_code == 302
    pack = Pack.objects.get(name="Sack")
    assert "Sack 1,100.5 $10 +10.0 %" in page(desk, "/admin/billing/pack/")
    assert desk.post(f"/admin/billing/pack/{pack.pk}/change/", fields).status_code == 302
    pack.refresh_from_db()
    assert not pack.on_sale
    for wrong in ({"credits": "-5"}, {"price_cents": "49"}, {"credits": ""}):
        assert desk.post(f"/admin/billing/pack/{pack.pk}/change/", fields | wrong).status_code == 200
