"""What a statement says of each movement, and which movements it has: in lines, as a file and over the API."""

import csv
import io
import re
import uuid
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_CEILING, Decimal, localcontext
from itertools import pairwise
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import connection, transaction
from django.db.models.functions import Now
from django.http import QueryDict
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import User
from billing import answers, ledger, movements, statement, statement_file
from billing.models import Order, Pack, Plan, Price, Subscription, Transfer
from billing.movements import KINDS, Filters
from billing.pricing import Usage
from billing.statement import Line
from billing.statement_form import StatementForm
from chatapp.conversations.models import Turn
from tests.billing.answering import answered, chat, model_like, price_of
from tests.billing.books import CREDIT, give, grant, order, pay, take_back, unguarded, wallet_of
from tests.conftest import SignIn

HAIKU, SONNET = "claude-haiku-5-5", "claude-sonnet-5-5"
EVERYTHING = Filters()
RATES = ["input", "output", "cache_read", "cache_write_5m", "cache_write_1h"]


def lines(user: User, filters: Filters = EVERYTHING, *, limit: int = 100) -> list[Line]:
    wallet = wallet_of(user)
    return statement.lines(movements.older(wallet, filters, than=None, limit=limit).transfers, wallet)


def newest(user: User) -> Line:
    return lines(user)[0]


def bought(user: User, **facts: Any) -> Order:
    paid = {name: facts.pop(name) for name in ["paid_cents"] if name in facts}
    made = order(user, 500 * CREDIT, **facts)
    pay(made, **paid)
    return made


def reverse(order: Order, kind: Transfer.Kind, amount: int = CREDIT) -> None:
    assert order.user
    with transaction.atomic():
        wallet = ledger.locked_wallet_of(order.user)
        key = uuid.uuid4().hex
        ledger.reverse(wallet=wallet, order=order, kind=kind, amount=amount, key=key, reason="", made_by="")


def give_back(order: Order, kind: Transfer.Kind) -> None:
    assert order.user
    with transaction.atomic():
        wallet = ledger.locked_wallet_of(order.user)
        key = uuid.uuid4().hex
        ledger.give_back(wallet=wallet, order=order, kind=kind, amount=CREDIT, key=key, reason="")


# --- Words


def test_money_in_and_out_is_told_in_plain_words(alice: User) -> None:
    paid = bought(alice)
    for kind in (Transfer.Kind.REFUND, Transfer.Kind.DISPUTE):
        reverse(paid, kind)
        give_back(paid, kind)
    give(alice, CREDIT)
    assert [(line.what, line.detail) for line in reversed(lines(alice))] == [
        ("Welcome credits", "A gift to begin with"),
        ("Credits bought", "Paid $1 through Stripe"),
        ("Refund", "Credits taken back for money given back"),
        ("Refund", "Given back to you: the refund did not go through"),
        ("Dispute", "Credits taken back for a disputed payment"),
        ("Dispute", "Given back to you: the payment stands"),
        ("Adjustment", "for a test"),
    ]
    assert newest(alice).description == "Adjustment: for a test"
    assert lines(alice)[-2].reference == str(paid.pk)


def test_a_purchase_says_how_it_came_about_and_what_was_really_paid(alice: User) -> None:
    bought(alice, pack=Pack.objects.get(name="Starter"), paid_cents=80)
    assert newest(alice).detail == "Paid $0.80 instead of $1 through Stripe"
    bought(alice, source=Order.Source.AUTO_TOPUP)
    assert newest(alice).detail == "Topped up automatically, paid $1 through Stripe"

    plan = Plan.objects.get(name="Plus")
    subscription = Subscription.objects.create(
        user=alice,
        plan=plan,
        stripe_id=uuid.uuid4().hex,
        status="active",
        current_period_end=Now(),
        as_of=Now(),
    )
    until = datetime(2031, 1, 2, 3, 4, tzinfo=UTC)
    bought(alice, source="subscription", plan=plan, subscription=subscription, credits_expire_at=until)
    line = newest(alice)
    assert line.detail == "Plan Plus, paid $1 through Stripe, usable until 2 Jan 2031, 03:04 UTC"
    assert line.left == 500 * CREDIT

    answered(alice)
    assert newest(alice).detail.endswith(", 0.7 of it credits of plan Plus")


def test_a_charge_says_which_part_of_it_was_a_gift(alice: User) -> None:
    until = timezone.now() + timedelta(days=30)
    grant(alice, 300_000, expires_at=until)
    given = newest(alice)
    assert (given.what, given.left) == ("Promotional credits", 300_000)
    assert given.detail == f"A gift, usable until {until.astimezone(UTC):%-d %b %Y, %H:%M} UTC"

    answered(alice, conversation=chat(alice))
    charge = newest(alice)
    assert [(part.amount, str(part)) for part in charge.lot_parts] == [
        (300_000, "0.3 of it promotional credits (A gift)")
    ]
    assert charge.detail == "Sonnet 5.5 in “Bread”, 0.3 of it promotional credits (A gift)"
    assert charge.amount == -700_000
    assert lines(alice)[1].left == 0


def test_what_expired_is_told_with_what_it_was(alice: User) -> None:
    until = timezone.now() + timedelta(milliseconds=300)
    grant(alice, CREDIT, expires_at=until)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_sleep(GREATEST(0, EXTRACT(EPOCH FROM %s - clock_timestamp())) + 0.01)", [until]
        )
    with transaction.atomic():
        ledger.locked_wallet_of(alice)
    line = newest(alice)
    assert (line.what, line.amount) == ("Expired unused", -CREDIT)
    assert (
        line.detail
        == f"Not used by {until.astimezone(UTC):%-d %b %Y, %H:%M} UTC: promotional credits (A gift)"
    )


def test_an_answer_is_told_with_its_chat_model_and_tokens(alice: User) -> None:
    talk = chat(alice, "Sourdough")
    turn = answered(alice, conversation=talk, model=HAIKU, estimated=True)
    line = newest(alice)
    assert (line.what, line.detail, line.reference) == ("Answer", "Haiku 5.5 in “Sourdough”", str(turn))
    assert line.answer is not None
    assert (line.answer.model, line.answer.conversation, line.answer.estimated) == (HAIKU, talk.pk, True)
    assert line.answer.usage == Usage(input_tokens=1_000, output_tokens=500)

    talk.delete()
    line = newest(alice)
    assert line.detail == "Haiku 5.5 in a chat deleted since"
    assert line.answer is not None
    assert line.answer.usage.prompt_tokens == 1_000


def test_an_answer_of_another_providers_model_is_told_and_found_as_that(alice: User) -> None:
    other = Price.objects.now_for("gpt-5.4")
    turn = answered(alice, price=other, served_by_id="gpt-5.4")
    with unguarded("conversations_turn"):
        Turn.objects.filter(pk=turn).update(price=price_of(SONNET), fallback_price=other)
    line = newest(alice)
    assert line.answer is not None
    assert (line.answer.model, line.answer.price) == ("gpt-5.4", other)
    assert sum(part.credits for part in line.parts) * CREDIT == -line.amount
    assert [found.turn for found in lines(alice, Filters(model="gpt-5.4"))] == [turn]
    assert lines(alice, Filters(model=SONNET)) == []
    today = datetime.now(UTC).date()
    [row] = answers.book().per_day(alice, today, today)
    assert (row.model, row.charged) == ("gpt-5.4", -line.amount)


def test_a_turn_of_somebody_else_is_not_told(alice: User, bob: User) -> None:
    """Which cannot be, but if a turn's owner and its wallet's ever differ, its chat stays theirs."""
    turn = answered(alice, conversation=chat(alice))
    hers = Transfer.objects.filter(hold=turn)
    [line] = statement.lines(list(hers), wallet_of(bob))
    assert line.answer is None


# --- How a price comes about


WORKINGS = [
    (Usage(input_tokens=1_000, output_tokens=500), {}),
    (Usage(1, 1, 1, 1, 1), {"markup": Decimal("1.2345"), "flat_fee": Decimal("0.000001")}),
    (Usage(output_tokens=1), {"output_usd": Decimal("10.000001"), "markup": Decimal("0.0123")}),
    (Usage(), {"flat_fee": Decimal("0.25")}),
    (Usage(90_000, 17, 3, 20_000, 5), {"markup": Decimal("1.1")}),
]


@pytest.mark.parametrize(("usage", "changes"), WORKINGS)
def test_the_parts_of_a_price_add_up_to_the_last_microcredit(
    alice: User, usage: Usage, changes: dict[str, Any]
) -> None:
    give(alice, 1_000 * CREDIT)
    answered(alice, usage=usage, model=HAIKU, price=price_of(HAIKU, **changes))
    line = newest(alice)
    assert sum(part.credits for part in line.parts) * CREDIT == -line.amount
    assert line.parts[-1].name in {"Rounded up", "Output", "Each message"}
    for part in line.parts:
        if part.tokens is not None:
            assert part.per_million is not None
            assert part.credits == part.tokens * part.per_million / 1_000_000
        assert Decimal(part.figure.replace(",", "")) == part.credits


def test_a_prompt_above_the_tier_is_told_with_the_tiers_prices(alice: User) -> None:
    give(alice, 1_000 * CREDIT)
    tier = price_of(HAIKU).tier_tokens or 0
    answered(alice, usage=Usage(input_tokens=tier), model=HAIKU)
    answered(alice, usage=Usage(input_tokens=tier + 1), model=HAIKU)
    above, below = lines(alice)[:2]
    assert (above.above_tier, below.above_tier) == (tier, None)
    assert above.parts[0].per_million == 5 * (below.parts[0].per_million or 0)


def test_what_was_above_the_hold_is_shown_as_the_houses(alice: User) -> None:
    answered(alice, held=500_000)  # of 700,000
    line = newest(alice)
    assert line.amount == -500_000
    assert line.parts[-1].name == "Above what was held: not yours to pay"
    assert line.parts[-1].figure == "−0.200000"
    assert sum(part.credits for part in line.parts) == Decimal("0.5")


# --- Which lines


def test_each_filter_leaves_what_it_says(alice: User) -> None:
    talk, other = chat(alice), chat(alice, "Other")
    in_talk = answered(alice, conversation=talk)
    in_other = answered(alice, conversation=other, model=HAIKU)
    paid = bought(alice)
    take_back(paid, CREDIT)
    grant(alice, CREDIT)

    def found(**filters: Any) -> list[str]:
        return [line.reference or line.what for line in lines(alice, Filters(**filters))]

    assert found(kind="charge") == [str(in_other), str(in_talk)]
    assert found(kind="purchase") == [str(paid.pk)]
    assert found(kind="refund") == [str(paid.pk)]
    assert found(kind="grant") == ["Promotional credits"]
    assert found(kind="signup") == ["Welcome credits"]
    assert found(kind="expiry") == []
    assert found(model=HAIKU) == [str(in_other)]
    assert found(conversation=talk.pk) == [str(in_talk)]
    assert found(model=HAIKU, conversation=talk.pk) == []
    assert found(model=HAIKU, kind="purchase") == []
    today = datetime.now(UTC).date()
    assert len(found(first=today, last=today)) == 6
    assert found(first=today + timedelta(days=1)) == []
    assert found(last=today - timedelta(days=1)) == []
    assert len(found(last=date(9999, 12, 30))) == 6


def test_what_is_frequent_is_found_like_what_is_rare(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    talk = chat(alice)
    turns = [str(answered(alice, conversation=talk)) for _ in range(3)]
    answered(alice, model=HAIKU)
    for few in (2, 3):
        monkeypatch.setattr(movements, "FEW", few)
        for filters in (Filters(conversation=talk.pk), Filters(model=SONNET)):
            assert [line.reference for line in lines(alice, filters)] == turns[::-1]


def test_every_kind_can_be_asked_for(alice: User) -> None:
    bought(alice)
    everything = lines(alice)
    apart = [line for kind in KINDS for line in lines(alice, Filters(kind=kind))]
    assert sorted(line.id for line in apart) == sorted(line.id for line in everything)


@pytest.mark.parametrize("limit", [1, 3, 4, 13, 50])
def test_pages_have_each_line_once_in_both_directions(alice: User, limit: int) -> None:
    for amount in range(1, 7):
        give(alice, amount * CREDIT)
        give(alice, -amount)
    wallet = wallet_of(alice)
    everything = [line.id for line in lines(alice)]
    pages = [movements.older(wallet, EVERYTHING, than=None, limit=limit)]
    while pages[-1].has_older:
        pages.append(movements.older(wallet, EVERYTHING, than=pages[-1].transfers[-1].pk, limit=limit))
    assert [transfer.pk for page in pages for transfer in page.transfers] == everything
    assert not pages[0].has_newer
    for newer, older in pairwise(pages):
        back = movements.newer(wallet, EVERYTHING, than=older.transfers[0].pk, limit=limit)
        assert back.transfers == newer.transfers
        assert back.has_newer == newer.has_newer


def test_a_page_of_many_lines_costs_as_few_queries_as_one_of_few(alice: User) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as seen:
            [line.detail for line in lines(alice)]
        return len(seen)

    answered(alice, conversation=chat(alice))
    bought(alice)
    few = queries()
    for _ in range(10):
        answered(alice, conversation=chat(alice))
        bought(alice)
        grant(alice, CREDIT, expires_at=timezone.now() + timedelta(days=3))
    assert queries() == few


def test_a_page_is_read_along_the_indexes(alice: User) -> None:
    """However long a statement is: its pages are found by their place in it, not by reading what stands before."""
    wallet = wallet_of(alice)
    with CaptureQueriesContext(connection) as seen:
        movements.older(wallet, EVERYTHING, than=10**12, limit=25)
    assert len(seen) == 2
    with connection.cursor() as cursor:
        # As for a table of which nothing is known: few rows are read faster along another index.
        cursor.execute("DELETE FROM pg_statistic WHERE starelid = 'billing_transfer'::regclass")
        cursor.execute(
            "UPDATE pg_class SET reltuples = -1, relpages = 0 WHERE oid = 'billing_transfer'::regclass"
        )
    for query, side in zip(seen.captured_queries, ("debit", "credit"), strict=True):
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL enable_seqscan = off")
            cursor.execute("SET LOCAL enable_sort = off")
            cursor.execute(f"EXPLAIN {query['sql']}")
            plan = "\n".join(row[0] for row in cursor.fetchall())
        assert f"transfers_by_{side}" in plan, plan
        assert "Sort" not in plan, plan


# --- What a person asks for


def problems(user: User, query: str) -> str:
    return StatementForm(QueryDict(query), user=user).problems


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("kind=overrun", "no such kind"),
        ("kind=%00", "no such kind"),
        ("model=gpt", "no such model"),
        ("model=%00", "Null characters are not allowed."),
        ("conversation=x", "no such chat"),
        ("conversation=1d26bdcd-49f6-4111-9257-ffa71ed5d6cd", "no such chat"),
        ("from=yesterday", "From: write a day"),
        ("to=2026-02-30", "To: write a day"),
        ("from=%00", "From: write a day"),
        ("to=9999-12-31", "To: choose a day between"),
        ("from=0001-01-01", "From: choose a day between"),
        ("from=2026-02-02&to=2026-02-01", "The first day is after the last."),
    ],
)
def test_what_cannot_be_asked_for_is_answered_with_a_sentence(alice: User, query: str, words: str) -> None:
    assert words in problems(alice, query)


def test_a_chat_of_somebody_else_cannot_be_chosen(alice: User, bob: User) -> None:
    talk = chat(alice, "Secret")
    assert problems(alice, f"conversation={talk.pk}") == ""
    assert "no such chat" in problems(bob, f"conversation={talk.pk}")
    assert "Secret" not in StatementForm(QueryDict(f"conversation={talk.pk}"), user=bob).as_p()
    assert lines(bob, Filters(conversation=talk.pk)) == []


def test_only_models_that_were_paid_for_are_on_the_list(alice: User) -> None:
    answered(alice, model=HAIKU)
    offered = StatementForm(QueryDict(), user=alice).as_p()
    assert f'value="{HAIKU}"' in offered
    assert SONNET not in offered
    # One that was asked for by its address is chosen there, though it has nothing to show.
    assert f'value="{SONNET}" selected' in StatementForm(QueryDict(f"model={SONNET}"), user=alice).as_p()


def test_an_old_chat_that_was_chosen_is_on_the_list(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("billing.statement_form.CONVERSATIONS_OFFERED", 2)
    old, *_ = [chat(alice, title) for title in ("Old", "New", "Newer")]
    assert ">Old<" not in StatementForm(QueryDict(), user=alice).as_p()
    assert ">Old<" in StatementForm(QueryDict(f"conversation={old.pk}"), user=alice).as_p()


# --- The file


def written(user: User, filters: Filters = EVERYTHING) -> list[list[str]]:
    """All rows of somebody's file, read back."""
    return list(csv.reader(io.StringIO(raw(user, filters), newline="")))


def raw(user: User, filters: Filters = EVERYTHING) -> str:
    wallet = wallet_of(user)

    async def collect() -> str:
        return "".join([part async for part in statement_file.as_csv(wallet, filters)])

    return async_to_sync(collect)()


def test_the_file_is_exact(alice: User) -> None:
    usage = Usage(1_000, 500, 7, 20, 3)
    turn = answered(alice, usage=usage, conversation=chat(alice))
    paid = bought(alice)
    used = ["1000", "500", "7", "23"]
    head, *rows = written(alice)
    assert head[:11] == [
        *("time", "what", "credits", "balance_after", "detail", "reference"),
        *("model", "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens"),
    ]
    assert [row[11:14] for row in rows] == [
        ["purchase", "1.00", "usd"],
        ["charge", "", ""],
        ["signup", "", ""],
    ]
    assert [row[1:11] for row in rows] == [
        ["Credits bought", "500.000000", "599.293730", "Paid $1 through Stripe", str(paid.pk), *[""] * 5],
        ["Answer", "-0.706270", "99.293730", "Sonnet 5.5 in “Bread”", str(turn), SONNET, *used],
        ["Welcome credits", "100.000000", "100.000000", "A gift to begin with", "", *[""] * 5],
    ]
    for row in rows:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", row[0])
        assert datetime.fromisoformat(row[0]).utcoffset() == timedelta(0)
    text = raw(alice)
    assert text.count("\r\n") == text.count("\n") == 4, "RFC 4180"


def test_the_file_adds_up(alice: User) -> None:
    """A second opinion: from the first balance, credit by credit, to the last."""
    paid = bought(alice)
    for number in range(1, 20):
        answered(alice, usage=Usage(number, number**2), price=price_of(SONNET, markup=Decimal("1.0007")))
    take_back(paid, 123_456_789)
    rows = written(alice)[1:]
    balance = Decimal(0)
    for row in reversed(rows):
        balance += Decimal(row[2])
        assert balance == Decimal(row[3])
    assert balance * CREDIT == wallet_of(alice).balance


def recomputed(told: dict[str, Any], rates: dict[str, str]) -> Decimal:
    """What an answer costs, from nothing but what is told of it, in credits."""
    for_an_hour = int(told["cache_write_1h_tokens"])
    tokens = {
        "input": int(told["input_tokens"]),
        "output": int(told["output_tokens"]),
        "cache_read": int(told["cache_read_tokens"]),
        "cache_write_5m": int(told["cache_write_tokens"]) - for_an_hour,
        "cache_write_1h": for_an_hour,
    }
    exact = sum(count * Decimal(rates[name]) for name, count in tokens.items()) / 1_000_000
    with localcontext(prec=50):
        price = exact * Decimal(told["markup"]) + Decimal(told["flat_fee"])
        return price.quantize(Decimal("0.000001"), ROUND_CEILING) - Decimal(told["borne_by_house"])


def test_every_charge_can_be_worked_out_from_the_file_and_from_the_api(
    committed_db: None, alice: User, sign_in: SignIn
) -> None:
    """A second opinion on each line: with markup, fee and tier, writes for an hour, and a price that has changed."""
    give(alice, 1_000 * CREDIT)
    model = model_like(HAIKU)
    tier = price_of(model).tier_tokens or 0
    with transaction.atomic():
        for usage, changes in WORKINGS:
            answered(alice, usage=usage, model=model, price=price_of(model, **changes))
        answered(
            alice, usage=Usage(tier, 7, 1, 2, 3), model=model, price=price_of(model, markup=Decimal("1.3"))
        )
        answered(alice, held=500_000)  # of 700,000
        answered(alice, usage=Usage(10, 7), estimated=True)
    head, *rows = written(alice, Filters(kind="charge"))
    found = [dict(zip(head, row, strict=True)) for row in rows]
    for row in found:
        rates = {name: row[f"{name}_credits_per_million"] for name in RATES}
        assert recomputed(row, rates) == -Decimal(row["credits"])
    assert [row["borne_by_house"] for row in found][:2] == ["0.000000", "0.200000"]
    assert [row["estimated"] for row in found][:2] == ["yes", "no"]

    items = sign_in(alice).get("/api/v1/transactions", params={"kind": "charge"}).json()["items"]
    assert len(items) == len(found)
    for item in items:
        told = item["answer"]
        same = {
            "cache_read_tokens": told["cache_read_input_tokens"],
            "cache_write_tokens": told["cache_creation_input_tokens"],
            "cache_write_1h_tokens": told["cache_creation_1h_input_tokens"],
        }
        assert recomputed(told | same, told["rates"]) == -Decimal(item["amount"])


def test_the_file_has_the_lines_of_its_filters(alice: User) -> None:
    turn = answered(alice)
    bought(alice)
    assert [row[5] for row in written(alice, Filters(kind="charge"))[1:]] == [str(turn)]


@pytest.mark.parametrize(
    "reason", ['=HYPERLINK("http://x.test","y")', "+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1", "\n=1"]
)
def test_no_cell_of_the_file_is_a_formula(alice: User, reason: str) -> None:
    ledger.adjust(user=alice, amount=1, reason=reason, made_by=alice, key=uuid.uuid4().hex)
    answered(alice, conversation=chat(alice, reason.strip()))
    rows = written(alice)
    assert f"'{reason}" in [row[4] for row in rows]
    words = [cell for row in rows for position, cell in enumerate(row) if position not in (2, 3)]
    assert not [cell for cell in words if cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))]


def test_a_long_file_has_each_line_once(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    turns = [str(answered(alice)) for _ in range(11)]
    monkeypatch.setattr(statement_file, "CHUNK", 4)
    assert [row[5] for row in written(alice)[1:]] == [*reversed(turns), ""]


# --- The API


def test_the_api_tells_the_same_in_the_same_words(committed_db: None, alice: User, sign_in: SignIn) -> None:
    grant(alice, 300_000, expires_at=timezone.now() + timedelta(days=30))
    talk = chat(alice)
    turn = answered(alice, usage=Usage(1_000, 500, 0, 0, 0), conversation=talk)
    charge, given, _ = sign_in(alice).get("/api/v1/transactions").json()["items"]
    rows = written(alice)[1:]
    assert [
        [item["what"], item["detail"], item["amount"], item["balance_after"]] for item in (charge, given)
    ] == [[row[1], row[4], *row[2:4]] for row in rows[:2]]
    assert charge["turn"] == str(turn)
    assert charge["description"] == f"Answer: {charge['detail']}"
    assert charge["answer"] == {
        "model": SONNET,
        "model_name": "Sonnet 5.5",
        "conversation": str(talk.pk),
        "title": "Bread",
        "input_tokens": 1000,
        "output_tokens": 500,
        "cache_read_input_tokens": 0,
        "cache_creation_input_tokens": 0,
        "cache_creation_1h_input_tokens": 0,
        "rates": {
            "input": "200",
            "output": "1000",
            "cache_read": "10",
            "cache_write_5m": "250",
            "cache_write_1h": "400",
        },
        "markup": "1",
        "flat_fee": "0.000000",
        "borne_by_house": "0.000000",
        "estimated": False,
    }
    assert charge["from_expiring"] == [{"amount": "0.300000", "of": "promotional credits (A gift)"}]
    assert (given["answer"], given["left"], given["expires_at"][-1]) == (None, "0.000000", "Z")


def test_the_api_has_the_filters_of_the_page(
    committed_db: None, alice: User, bob: User, sign_in: SignIn
) -> None:
    talk = chat(alice)
    turns = [str(answered(alice, conversation=talk)), str(answered(alice, model=HAIKU))]
    hers, his = sign_in(alice), sign_in(bob)

    def found(client: Any = hers, **filters: Any) -> list[str | None]:
        answer = client.get("/api/v1/transactions", params=filters)
        assert answer.status_code == 200, answer.text
        return [item["turn"] for item in answer.json()["items"]]

    today = datetime.now(UTC).date()
    assert found(kind="charge") == turns[::-1]
    assert found(kind="signup") == [None]
    assert found(model=HAIKU) == [turns[1]]
    assert found(conversation=talk.pk) == [turns[0]]
    assert found(**{"from": today, "to": today, "kind": "charge"}) == turns[::-1]
    assert found(to=today - timedelta(days=1)) == []
    first = hers.get("/api/v1/transactions", params={"kind": "charge", "limit": 1}).json()
    assert found(kind="charge", cursor=first["next"]) == [turns[0]]
    assert found(client=his, conversation=talk.pk) == []
    assert found(client=his, kind="charge") == []


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"kind": "overrun"}, "kind"),
        ({"model": "gpt"}, "model"),
        ({"model": "\x00"}, "model"),
        ({"conversation": "x"}, "conversation"),
        ({"from": "x"}, "from"),
        ({"to": "9999-12-31"}, "to"),
        ({"from": "2026-02-02", "to": "2026-02-01"}, "to"),
    ],
)
def test_the_api_refuses_a_filter_with_its_field(
    committed_db: None, alice: User, sign_in: SignIn, query: dict[str, str], field: str
) -> None:
    answer = sign_in(alice).get("/api/v1/transactions", params=query)
    assert answer.status_code == 400
    assert answer.json()["code"] == "invalid"
    assert list(answer.json()["fields"]) == [field]
