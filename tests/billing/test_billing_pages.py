"""The pages of /billing/: whose they are, and what a statement says."""

import csv
import io
import re
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest
from asgiref.sync import async_to_sync
from django.db import transaction
from django.db.models.functions import Now
from django.test import Client
from playwright.sync_api import Page, expect

from accounts.models import User
from billing import ledger, statement
from billing.models import Account, Order, Transfer
from chatapp.local.demo_stripe.client import DemoStripe
from tests.conftest import SignIn
from tests.stack import Stack


def spend(user: User, microcredits: int) -> uuid.UUID:
    """Charge an answer; its turn's id."""
    turn = uuid.uuid4()
    with transaction.atomic():
        wallet = ledger.locked_wallet_of(user)
        ledger.hold(wallet=wallet, hold_id=turn, amount=microcredits)
        ledger.settle(wallet=wallet, hold_id=turn, price=microcredits)
    return turn


def buy(user: User, microcredits: int = 500_000_000, cents: int = 500) -> Order:
    """A paid order, without Stripe."""
    with transaction.atomic():
        order = Order.objects.create(
            user=user,
            credits_microcredits=microcredits,
            amount_cents=cents,
            currency="usd",
            state=Order.State.PAID,
            paid_at=Now(),
            paid_cents=500,
        )
        ledger.purchase(wallet=ledger.locked_wallet_of(user), order=order)
    return order


@pytest.fixture
def browser_of(client: Client) -> Callable[[User], Client]:
    """Django's own client, signed in: the pages without the stack."""

    def browser_of(user: User) -> Client:
        client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
        return client

    return browser_of


BrowserOf = Callable[[User], Client]


def rows_of(html: str) -> list[str]:
    """The statement's lines as text."""
    body = html.partition("<tbody")[2].partition("</tbody>")[0]
    rows = re.findall(r"<tr.*?</tr>", body, re.DOTALL)
    return [" ".join(re.sub(r"<[^>]*>", " ", row).split()) for row in rows]


# --- Whose


@pytest.mark.parametrize("path", ["", "statement.csv", "return/?session_id=cs_1"])
def test_who_has_not_signed_in_is_sent_to_do_so(stack: Stack, path: str) -> None:
    answer = httpx.get(f"{stack.url}/billing/{path}")
    assert answer.status_code == 302
    assert answer.headers["location"].startswith("/accounts/login/?next=/billing/")


def test_who_has_not_signed_in_cannot_buy(stack: Stack) -> None:
    with httpx.Client(base_url=stack.url) as browser:
        token = browser.get("/accounts/login/").cookies["csrftoken"]
        answer = browser.post("/billing/checkout/", data={"pack": 1}, headers={"X-CSRFToken": token})
    assert answer.status_code == 302
    assert answer.headers["location"].startswith("/accounts/login/")


def test_a_statement_is_its_owners_alone(
    committed_db: None, alice: User, charlie: User, operator: User, sign_in: SignIn
) -> None:
    order = buy(alice)
    ledger.adjust(user=alice, amount=1, reason="Between us", made_by=operator, key=uuid.uuid4().hex)
    hers, his = sign_in(alice), sign_in(charlie)
    for path in ("/billing/", "/billing/statement.csv"):
        for secret in ("Between us", str(order.pk)[:8]):
            assert secret in hers.get(path).text
            assert secret not in his.get(path).text
    assert len(rows_of(his.get("/billing/").text)) == 1, "the welcome credits"


# --- The page


def test_a_statement_says_what_each_movement_was_for(
    db: None, alice: User, bob: User, browser_of: BrowserOf
) -> None:
    ledger.wallet_of(alice)
    turn, order = spend(alice, 1_234_567), buy(alice)
    ledger.adjust(
        user=alice, amount=-1_000_000, reason="Sent <b>twice</b>", made_by=bob, key=uuid.uuid4().hex
    )

    html = browser_of(alice).get("/billing/").content.decode()

    rows = [re.sub(r"^\d+ \w+ \d{4} [\d:]{8} ", "", row) for row in rows_of(html)]
    assert rows == [
        "Adjustment Sent &lt;b&gt;twice&lt;/b&gt; −1.00 0000 597.76 5433",
        f"Credits bought Paid $5 through Stripe {str(order.pk)[:8]} +500.00 0000 598.76 5433",
        f"Answer {str(turn)[:8]} −1.23 4567 98.76 5433",
        "Welcome credits A gift to begin with +100.00 0000 100.00 0000",
    ]
    assert '<strong data-wallet-text="available">597.76</strong>' in html


def test_a_long_statement_comes_in_pages(db: None, alice: User, browser_of: BrowserOf) -> None:
    ledger.wallet_of(alice)
    for _ in range(60):
        spend(alice, 10)
    browser = browser_of(alice)
    pages = [browser.get("/billing/", {"page": number}).content.decode() for number in (1, 2, 3)]
    assert [len(rows_of(page)) for page in pages] == [25, 25, 11]
    assert "Page 1 of 3" in pages[0]
    assert "Newer" not in pages[0]
    assert "Older" not in pages[2]
    assert "Welcome credits" in rows_of(pages[2])[-1]


@pytest.mark.parametrize("page", ["0", "-1", "99999999999999999999", "x", "\x00", ""])
def test_a_page_that_does_not_exist_is_the_nearest_one(
    db: None, alice: User, browser_of: BrowserOf, page: str
) -> None:
    answer = browser_of(alice).get("/billing/", {"page": page})
    assert answer.status_code == 200
    assert len(rows_of(answer.content.decode())) == 1


def test_what_is_held_is_said(db: None, alice: User, browser_of: BrowserOf) -> None:
    with transaction.atomic():
        ledger.hold(wallet=ledger.locked_wallet_of(alice), hold_id=uuid.uuid4(), amount=1_200_000)
    html = browser_of(alice).get("/billing/").content.decode()
    assert '<strong data-wallet-text="available">98.80</strong>' in html
    assert "1.20 held" in html


def test_a_wallet_below_zero_is_explained(db: None, alice: User, browser_of: BrowserOf) -> None:
    ledger.wallet_of(alice)
    order = buy(alice, microcredits=50_000_000, cents=50)
    spend(alice, 149_500_000)
    dispute(alice, order)
    html = browser_of(alice).get("/billing/").content.decode()
    assert "The next top-up repays that first" in html
    assert rows_of(html)[0].endswith("−50.00 0000 −49.50 0000")


def dispute(user: User, order: Order) -> None:
    """Take all that was bought back, spent or not."""
    wallet = ledger.wallet_of(user)
    Transfer.objects.create(
        key=f"test:{uuid.uuid4()}",
        kind=Transfer.Kind.DISPUTE,
        debit=wallet,
        credit=ledger.house(Account.Kind.STRIPE),
        amount=order.credits_microcredits,
        balance_after=wallet.balance - order.credits_microcredits,
        order=order,
    )


@pytest.mark.parametrize(
    ("microcredits", "sign", "cents", "rest"),
    [
        (0, "", "0.00", "0000"),
        (1, "+", "+0.00", "0001"),
        (-1, "+", "−0.00", "0001"),
        (-1_234_567_890_123, "", "−1,234,567.89", "0123"),
        (10_500_000_000, "+", "+10,500.00", "0000"),
    ],
)
def test_an_amount_is_shown_to_its_last_microcredit(
    microcredits: int, sign: str, cents: str, rest: str
) -> None:
    shown = statement.figure(microcredits, sign=sign)
    assert (shown.cents, shown.rest, shown.is_round) == (cents, rest, rest == "0000")


# --- The file


def test_the_file_is_exact(db: None, alice: User) -> None:
    wallet = ledger.wallet_of(alice)
    turn, order = spend(alice, 1_234_567), buy(alice)
    head, *rows = written(wallet)
    assert head == ["time", "what", "detail", "reference", "credits", "balance_after"]
    assert [row[1:] for row in rows] == [
        ["Credits bought", "Paid $5 through Stripe", str(order.pk), "500.000000", "598.765433"],
        ["Answer", "", str(turn), "-1.234567", "98.765433"],
        ["Welcome credits", "A gift to begin with", "", "100.000000", "100.000000"],
    ]
    for row in rows:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", row[0])
        assert datetime.fromisoformat(row[0]).utcoffset() == timedelta(0)


def test_the_file_is_streamed_for_download(committed_db: None, alice: User, sign_in: SignIn) -> None:
    answer = sign_in(alice).get("/billing/statement.csv")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert re.fullmatch(
        r'attachment; filename="statement-\d{4}-\d\d-\d\d\.csv"', answer.headers["content-disposition"]
    )
    assert "no-store" in answer.headers["cache-control"]
    assert "content-length" not in answer.headers
    assert len(answer.text.splitlines()) == 2


@pytest.mark.parametrize(
    "reason", ['=HYPERLINK("http://x.test","y")', "+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1", "\n=1"]
)
def test_no_cell_of_the_file_is_a_formula(db: None, alice: User, bob: User, reason: str) -> None:
    ledger.adjust(user=alice, amount=1, reason=reason, made_by=bob, key=uuid.uuid4().hex)
    details = [row[2] for row in written(ledger.wallet_of(alice))]
    assert f"'{reason}" in details
    assert not [cell for cell in details if cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))]


def test_a_long_file_has_each_line_once(db: None, alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    wallet = ledger.wallet_of(alice)
    turns = [str(spend(alice, 10)) for _ in range(11)]
    monkeypatch.setattr(statement, "CHUNK", 4)
    rows = written(wallet)[1:]
    assert [row[3] for row in rows] == [*reversed(turns), ""]


def written(wallet: Account) -> list[list[str]]:
    """All rows of a wallet's file, read back."""

    async def collect() -> str:
        return "".join([part async for part in statement.as_csv(wallet)])

    return list(csv.reader(io.StringIO(async_to_sync(collect)(), newline="")))


# --- In a browser


@pytest.mark.parametrize(
    "options",
    [
        {"viewport": {"width": 1280, "height": 800}, "color_scheme": "light"},
        {"viewport": {"width": 360, "height": 740}, "color_scheme": "dark"},
    ],
    ids=["desktop", "phone"],
)
def test_a_person_buys_credits(
    alice: User, demo_stripe: DemoStripe, page_of: Callable[..., Page], options: dict[str, Any]
) -> None:
    page = page_of(alice, **options)
    page.goto("/billing/")
    fits(page)
    page.get_by_role("button", name="Buy Starter for $5").click()

    expect(page.get_by_role("note")).to_have_text("Demo Stripe: no money moves")
    fits(page)
    page.get_by_role("button", name="Pay with a card that is declined").click()
    expect(page.get_by_role("alert")).to_contain_text("Your card was declined")
    page.get_by_role("button", name="Cancel and go back").click()
    expect(page.get_by_text("You went back before paying.")).to_be_visible()

    page.get_by_role("button", name="Buy Starter for $5").click()
    page.get_by_role("button", name="Pay $5.00").click()
    expect(page.get_by_role("heading", name="500 credits added")).to_be_visible()
    fits(page)
    page.get_by_role("link", name="See the statement").click()
    row = page.get_by_role("row").filter(has_text="Credits bought")
    expect(row.get_by_role("cell").nth(2)).to_have_text("+500.000000")
    fits(page)


def fits(page: Page) -> None:
    """Nothing makes the page scroll sideways."""
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
