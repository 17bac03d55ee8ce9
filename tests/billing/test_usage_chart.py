"""The chart of use: what it adds up to, how high its bars are, and which days can be chosen."""

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from itertools import pairwise

import pytest
from django.db.models import Sum
from django.test import Client
from django.utils import timezone

from accounts.models import User
from billing import ledger, usage_chart
from billing.models import Account, LanguageModel, Transfer
from billing.pricing import Usage
from billing.usage_chart import Chart, Period
from tests.billing.answering import answered, chat
from tests.billing.books import CREDIT, close_turn, open_turn

HAIKU, SONNET, OPUS = "claude-haiku-5-5", "claude-sonnet-5-5", "claude-opus-5-5"
FIRST, LAST = date(2026, 2, 1), date(2026, 2, 28)
FEBRUARY = Period(FIRST, LAST, "2026-02")


def noon(day: date) -> datetime:
    return datetime.combine(day, time(12), UTC)


def chart(user: User) -> Chart:
    return usage_chart.chart(user, FEBRUARY)


def test_days_and_models_add_up_to_what_was_charged(alice: User, bob: User) -> None:
    for number, model in enumerate([SONNET, HAIKU, SONNET, OPUS]):
        answered(
            alice, model=model, usage=Usage(1_001, 501, 7, 3, 1), at=noon(FIRST + timedelta(days=number // 2))
        )
    answered(bob, at=noon(FIRST))
    shown = chart(alice)
    charged = Transfer.objects.filter(debit=ledger.wallet_of(alice), kind="charge").aggregate(
        all=Sum("amount")
    )
    assert shown.charged == charged["all"] == sum(day.charged for day in shown.days)
    assert [(total.name, total.answers) for total in shown.totals] == [
        (name, {"Sonnet 5.5": 2, "Haiku 5.5": 1, "Opus 5.5": 1}[name])
        for name in LanguageModel.objects.filter(pk__in=[SONNET, HAIKU, OPUS]).values_list("name", flat=True)
    ]
    assert (shown.answers, shown.prompt_tokens, shown.output_tokens) == (4, 4 * 1_012, 4 * 501)
    for index, total in enumerate(shown.totals):
        assert total.charged == sum(day.cells[index] or 0 for day in shown.days)
    assert [day.day for day in shown.days_with_use] == [FIRST, FIRST + timedelta(days=1)]
    assert len(shown.days) == 28


def test_days_are_those_of_utc_and_both_ends_belong(alice: User) -> None:
    begin = datetime.combine(FIRST, time(), UTC)
    end = datetime.combine(LAST, time.max, UTC)
    for at in (begin - timedelta(microseconds=1), begin, end, end + timedelta(microseconds=1)):
        answered(alice, at=at)
    assert [day.day for day in chart(alice).days_with_use] == [FIRST, LAST]


def test_what_was_not_charged_is_no_use(alice: User) -> None:
    close_turn(open_turn(alice, CREDIT), 0)
    shown = usage_chart.chart(alice, usage_chart.periods(ledger.wallet_of(alice))[0])
    assert shown.totals == []
    assert shown.charged == 0


def test_use_outlives_the_chat(alice: User) -> None:
    talk = chat(alice)
    answered(alice, conversation=talk, at=noon(FIRST))
    talk.delete()
    assert chart(alice).charged == 700_000


def test_bars_are_as_high_as_what_they_stand_for_and_never_too_low_to_be_seen(alice: User) -> None:
    answered(alice, usage=Usage(output_tokens=1_000), at=noon(FIRST))  # 1 credit
    answered(alice, usage=Usage(output_tokens=1_000), model=OPUS, at=noon(FIRST))  # 2 credits
    answered(alice, usage=Usage(output_tokens=1), at=noon(LAST))
    shown = chart(alice)
    assert (shown.top, shown.half) == (4, 2)
    first, last = shown.days[0], shown.days[-1]
    assert {piece.name: piece.height for piece in first.pieces} == {"Sonnet 5.5": 25, "Opus 5.5": 50}
    assert min(piece.y for piece in first.pieces) == 25
    assert max(piece.y + piece.height for piece in first.pieces) == 100
    assert [piece.height for piece in last.pieces] == [usage_chart.LEAST_HEIGHT]
    assert [piece.x for piece in last.pieces] == [27 * usage_chart.DAY_WIDTH]


@pytest.mark.parametrize(
    ("most", "top"),
    [(0, "0.01"), (10_000, "0.01"), (10_001, "0.02"), (999_999, "1"), (6_300_000, "8"), (10**13, "1e7")],
)
def test_the_scale_ends_at_a_round_figure(most: int, top: str) -> None:
    assert usage_chart._round_figure(most) == Decimal(top) * CREDIT


def test_every_month_since_the_wallet_was_opened_can_be_chosen(alice: User) -> None:
    wallet = ledger.wallet_of(alice)
    today = timezone.now().astimezone(UTC).date()
    Account.objects.filter(pk=wallet.pk).update(created_at=noon(today.replace(day=1) - timedelta(days=40)))
    wallet.refresh_from_db()
    latest, *months = usage_chart.periods(wallet)
    assert (latest.name, latest.first, latest.last) == ("Last 30 days", today - timedelta(days=29), today)
    assert months[0].month == f"{today:%Y-%m}"
    assert len(months) in (2, 3)
    for newer, older in pairwise(months):
        assert older.last == newer.first - timedelta(days=1)
        assert older.first.day == 1


def test_the_page_shows_the_month_that_was_chosen(alice: User, client: Client) -> None:
    answered(alice)
    client.force_login(alice, backend="django.contrib.auth.backends.ModelBackend")
    month = f"{timezone.now().astimezone(UTC):%Y-%m}"
    html = client.get("/billing/", {"month": month, "kind": "charge"}).content.decode()
    assert f'<option value="{month}" selected>' in html
    assert "0.700000" in html
    # Choosing other days keeps the lines that were chosen, and the other way round.
    assert '<input type="hidden" name="kind" value="charge">' in html
    assert f'<input type="hidden" name="month" value="{month}">' in html
    assert html.count('<rect class="model-') == 2, "one bar, and its model's colour"


def test_who_has_used_nothing_is_told_so(bob: User, alice: User, client: Client) -> None:
    answered(alice)
    client.force_login(bob, backend="django.contrib.auth.backends.ModelBackend")
    html = client.get("/billing/").content.decode()
    assert "No answers were paid for in these days." in html
    assert '<rect class="model-' not in html
