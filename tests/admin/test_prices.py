"""The catalogue: packs and models are edited, prices are a book in which rows are added."""

import re
import uuid
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from html import unescape
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.test import Client
from django.utils import timezone

from accounts.models import User
from billing import pricing
from billing.admin.price_form import USD
from billing.models import LanguageModel, Pack, Price, Transfer
from billing.pricing import Usage
from chatapp.conversations.models import Turn
from chatapp.streaming import turns
from chatapp.streaming.live import LiveTurn
from chatapp.streaming.turns import Ask, Outcome
from tests.admin.conftest import browser_of
from tests.admin.desk import allow, ended_turn, page, text_of
from tests.billing.books import CREDIT

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
    # Filled in for a moment that has gone by since.
    assert desk.post(f"{LIST}add/", row(model, timezone.now() - timedelta(minutes=4))).status_code == 302
    assert Price.objects.now_for(model.pk).effective_from > now.effective_from


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
    now, past = (price(model, timezone.now() - timedelta(days=days)) for days in (1, 9))
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
    ended_turn(alice, price_id=ahead.pk)
    assert desk.post(f"{LIST}{ahead.pk}/change/", row(model, input_usd="3")).status_code == 403
    assert desk.post(f"{LIST}{ahead.pk}/delete/", {"post": "yes"}).status_code == 403


def test_the_book_tells_what_a_typical_turn_costs_and_earns(desk: Client, model: LanguageModel) -> None:
    desk.post(f"{LIST}add/", row(model, flat_fee="0.05"))
    price(model, timezone.now() + timedelta(days=9))
    shown = page(desk, LIST, model__id__exact=model.pk)
    # 1,000 tokens at $2 and 500 at $10 a million are 0.7 credits; a fifth more and the fee make 0.89.
    assert "in force 0.890000 earns 0.190000 × 1.2 fee 0.05 2 10 read 0.1 write 2.5, 4" in shown
    assert "lies ahead 0.150000 earns 0.000000 × 1 1 1 read 1 write 1, 1" in shown


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


# --- What the form refuses, asks about, and shows before it saves


@pytest.mark.parametrize("prefix", ["", "tier_"])
@pytest.mark.parametrize(
    ("kind", "usd", "sentence"),
    [
        ("output_usd", "1", "Output is never cheaper than input."),
        ("cache_read_usd", "5", "Reading from the cache is never dearer than input."),
        ("output_usd", "0", "Output cannot be free"),
        ("input_usd", "NaN", "Enter a number."),
        ("input_usd", "Infinity", "Enter a number."),
    ],
)
def test_swapped_figures_are_refused_in_words(
    prefix: str, kind: str, usd: str, sentence: str, desk: Client, model: LanguageModel
) -> None:
    answer = desk.post(f"{LIST}add/", row(model, **TIER | {prefix + kind: usd, "confirmed": "on"}))
    assert answer.status_code == 200
    assert sentence in text_of(answer)
    assert not Price.objects.filter(model=model).exists()


@pytest.fixture
def sold(desk: Client, model: LanguageModel) -> Price:
    """The price of `row` in force."""
    assert desk.post(f"{LIST}add/", row(model, **TIER)).status_code == 302
    return Price.objects.get(model=model)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"output_usd": "100"}, "Output would be 10 times what it is now: 100, not 10."),
        ({"cache_read_usd": "0.01"}, "Cache read would be 1/10 of what it is now: 0.01, not 0.1."),
        ({"tier_output_usd": "900"}, "Tier output would be 45 times what it is now: 900, not 20."),
        (
            {"flat_fee": "50"},
            "A short turn would cost 61 times what it is now: 50.840000 credits, not 0.840000.",
        ),
        ({"markup": "0.5"}, "A short turn would lose 0.350000 credits."),
    ],
)
def test_a_price_out_of_proportion_needs_a_tick(
    fields: dict[str, str], sentence: str, desk: Client, model: LanguageModel, sold: Price
) -> None:
    form = row(model, **TIER | fields)
    answer = desk.post(f"{LIST}add/", form)
    assert "Please confirm what stands below the prices." in text_of(answer)
    assert sentence in preview(desk, form)
    assert list(Price.objects.filter(model=model)) == [sold]
    assert desk.post(f"{LIST}add/", form | {"confirmed": "on"}).status_code == 302
    assert Price.objects.filter(model=model).count() == 2


@pytest.mark.parametrize("fields", [{"output_usd": "99.99"}, {"cache_read_usd": "0.0101"}, {"flat_fee": "7"}])
def test_a_price_in_proportion_is_taken_as_it_is(
    fields: dict[str, str], desk: Client, model: LanguageModel, sold: Price
) -> None:
    assert desk.post(f"{LIST}add/", row(model, **TIER | fields)).status_code == 302


def preview(desk: Client, form: dict[str, Any], **query: object) -> str:
    answer = desk.post(f"{LIST}preview/", form, query_params=query)
    assert answer.status_code == 200
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", answer.content.decode())).split())


def test_the_preview_tells_what_turns_would_cost_and_earn(
    desk: Client, model: LanguageModel, sold: Price
) -> None:
    shown = preview(desk, row(model, **TIER | {"markup": "1.5", "flat_fee": "0.05"}))
    # By hand, in credits, at cost: 1,000 × 2 + 500 × 10; 2,000 × 2 + 45,000 × 0.1 + 3,000 × 2.5 + 1,000 × 10; and in
    # the tier 2,000 × 4 + 100,000 × 0.4 + 3,000 × 5 + 1,000 × 20, each divided by ten thousand.
    assert "Short turn 1,000 500 1.100000 0.700000 0.400000 0.840000" in shown
    assert "Long turn 50,000 1,000 3.950000 2.600000 1.350000 3.120000" in shown
    assert "Turn above the tier 105,000 1,000 12.500000 8.300000 4.200000 9.960000" in shown
    assert Price.objects.filter(model=model).count() == 1


def test_the_preview_says_what_is_wrong_or_doubtful_and_waits_for_the_rest(
    desk: Client, model: LanguageModel, sold: Price
) -> None:
    assert "Output: Output is never cheaper than input." in preview(desk, row(model, output_usd="1"))
    assert "as soon as every price is filled in" in preview(desk, row(model, output_usd=""))
    doubtful = preview(desk, row(model, output_usd="100"))
    assert "Output would be 10 times what it is now: 100, not 10. I have looked at this twice" in doubtful
    assert "Please confirm" not in doubtful
    assert "twice" not in preview(desk, row(model))


def test_the_preview_does_not_repeat_what_is_told_at_its_field(
    desk: Client, model: LanguageModel, sold: Price
) -> None:
    form = row(model, output_usd="1", flat_fee="-1")
    told = re.findall(r'name="told" value="([^"]+)"', desk.post(f"{LIST}add/", form).content.decode())
    assert len(told) == 2
    shown = preview(desk, {**form, "cache_read_usd": "9", "told": told})
    assert "Reading from the cache is never dearer" in shown
    assert "never cheaper" not in shown
    assert "greater than or equal" not in shown


def test_the_preview_of_a_row_that_lies_ahead_is_of_that_row(desk: Client, model: LanguageModel) -> None:
    begins = (timezone.now() + timedelta(days=9)).replace(microsecond=0)
    ahead = price(model, begins)
    assert "Another price" in preview(desk, row(model, begins))
    assert "Another price" not in preview(desk, row(model, begins), price=ahead.pk)


def test_a_row_that_is_fixed_shows_what_its_turns_cost(desk: Client, sold: Price) -> None:
    shown = page(desk, f"{LIST}{sold.pk}/change/")
    assert "Short turn 1,000 500 0.840000 0.700000 0.140000" in shown
    assert "Turn above the tier 105,000 1,000 9.960000 8.300000 1.660000" in shown
    assert "preview/" not in desk.get(f"{LIST}{sold.pk}/change/").content.decode()


def test_prices_are_previewed_by_those_who_may_set_them(
    clerk: User, model: LanguageModel, charlie: User
) -> None:
    allow(clerk, "billing.view_price")
    assert browser_of(clerk).post(f"{LIST}preview/", row(model)).status_code == 403
    assert browser_of(charlie).post(f"{LIST}preview/", row(model)).url.startswith("/admin/login/")
    allow(clerk, "billing.add_price")
    assert browser_of(clerk).post(f"{LIST}preview/", row(model)).status_code == 200
    assert browser_of(clerk).get(f"{LIST}preview/").status_code == 405


def test_a_new_price_touches_no_turn_that_has_begun(desk: Client, alice: User) -> None:
    """A turn is held, and an older one has ended, at the price in force; then the price is raised fivefold."""
    was = Price.objects.now_for("claude-sonnet-5-5")
    past = ended_turn(alice, price=CREDIT)
    ask = Ask(id=uuid.uuid4(), text="Hello", model="claude-sonnet-5-5")
    opened = turns.open(alice, ask).turn
    before = list(Transfer.objects.order_by("pk").values())

    raised = {name: str(getattr(was, name) * 5) for name in USD}
    assert desk.post(f"{LIST}add/", row(was.model, **raised)).status_code == 302
    assert Price.objects.now_for("claude-sonnet-5-5").input_usd == was.input_usd * 5

    usage = Usage(input_tokens=8, output_tokens=100)
    outcome = Outcome(
        model="claude-sonnet-5-5",
        provider="anthropic",
        usage=usage,
        stop_reason="end_turn",
        finished=True,
        counted=True,
    )

    async def live() -> LiveTurn:
        return LiveTurn(turns.started(opened))

    turns.close(opened, async_to_sync(live)(), outcome)
    ended = Turn.objects.get(pk=ask.id)
    assert ended.price == was
    assert (ended.held, ended.charged) == (opened.held, pricing.charge(usage, was))
    assert Turn.objects.get(pk=past.pk).charged == past.charged
    assert list(Transfer.objects.order_by("pk").values())[: len(before)] == before
