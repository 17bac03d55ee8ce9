"""The operator's books: lines per day, model and user, whose sums are the totals, and what is owed."""

import csv
import io
import re
import uuid
from dataclasses import fields
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from html import unescape
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from accounts.models import User
from billing import ledger
from billing.credits import to_microcredits
from billing.models import MoneyBack, Transfer
from billing.templatetags.amounts import usd
from chatapp import dashboard, money
from chatapp.money import Filters, Line, Span
from chatapp.money_pages import NEEDED
from tests.admin.conftest import browser_of
from tests.admin.desk import allow, ended_turn, page
from tests.billing.books import (
    CREDIT,
    close_turn,
    give,
    grant,
    open_turn,
    order,
    pay,
    sql,
    take_back,
    wallet_of,
)

MONEY = "/admin/money/"
NOON = datetime(2024, 5, 4, 12, tzinfo=UTC)
MAY = Span(date(2024, 5, 1), date(2024, 5, 31))
DAYS = {"first": "2024-05-01", "last": "2024-05-31"}
TOKENS = {
    "input_tokens": 1000,
    "output_tokens": 200,
    "cache_read_tokens": 30,
    "cache_write_5m_tokens": 4,
    "cache_write_1h_tokens": 5,
}


def today() -> date:
    return timezone.now().astimezone(UTC).date()


@pytest.fixture
def used(alice: User, bob: User) -> None:
    """In May 2024: two days and two models of alice's, and one turn of bob's."""
    ended_turn(alice, ended_at=NOON, price=3 * CREDIT, held=4 * CREDIT, cost=2 * CREDIT, **TOKENS)
    ended_turn(alice, ended_at=NOON + timedelta(hours=11, minutes=59), price=0, state="failed", cost=1)
    ended_turn(alice, ended_at=NOON + timedelta(hours=12), model="claude-opus-5-5", price=5, cost=7, **TOKENS)
    ended_turn(bob, ended_at=NOON, price=4 * CREDIT, held=CREDIT, cost=CREDIT, input_tokens=1)


@pytest.fixture
def moved(alice: User) -> None:
    """Today alice has gained and lost credits in every way but by an answer."""
    bought = order(alice, 500 * CREDIT, currency="eur")
    pay(bought, paid_cents=450)
    for reversal, cents in (("refund:1", 180), ("refund:2", 70), ("refund:2", -70)):
        MoneyBack.objects.create(order=bought, reversal=reversal, cents=cents)
    take_back(bought, 200 * CREDIT)
    disputed = order(alice, 50 * CREDIT)
    pay(disputed)
    with_wallet = ledger.locked_wallet_of(alice)
    ledger.reverse(
        wallet=with_wallet,
        order=disputed,
        kind=Transfer.Kind.DISPUTE,
        amount=50 * CREDIT,
        key=f"dispute:{uuid.uuid4()}",
        reason="",
        made_by="",
    )
    ledger.give_back(
        wallet=with_wallet,
        order=disputed,
        kind=Transfer.Kind.DISPUTE,
        amount=20 * CREDIT,
        key=f"dispute:{uuid.uuid4()}",
        reason="",
    )
    give(alice, 9 * CREDIT)
    give(alice, -2 * CREDIT)
    grant(alice, 30 * CREDIT)
    grant(alice, 11 * CREDIT, expires_at=timezone.now())
    ledger.locked_wallet_of(alice)


def only(user: User) -> Filters:
    return Filters(user=user.pk)


def sums(line: Line) -> dict[str, Any]:
    """What can be added up of a line."""
    return {part.name: getattr(line, part.name) for part in fields(Line) if part.name not in ("key", "label")}


# --- Lines and totals ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("used")
def test_lines_per_day_newest_first(alice: User) -> None:
    lines = money.table("day", MAY, only(alice)).lines
    assert [line.label for line in lines] == ["2024-05-05", "2024-05-04"]
    assert [(line.turns, line.failed, line.charged, line.cost, line.margin) for line in lines] == [
        (1, 0, 5, 7, -2),
        (2, 1, 3 * CREDIT, 2 * CREDIT + 1, CREDIT - 1),
    ]
    assert {name: getattr(lines[1], name) for name in TOKENS} == TOKENS
    assert lines[1].prompt_tokens == 1039


@pytest.mark.usefixtures("used")
def test_lines_per_model_and_user_dearest_first(alice: User, bob: User) -> None:
    models = money.table("model", MAY, only(alice)).lines
    assert [(line.key, line.charged) for line in models] == [
        ("claude-sonnet-5-5", 3 * CREDIT),
        ("claude-opus-5-5", 5),
    ]
    users = money.table("user", MAY).lines
    assert [line.label for line in users if line.label in (alice.email, bob.email)] == [
        alice.email,
        bob.email,
    ]
    assert {line.label: line.overrun for line in users}[bob.email] == 3 * CREDIT


@pytest.mark.usefixtures("used", "moved")
@pytest.mark.parametrize("group", money.KEYS)
@pytest.mark.parametrize("filters", [Filters(), Filters(model="claude-sonnet-5-5")])
def test_totals_are_the_sums_of_the_lines(group: str, filters: Filters) -> None:
    found = money.table(group, Span(MAY.first, today()), filters)
    assert len(found.lines) == found.count > 0
    for name, whole in sums(found.total).items():
        if name not in ("paid", "paid_back"):
            assert whole == sum(getattr(line, name) for line in found.lines), name
    for kind in ("paid", "paid_back", "kept"):
        told = [getattr(line, kind) for line in found.lines]
        currencies = {currency for line in told for currency in line}
        assert getattr(found.total, kind) == {
            currency: sum(line.get(currency, 0) for line in told) for currency in currencies
        }


@pytest.mark.usefixtures("moved")
def test_whatever_moved_has_a_column_of_its_own(alice: User) -> None:
    (line,) = money.table("user", Span(today(), today()), only(alice)).lines
    assert (line.bought, line.refunded, line.disputed) == (550 * CREDIT, 200 * CREDIT, 30 * CREDIT)
    assert (line.welcome, line.granted, line.adjusted) == (100 * CREDIT, 41 * CREDIT, 7 * CREDIT)
    assert line.expired == 11 * CREDIT
    assert (line.paid, line.paid_back) == ({"eur": 450, "usd": 100}, {"eur": 180})
    assert line.kept == {"eur": 270, "usd": 100}
    gained = line.bought + line.welcome + line.granted + line.adjusted
    assert gained - line.refunded - line.disputed - line.expired == wallet_of(alice).balance
    per_day = money.table("day", Span(today(), today()), only(alice)).lines
    assert sums(per_day[0]) == sums(line)


@pytest.mark.usefixtures("used")
def test_what_turns_were_charged_is_what_the_ledger_has(alice: User) -> None:
    (booked,) = sql(
        "SELECT sum(amount)::bigint FROM billing_transfer WHERE kind = 'charge' AND debit_id = %s",
        wallet_of(alice).pk,
    )
    assert money.table("user", MAY, only(alice)).total.charged == booked[0]


@pytest.mark.usefixtures("used")
def test_days_are_whole_and_utc(alice: User) -> None:
    spans = {
        Span(date(2024, 5, 4), date(2024, 5, 4)): 2,
        Span(date(2024, 5, 5), date(2024, 5, 5)): 1,
        Span(date(2024, 5, 3), date(2024, 5, 3)): 0,
        Span(date(2024, 5, 6), date(2024, 5, 6)): 0,
    }
    for span, turns in spans.items():
        assert money.table("day", span, only(alice)).total.turns == turns


@pytest.mark.usefixtures("used")
def test_lines_are_sorted_and_cut_by_the_database(alice: User, bob: User) -> None:
    def users(**asked: Any) -> list[str | None]:
        lines = money.table("user", MAY, **asked).lines
        return [line.label for line in lines if line.label in (alice.email, bob.email)]

    assert users(sort="charged") == users(sort="-overrun") == [bob.email, alice.email]
    assert users(sort="label") == sorted([alice.email, bob.email])
    assert users(sort="1; DROP TABLE billing_transfer") == [alice.email, bob.email]
    whole = money.table("user", MAY)
    pages = [money.table("user", MAY, limit=1, offset=place) for place in range(whole.count)]
    assert [page.lines[0] for page in pages] == whole.lines
    assert {page.count for page in pages} == {whole.count}
    assert all(page.total == whole.total for page in pages)


@pytest.mark.usefixtures("used")
def test_people_are_found_by_their_address_and_only_by_what_is_in_it(alice: User) -> None:
    assert [line.label for line in money.table("user", MAY, Filters(words=alice.email[3:])).lines] == [
        alice.email
    ]
    assert money.table("user", MAY, Filters(words="%")).lines == []


@pytest.mark.usefixtures("used")
def test_usage_of_who_is_gone_still_counts(alice: User) -> None:
    alice.delete()
    lost = [line for line in money.table("user", MAY).lines if line.label is None]
    assert [line.named for line in lost] == ["deleted people"]
    assert lost[0].turns >= 3


@pytest.mark.usefixtures("moved")
def test_what_is_owed_goes_from_the_first_day_to_the_last(alice: User) -> None:
    owed = money.owed(Span(today(), today()))
    ((wallets,),) = sql("SELECT sum(balance)::bigint FROM billing_account WHERE kind = 'wallet'")
    assert owed.closing.together == wallets
    assert owed.opening.together + sum(owed.movements.values()) == owed.closing.together
    assert owed.movements["expiry"] <= -11 * CREDIT
    before = money.owed(Span(today() - timedelta(days=9), today() - timedelta(days=1)))
    assert before.closing == owed.opening


def test_who_is_below_zero_takes_nothing_from_what_is_owed_to_others(alice: User, bob: User) -> None:
    wallet_of(bob)
    bought = order(alice, 500 * CREDIT)
    pay(bought)
    before, standing = money.owed(Span(today(), today())).closing, dashboard.standing()
    close_turn(open_turn(alice, 550 * CREDIT), 550 * CREDIT)
    take_back(bought, 500 * CREDIT)
    after = money.owed(Span(today(), today()))
    assert (after.closing.owed, after.closing.debts) == (
        before.owed - 600 * CREDIT,
        before.debts + 450 * CREDIT,
    )
    assert (dashboard.standing().outstanding, dashboard.standing().debts) == (
        standing.outstanding - 600 * CREDIT,
        standing.debts + 450 * CREDIT,
    )
    yesterday = Span(today() - timedelta(days=1), today() - timedelta(days=1))
    assert money.owed(yesterday).closing == after.opening


def test_what_deleted_accounts_had_is_not_owed_to_people(desk: Client, alice: User, bob: User) -> None:
    wallet_of(alice)
    bought = order(bob, 500 * CREDIT)
    pay(bought)
    close_turn(open_turn(bob, 550 * CREDIT), 550 * CREDIT)
    take_back(bought, 500 * CREDIT)
    span = Span(today(), today())
    before, standing = money.owed(span), dashboard.standing()
    alice.delete()
    bob.delete()
    after = money.owed(span)
    for then, now in ((before.closing, after.closing), (standing, dashboard.standing())):
        assert now.of_deleted == then.of_deleted + 100 * CREDIT
        assert now.debts_of_deleted == then.debts_of_deleted + 450 * CREDIT
        assert now.debts == then.debts - 450 * CREDIT
    assert after.closing.owed == before.closing.owed - 100 * CREDIT
    assert dashboard.standing().outstanding == standing.outstanding - 100 * CREDIT
    assert dashboard.standing().below_zero == standing.below_zero - 1
    assert after.closing.together == before.closing.together
    assert after.opening.together + sum(after.movements.values()) == after.closing.together
    for url in (MONEY, "/admin/"):
        shown = page(desk, url)
        assert "Credits of deleted accounts" in shown
        assert "Debts of deleted accounts" in shown


# --- Pages -----------------------------------------------------------------------------------------------


def table(desk: Client, group: str, **query: Any) -> dict[str, dict[str, str]]:
    """The CSV as {day, model or user: {column: text}}."""
    answer = desk.get(f"{MONEY}{group}.csv", {**DAYS, **query})
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    days = {**DAYS, **query}
    assert answer.headers["Content-Disposition"] == (
        f'attachment; filename="money-per-{group}-{days["first"]}-{days["last"]}.csv"'
    )
    rows = list(csv.DictReader(io.StringIO(answer.content.decode())))
    return {row.pop(group): row for row in rows}


@pytest.mark.usefixtures("used")
def test_a_table_has_its_lines_and_their_total(desk: Client, alice: User) -> None:
    shown = page(desk, f"{MONEY}day/", user=alice.pk, **DAYS)
    assert "2024-05-05 1 0 1,039 200 0.000005 0.000007 0.000000 −0.000002" in shown
    assert "2024-05-04 2 1 1,039 200 3.000000 2.000001 0.000000 0.999999" in shown
    assert "All 2 3 1 2,078 400 3.000005 2.000008 0.000000 0.999997" in shown
    assert f"Only {alice.email} show all" in shown
    assert "All 1 2 1 1,039 200 3.000000" in page(
        desk, f"{MONEY}model/", user=alice.pk, model="claude-sonnet-5-5", **DAYS
    )


@pytest.mark.usefixtures("used", "moved")
def test_the_csv_has_all_lines_and_adds_up_to_the_page(desk: Client, alice: User) -> None:
    span = {"first": "2024-05-01", "last": f"{today()}"}
    rows = table(desk, "day", user=alice.pk, **span)
    found = money.table("day", Span(MAY.first, today()), only(alice))
    assert list(rows) == [line.label for line in found.lines]
    for name in money.CREDITS:
        column = sum(to_microcredits(Decimal(row[f"{name}_credits"])) for row in rows.values())
        assert column == getattr(found.total, name), name
    assert sum(int(row["paid_eur_smallest_units"]) for row in rows.values()) == 450
    assert sum(int(row["paid_back_eur_smallest_units"]) for row in rows.values()) == 180
    assert "paid_eur_smallest_units" not in next(iter(table(desk, "model", **span).values()))


def test_an_address_is_no_formula(desk: Client) -> None:
    eve = User.objects.create_user("=cmd|'/c_calc'!a1@example.org")
    ended_turn(eve, ended_at=NOON)
    assert list(table(desk, "user", q=eve.email)) == [f"'{eve.email}"]


@pytest.mark.usefixtures("used")
def test_headings_sort_and_pages_turn(
    desk: Client, alice: User, bob: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chatapp.money_pages.LINES_ON_A_PAGE", 1)
    here = f"{MONEY}model/"
    first = desk.get(here, {**DAYS, "user": alice.pk, "o": "charged"}).content.decode()
    links = [unescape(link) for link in re.findall(r'href="(\?[^"]+)"', first)]
    assert any("o=-charged" in link for link in links)
    (second,) = [link for link in links if link.endswith("p=2")]
    assert 'aria-sort="ascending"' in first
    shown = [
        " ".join(re.findall(r"claude-\w+-5-5</a>", desk.get(here + url).content.decode()))
        for url in (second,)
    ]
    assert "claude-opus-5-5</a>" in first
    assert shown == ["claude-sonnet-5-5</a>"]
    assert "This page has no lines." in page(desk, here, user=alice.pk, p="99", **DAYS)
    for nonsense in ("0", "-1", "x", "9" * 30):
        assert desk.get(here, {**DAYS, "p": nonsense}).status_code == 200


@pytest.mark.usefixtures("used", "moved")
def test_the_summary_says_what_each_figure_means(desk: Client) -> None:
    shown = page(desk, MONEY)
    for words in (
        *(
            "Credits charged for answers.",
            "Overruns",
            "Expired (breakage)",
            "Promotional credits",
            "Refunded",
        ),
        *(
            "Disputed",
            "a liability",
            "Paid in",
            "Paid back",
            "Kept",
            "Owed to us",
            f"At the end of {today()}",
        ),
    ):
        assert words in shown, words
    total = money.table("day", Span(today() - timedelta(days=29), today())).total
    assert total.expired >= 11 * CREDIT
    dollars = Decimal(total.expired).scaleb(-8)
    assert f"not in the revenue. {total.expired / CREDIT:,.6f} ${dollars:,.2f} Turns" in shown


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ({"first": "2024-05-05", "last": "2024-05-04"}, "The first day comes after the last."),
        ({"first": "soon"}, "Enter a valid date."),
        ({"user": "nobody"}, "Enter a valid UUID."),
    ],
)
def test_days_that_make_no_sense_are_refused_in_words(
    query: dict[str, str], sentence: str, desk: Client
) -> None:
    for place in ("", "day/"):
        assert sentence in page(desk, MONEY + place, **query)
    assert desk.get(f"{MONEY}day.csv", query).status_code == 404


@pytest.mark.parametrize("place", ["planet/", "planet.csv"])
def test_it_is_told_per_nothing_else(place: str, desk: Client) -> None:
    assert desk.get(MONEY + place).status_code == 404


def test_money_is_for_those_who_may_see_all_of_it(clerk: User) -> None:
    allow(clerk, *NEEDED[1:])
    for place in ("", "user/", "user.csv"):
        assert browser_of(clerk).get(MONEY + place).status_code == 403
    assert MONEY not in browser_of(clerk).get("/admin/").content.decode()
    allow(clerk, NEEDED[0])
    for place in ("", "user/", "user.csv"):
        assert browser_of(clerk).get(MONEY + place).status_code == 200
    assert MONEY in browser_of(clerk).get("/admin/").content.decode()


@pytest.mark.parametrize(
    ("microcredits", "written"),
    [
        (0, "$0.00"),
        (499_999, "$0.00"),
        (500_000, "$0.01"),
        (123_456_789_000, "$1,234.57"),
        (-1_500_000, "−$0.02"),
    ],
)
def test_credits_in_dollars_are_rounded_to_the_cent(microcredits: int, written: str) -> None:
    assert written in usd(microcredits)
