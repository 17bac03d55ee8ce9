"""What PostgreSQL keeps of the price book: raw SQL, as an operator or a mistake of ours could send it, is refused."""

import uuid
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone

from accounts.models import User
from billing.models import LanguageModel, Price
from billing.models.catalogue import KINDS, LEAST_MARKUP, MOST_FEE, MOST_MARKUP, MOST_USD
from tests.billing.books import CREDIT, at_once, commit_would_follow, open_turn, refused, sql

IN_FORCE = "has come into force and is fixed: a new price is a new row"
BEYOND_REASON = "prices_are_within_reason|a_tier_has_all_its_prices|numeric field overflow"
TIER = {"tier_tokens": 1000, **{f"tier_{kind}_usd": Decimal(2) for kind in KINDS}}


@pytest.fixture
def model(db: None) -> LanguageModel:
    return LanguageModel.objects.create(id="m", name="M", context_tokens=200_000, max_output_tokens=10_000)


def row(model: LanguageModel, *, begins_in: timedelta, **columns: Any) -> Price:
    usd = {f"{kind}_usd": Decimal(1) for kind in KINDS}
    return Price.objects.create(model=model, effective_from=timezone.now() + begins_in, **usd | columns)


@pytest.fixture
def ahead(model: LanguageModel) -> Price:
    return row(model, begins_in=timedelta(days=1), **TIER)


# --- Rows in use are fixed -------------------------------------------------------------------------------

EVERY_COLUMN = [
    "input_usd = 2",
    "output_usd = output_usd",
    "cache_read_usd = 0",
    "markup = 1.5",
    "flat_fee = 1",
    "effective_from = now() + interval '1 day'",
    "model_id = 'claude-opus-5'",
    "id = -1",
    "tier_tokens = 1, tier_input_usd = 1, tier_output_usd = 1, tier_cache_read_usd = 1,"
    " tier_cache_write_5m_usd = 1, tier_cache_write_1h_usd = 1",
]


@pytest.mark.parametrize("age", [timedelta(0), timedelta(minutes=1), timedelta(days=400)])
@pytest.mark.parametrize("assignment", EVERY_COLUMN)
def test_a_row_that_has_come_into_force_is_not_changed(
    assignment: str, age: timedelta, model: LanguageModel
) -> None:
    fixed = row(model, begins_in=-age)
    with refused(IN_FORCE):
        sql(f"UPDATE billing_price SET {assignment} WHERE id = %s", fixed.pk)


def test_a_row_that_has_come_into_force_is_not_deleted(model: LanguageModel) -> None:
    fixed = row(model, begins_in=timedelta(0))
    with refused(IN_FORCE):
        sql("DELETE FROM billing_price WHERE id = %s", fixed.pk)
    commit_would_follow()
    with refused("the price book is not emptied"):
        sql("TRUNCATE billing_price CASCADE")


def test_a_row_that_lies_ahead_is_changed_and_deleted(ahead: Price) -> None:
    sql("UPDATE billing_price SET input_usd = 3, markup = 2 WHERE id = %s", ahead.pk)
    sql("UPDATE billing_price SET effective_from = now() + interval '9 days' WHERE id = %s", ahead.pk)
    commit_would_follow()
    ahead.refresh_from_db()
    assert (ahead.input_usd, ahead.markup) == (3, 2)
    sql("DELETE FROM billing_price WHERE id = %s", ahead.pk)
    commit_would_follow()
    assert not Price.objects.filter(pk=ahead.pk).exists()


def test_a_row_that_a_turn_was_held_at_is_fixed_whatever_its_date(ahead: Price, alice: User) -> None:
    open_turn(alice, CREDIT, price=ahead)
    with refused("is fixed: a turn was held at it"):
        sql("UPDATE billing_price SET input_usd = 3 WHERE id = %s", ahead.pk)
    with refused("is fixed: a turn was held at it"):
        sql("DELETE FROM billing_price WHERE id = %s", ahead.pk)


def test_a_temporary_table_does_not_hide_the_turns(ahead: Price, alice: User) -> None:
    open_turn(alice, CREDIT, price=ahead)
    sql("CREATE TEMPORARY TABLE conversations_turn (LIKE public.conversations_turn)")
    with refused("is fixed: a turn was held at it"):
        sql("UPDATE billing_price SET input_usd = 3 WHERE id = %s", ahead.pk)
    sql("DROP TABLE pg_temp.conversations_turn")


@pytest.mark.parametrize("change", ["UPDATE billing_price SET input_usd = 3", "DELETE FROM billing_price"])
def test_what_comes_into_force_before_the_commit_is_not_changed(change: str, model: LanguageModel) -> None:
    soon = row(model, begins_in=timedelta(seconds=0.5))
    with refused(IN_FORCE):
        sql(f"{change} WHERE id = %s", soon.pk)
        sql("SELECT pg_sleep_until(%s)", soon.effective_from + timedelta(milliseconds=1))


# --- What was in force stays ------------------------------------------------------------------------------

INTO_THE_PAST = {
    "INSERT": """
        INSERT INTO billing_price (model_id, effective_from, input_usd, output_usd, cache_write_5m_usd,
            cache_write_1h_usd, cache_read_usd, flat_fee, markup)
        SELECT model_id, %s, input_usd, output_usd, cache_write_5m_usd, cache_write_1h_usd, cache_read_usd, flat_fee,
            markup FROM billing_price WHERE id = %s
    """,
    "UPDATE": "UPDATE billing_price SET effective_from = %s WHERE id = %s",
}


@pytest.mark.parametrize("statement", INTO_THE_PAST)
def test_no_price_takes_the_place_of_one_that_was_in_force(
    statement: str, model: LanguageModel, ahead: Price
) -> None:
    first = row(model, begins_in=-timedelta(days=9))
    second = row(model, begins_in=timedelta(seconds=-30))
    for past in (first.effective_from + timedelta(seconds=1), second.effective_from - timedelta(minutes=1)):
        with refused("cannot begin in the past, where another was in force"):
            sql(INTO_THE_PAST[statement], past, ahead.pk)
    sql(INTO_THE_PAST[statement], first.effective_from - timedelta(days=1), ahead.pk)
    commit_would_follow()
    assert Price.objects.now_for(model.pk) == second


def test_a_price_that_has_begun_by_the_commit_is_refused(model: LanguageModel) -> None:
    """Its transaction began long ago: turns have been held at the price before in the meantime."""
    row(model, begins_in=-timedelta(days=9))
    with transaction.atomic():
        late = row(model, begins_in=timedelta(seconds=-58))
        sql("SELECT pg_sleep_until(%s)", late.effective_from + timedelta(seconds=60.001))
        with refused("cannot begin in the past, where another was in force"):
            commit_would_follow()
        transaction.set_rollback(True)


def test_who_enters_a_price_waits_for_who_entered_one_before(committed_db: None) -> None:
    """Else neither would find a price in force, and the second would take the first one's place."""
    id_ = f"model-{uuid.uuid4().hex}"
    model = LanguageModel.objects.create(
        id=id_, name="M", context_tokens=200_000, max_output_tokens=10_000, on_sale=False
    )

    def enter_a_later_one() -> None:
        with transaction.atomic():
            sql("SET LOCAL lock_timeout = '100ms'")
            row(model, begins_in=-timedelta(days=8))

    with transaction.atomic():
        row(model, begins_in=-timedelta(days=9))
        [meanwhile] = at_once([enter_a_later_one])
    [afterwards] = at_once([enter_a_later_one])
    assert "lock timeout" in str(meanwhile)
    assert "cannot begin in the past" in str(afterwards)


# --- Figures are within reason ---------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["", "tier_"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "-0.000001", "1000.000001", "9999"])
def test_a_price_beyond_reason_is_refused(value: str, kind: str, prefix: str, ahead: Price) -> None:
    with refused(BEYOND_REASON):
        sql(f"UPDATE billing_price SET {prefix}{kind}_usd = %s::numeric WHERE id = %s", value, ahead.pk)


@pytest.mark.parametrize("prefix", ["", "tier_"])
def test_output_is_never_free(prefix: str, ahead: Price) -> None:
    with refused(BEYOND_REASON):
        sql(f"UPDATE billing_price SET {prefix}output_usd = 0 WHERE id = %s", ahead.pk)


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("markup", ["NaN", "Infinity", "0", "-1", "0.0099", "20.0001"]),
        ("flat_fee", ["NaN", "Infinity", "-0.000001", "1000.000001"]),
        ("tier_tokens", ["0", "-1"]),
    ],
)
def test_our_share_and_a_tiers_size_are_within_reason(column: str, values: list[str], ahead: Price) -> None:
    for value in values:
        with refused(f"{BEYOND_REASON}|tier_tokens_check"):
            sql(f"UPDATE billing_price SET {column} = %s::numeric WHERE id = %s", value, ahead.pk)


@pytest.mark.parametrize("missing", TIER)
def test_a_tier_has_all_its_prices_or_none(missing: str, ahead: Price) -> None:
    with refused("a_tier_has_all_its_prices"):
        sql(f"UPDATE billing_price SET {missing} = NULL WHERE id = %s", ahead.pk)
    every = ", ".join(f"{column} = NULL" for column in TIER)
    sql(f"UPDATE billing_price SET {every} WHERE id = %s", ahead.pk)


def test_the_bounds_are_those_of_the_form(ahead: Price) -> None:
    """What the form takes at most and at least, PostgreSQL takes too."""
    most = {f"{kind}_usd": MOST_USD for kind in KINDS} | {"flat_fee": MOST_FEE, "markup": MOST_MARKUP}
    for name, value in most.items():
        setattr(ahead, name, value)
    ahead.full_clean()
    ahead.save()
    ahead.markup, ahead.flat_fee, ahead.input_usd = LEAST_MARKUP, Decimal(0), Decimal(0)
    ahead.cache_read_usd = Decimal(0)
    ahead.full_clean()
    ahead.save()
