"""The first page: what happened today, in seven days and in thirty."""

import json
import re
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from html import unescape

from django.core.checks import INFO
from django.db import transaction
from django.test import Client
from django.utils import timezone

from accounts.demo import DEMO_EMAILS
from accounts.models import User
from billing import ledger
from billing.fulfilment import PAID_BY_NOBODY
from billing.models import Account, LanguageModel, MoneyBack, Order, Price
from chatapp import checks, dashboard
from chatapp.dashboard import Sums
from chatapp.money_pages import NEEDED
from tests.admin.conftest import browser_of
from tests.admin.desk import allow, ended_turn, page
from tests.billing.books import (
    CREDIT,
    give,
    grant,
    mark_paid,
    open_turn,
    order,
    pay,
    sql,
    unguarded,
    wallet_of,
)

NOW = datetime(2031, 3, 9, 0, 30, tzinfo=UTC)
TODAY = NOW.date()


def sums(days: int) -> Sums:
    """Of so many days up to TODAY, in which nothing happens but what a test here makes happen."""
    return dashboard.added_up(list(dashboard.sums_per_day(TODAY).values())[-days:])


def ago(days: int) -> datetime:
    return NOW - timedelta(days=days)


def test_turns_count_on_the_day_they_ended(alice: User) -> None:
    ended_turn(alice, ended_at=NOW, price=5, cost=3)
    ended_turn(alice, ended_at=NOW - timedelta(minutes=31), price=70, cost=80)
    ended_turn(alice, ended_at=ago(29), price=900, held=800, cost=900)
    ended_turn(alice, ended_at=ago(30), price=1000, cost=1)
    assert [sums(days).turns for days in (1, 2, 7, 30)] == [1, 2, 2, 3]
    assert [sums(days).charged for days in (1, 7, 30)] == [5, 75, 875]
    assert [sums(days).cost for days in (1, 7, 30)] == [3, 83, 983]
    assert [sums(days).margin for days in (1, 7, 30)] == [2, -8, -108]
    assert (sums(7).overruns, sums(7).overrun) == (0, 0)
    assert (sums(30).overruns, sums(30).overrun) == (1, 100)


def test_failed_turns_are_told_apart(alice: User) -> None:
    for state in ("completed", "stopped", "abandoned", "failed", "interrupted"):
        ended_turn(alice, ended_at=NOW, state=state)
    assert (sums(1).turns, sums(1).failed) == (5, 2)


def test_signups_and_payments_count_on_their_day(alice: User, bob: User) -> None:
    User.objects.filter(pk=alice.pk).update(date_joined=NOW)
    User.objects.filter(pk=bob.pk).update(date_joined=ago(6))
    for user, currency, cents, at in (
        (alice, "usd", 1999, NOW),
        (bob, "usd", 1, ago(1)),
        (bob, "eur", 500, ago(6)),
    ):
        bought = order(user, 500 * CREDIT, currency=currency)
        pay(bought, paid_cents=cents)
        with unguarded("billing_order"):
            Order.objects.filter(pk=bought.pk).update(paid_at=at)
    MoneyBack.objects.create(order=bought, reversal="refund:1", cents=200, created_at=NOW)
    order(alice, CREDIT)
    assert [sums(days).signups for days in (1, 6, 7)] == [1, 1, 2]
    assert [sums(days).taken for days in (1, 6, 7)] == ["−€2 + $19.99", "−€2 + $20", "€3 + $20"]


def test_who_has_left_signed_up_all_the_same_and_a_demo_login_is_nobody(alice: User, bob: User) -> None:
    before = sums(7).signups
    User.objects.filter(pk=alice.pk).update(date_joined=NOW)
    wallet_of(alice)
    Account.objects.filter(user=alice).update(created_at=NOW)
    for email in DEMO_EMAILS:
        wallet_of(User.objects.get_or_create(email=email)[0])
    demo = User.objects.filter(email__in=DEMO_EMAILS)
    demo.update(date_joined=NOW)
    Account.objects.filter(user__in=demo).update(created_at=NOW)
    bought = order(bob, 500 * CREDIT)
    User.objects.get(pk=bob.pk).delete()
    with transaction.atomic():
        mark_paid(Order.objects.get(pk=bought.pk))
        wallet = Account.objects.create(kind="wallet", created_at=NOW)
        ledger.purchase(wallet=wallet, order=bought, reason=PAID_BY_NOBODY)
    assert (sums(1).signups, sums(7).signups) == (1, before + 1)
    for user in (*demo, alice):
        user.delete()
    assert (sums(1).signups, sums(7).signups) == (1, before + 1)


def test_days_on_which_nothing_happened_are_there_too(db: None) -> None:
    days = dashboard.sums_per_day(date(2031, 3, 1))
    assert list(days) == [date(2031, 1, 31) + timedelta(days=day) for day in range(30)]
    assert set(map(repr, days.values())) == {repr(Sums())}


def test_bought_credits_and_those_taken_back(alice: User) -> None:
    today = timezone.now().date()
    before = dashboard.sums_per_day(today)[today]
    bought = order(alice, 500 * CREDIT)
    pay(bought)
    wallet = wallet_of(alice)
    sql(
        "INSERT INTO billing_transfer"
        " (key, kind, debit_id, credit_id, amount, balance_after, order_id, reason, made_by)"
        " SELECT 'refund:test', 'refund', %s, id, %s, %s, %s, '', '' FROM billing_account WHERE kind = 'stripe'",
        *(wallet.pk, 200 * CREDIT, wallet.balance - 200 * CREDIT, bought.pk),
    )
    after = dashboard.sums_per_day(today)[today]
    assert after.bought - before.bought == 500 * CREDIT
    assert after.reversed - before.reversed == 200 * CREDIT


def test_what_the_house_owes_is_the_sum_of_all_wallets(alice: User) -> None:
    before = dashboard.standing()
    give(alice, 20 * CREDIT)
    open_turn(alice, 5 * CREDIT)
    after = dashboard.standing()
    assert after.outstanding - before.outstanding == 120 * CREDIT
    assert after.held - before.held == 5 * CREDIT
    assert after.running - before.running == 1


def test_the_page_shows_figures_and_charts(desk: Client, alice: User) -> None:
    ended_turn(alice, price=CREDIT, cost=CREDIT // 2)
    shown = page(desk, "/admin/")
    for words in (
        "Credits outstanding",
        "Today 7 days 30 days",
        "Sign-ups",
        "Provider’s cost",
        "Margin",
        "Overruns",
    ):
        assert words in shown
    charts = re.findall(r'data-type="bar" data-value="([^"]+)"', desk.get("/admin/").content.decode())
    credits, turns = (json.loads(unescape(chart)) for chart in charts)
    assert [len(credits["labels"]), len(turns["labels"])] == [30, 30]
    charged, cost = (dict(zip(credits["labels"], data["data"], strict=True)) for data in credits["datasets"])
    label = f"{timezone.now():%-d %b}"
    assert float(charged[label]) >= 1
    assert float(cost[label]) >= 0.5
    assert {data["label"]: data["data"][-1] for data in turns["datasets"]}["turns"] >= 1


def test_figures_are_for_who_may_see_all_of_them(clerk: User) -> None:
    allow(clerk, *NEEDED[1:])
    assert "Credits outstanding" not in page(browser_of(clerk), "/admin/")
    allow(clerk, NEEDED[0])
    assert "Credits outstanding" in page(browser_of(clerk), "/admin/")


def test_what_was_given_and_what_expired_are_told(alice: User) -> None:
    today = timezone.now().date()
    before = dashboard.sums_per_day(today)[today]
    wallet_of(alice)
    grant(alice, 5 * CREDIT)
    after = dashboard.sums_per_day(today)[today]
    assert after.given - before.given == 105 * CREDIT
    assert after.expired == before.expired


def test_what_is_wrong_with_the_catalogue_is_said_with_a_way_to_mend_it(desk: Client) -> None:
    """As `manage.py check` says it: a model that retires, one without a price, and what is sold at cost."""
    LanguageModel.objects.filter(pk="claude-opus-5-5").update(retires_on=timezone.now().date())
    LanguageModel.objects.create(
        id="claude-next", name="Next", context_tokens=200_000, max_output_tokens=8192, position=99
    )
    assert [warning.id for warning in checks.models_on_sale_can_be_sold(databases=["default"])] == [
        *("chatapp.W001", "chatapp.W002"),
    ]
    shown = page(desk, "/admin/")
    assert "claude-opus-5-5 is on sale and retires on" in shown
    assert "claude-next is on sale without a price in force, so nobody can choose it." in shown
    assert (
        "Sold at cost, without a margin: claude-sonnet-5-5, claude-haiku-5-5, claude-opus-5-5, claude-fable-5-2"
        in shown
    )
    html = desk.get("/admin/").content.decode()
    assert "/admin/billing/languagemodel/claude-opus-5-5/change/" in html
    assert "/admin/billing/price/add/?model=claude-next" in html


def test_a_model_with_a_markup_or_a_fee_is_not_sold_at_cost(db: None) -> None:
    for model, share in (("claude-opus-5-5", {"markup": "1.2"}), ("claude-haiku-5-5", {"flat_fee": "1"})):
        price = Price.objects.now_for(model)
        price.pk, price.effective_from = None, timezone.now()
        for name, value in share.items():
            setattr(price, name, Decimal(value))
        price.save()
    (told,) = checks.models_on_sale_earn_something(databases=["default"])
    assert (told.id, told.level) == ("chatapp.I001", INFO)
    assert told.msg == "Sold at cost, without a margin: claude-sonnet-5-5, claude-fable-5-2."
    LanguageModel.objects.update(on_sale=False)
    assert checks.models_on_sale_earn_something(databases=["default"]) == []
    assert checks.models_on_sale_earn_something() == []
