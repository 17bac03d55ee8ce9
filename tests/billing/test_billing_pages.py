"""The pages of /billing/: whose they are, and what a statement says."""

import re
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, timedelta
from html import unescape
from typing import Any

import httpx
import pytest
from django.db import transaction
from django.db.models.functions import Now
from django.test import Client
from django.utils import timezone
from playwright.sync_api import Page, expect

from accounts.models import User
from accounts.notify import notify
from billing import ledger, notices, statement
from billing.models import Account, LowBalanceNotice, Order, Transfer
from billing.pricing import Usage
from chatapp.local.demo_stripe.client import DemoStripe
from tests.billing.answering import answered, chat
from tests.billing.books import close_turn, grant, open_turn
from tests.conftest import SignIn
from tests.stack import Stack


def spend(user: User, microcredits: int) -> uuid.UUID:
    """Charge an answer; its turn's id."""
    turn = open_turn(user, microcredits)
    close_turn(turn, microcredits)
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
            stripe_session=f"cs_{uuid.uuid4()}",
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
    """The statement's lines as text, without how prices come about."""
    body = html.partition('<tbody role="rowgroup">')[2].partition("</section>")[0]
    lines = re.sub(r"<table class=.workings.*?</table>|<nav.*", "", body, flags=re.DOTALL)
    return [text_of(row) for row in lines.split('<tr role="row">')[1:]]


def text_of(html: str) -> str:
    return " ".join(re.sub(r"<[^>]*>", " ", html).split())


# --- Whose


@pytest.mark.parametrize("path", ["", "statement.csv", "return/?session_id=cs_1"])
def test_who_has_not_signed_in_is_sent_to_do_so(stack: Stack, path: str) -> None:
    answer = httpx.get(f"{stack.url}/billing/{path}")
    assert answer.status_code == 302
    assert answer.headers["location"].startswith("/accounts/login/?next=/billing/")


def test_who_has_not_signed_in_cannot_buy(stack: Stack) -> None:
    with httpx.Client(base_url=stack.url, timeout=30) as browser:
        token = browser.get("/accounts/login/").cookies["csrftoken"]
        answer = browser.post("/billing/checkout/", data={"pack": 1}, headers={"X-CSRFToken": token})
    assert answer.status_code == 302
    assert answer.headers["location"].startswith("/accounts/login/")


def test_a_statement_is_its_owners_alone(
    committed_db: None, alice: User, charlie: User, operator: User, sign_in: SignIn
) -> None:
    order = buy(alice)
    ledger.adjust(user=alice, amount=1, reason="Between us", made_by=operator, key=uuid.uuid4().hex)
    talk = chat(alice, "Secret plans")
    answered(alice, conversation=talk)
    hers, his = sign_in(alice), sign_in(charlie)
    for path in ("/billing/", "/billing/statement.csv", "/api/v1/transactions"):
        for secret in ("Between us", str(order.pk)[:8], "Secret plans"):
            assert secret in hers.get(path).text
            assert secret not in his.get(path).text
    assert len(rows_of(his.get("/billing/").text)) == 1, "the welcome credits"
    for path in ("/billing/", "/billing/statement.csv"):
        assert hers.get(path, params={"conversation": str(talk.pk)}).status_code == 200
        refused = his.get(path, params={"conversation": str(talk.pk)})
        assert refused.status_code == 400
        assert "There is no such chat." in refused.text
        assert "Secret plans" not in refused.text
    assert his.get("/api/v1/transactions", params={"conversation": str(talk.pk)}).json()["items"] == []


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
        f"Answer Haiku 5.5 17 in · 24,691 out in a chat deleted since {str(turn)[:8]} −1.23 4567 98.76 5433",
        "Welcome credits A gift to begin with +100.00 0000 100.00 0000",
    ]
    assert '<strong data-wallet-text="available">597.76</strong>' in html


def test_a_long_statement_comes_in_pages_that_keep_what_was_chosen(
    db: None, alice: User, browser_of: BrowserOf
) -> None:
    for _ in range(60):
        spend(alice, 10)
    browser = browser_of(alice)
    day = f"{timezone.now().astimezone(UTC):%Y-%m-%d}"
    month = day[:7]
    pages = [browser.get(f"/billing/?from={day}&month={month}").content.decode()]
    while older := link("Older", pages[-1]):
        assert f"from={day}" in older
        assert f"month={month}" in older
        pages.append(browser.get(older).content.decode())
    assert [len(rows_of(page)) for page in pages] == [25, 25, 11]
    assert link("Newer", pages[0]) is None
    assert "Welcome credits" in rows_of(pages[2])[-1]
    back = browser.get(link("Newer", pages[2]) or "").content.decode()
    assert rows_of(back) == rows_of(pages[1])
    assert rows_of(browser.get(link("Newer", back) or "").content.decode()) == rows_of(pages[0])
    assert rows_of(browser.get(link("Newest", pages[2]) or "").content.decode()) == rows_of(pages[0])


def link(words: str, html: str) -> str | None:
    """Where the link with these words leads."""
    found = re.search(rf'href="([^"]*)">{words}</a>', html)
    return found and unescape(found[1]).partition("#")[0]


@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize("line", ["0", "-1", "1", "9" * 19, "9" * 5000, "x", "\x00", "", "١"])
def test_a_page_that_does_not_exist_is_the_nearest_one(
    db: None, alice: User, browser_of: BrowserOf, place: str, line: str
) -> None:
    answer = browser_of(alice).get("/billing/", {place: line})
    assert answer.status_code == 200
    assert len(rows_of(answer.content.decode())) == 1


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("kind=x", "There is no such kind of movement."),
        ("from=x&to=2026-02-30", "From: write a day"),
        ("month=2026-13", "There is no chart of that month."),
        ("month=1999-01", "There is no chart of that month."),
        ("month=%00", "There is no chart of that month."),
    ],
)
def test_what_cannot_be_shown_is_said_and_the_rest_of_the_page_stands(
    db: None, alice: User, browser_of: BrowserOf, query: str, words: str
) -> None:
    answer = browser_of(alice).get(f"/billing/?{query}")
    assert answer.status_code == 400
    html = answer.content.decode()
    assert words in html
    assert rows_of(html) == []
    assert "Buy credits" in html


def test_an_answer_links_to_its_chat_and_shows_how_its_price_comes_about(
    db: None, alice: User, browser_of: BrowserOf
) -> None:
    talk = chat(alice, "Bread <i>&</i> butter")
    grant(alice, 300_000, expires_at=timezone.now() + timedelta(days=30))
    turn = answered(alice, conversation=talk, usage=Usage(1_000, 500, 12_000))
    html = browser_of(alice).get("/billing/").content.decode()
    assert f'<a href="/chat/{talk.pk}/">Bread &lt;i&gt;&amp;&lt;/i&gt; butter</a>' in html
    assert str(turn)[:8] in rows_of(html)[0]
    assert "0.3 of it promotional credits (A gift)" in rows_of(html)[0]
    assert "Sonnet 5.5 13,000 in · 500 out" in rows_of(html)[0]
    workings = text_of(re.findall(r"<table class=.workings.*?</table>", html, re.DOTALL)[0])
    assert workings.endswith(
        "Input 1,000 200 0.200000 Read from the cache 12,000 10 0.120000 Output 500 1,000 0.500000 Charged 0.820000"
    )

    talk.delete()
    html = browser_of(alice).get("/billing/").content.decode()
    assert "in a chat deleted since" in rows_of(html)[0]
    assert f"/chat/{talk.pk}/" not in html


def test_an_estimated_charge_says_so_on_its_line(db: None, alice: User, browser_of: BrowserOf) -> None:
    answered(alice)
    answered(alice, estimated=True)
    stopped, counted, _ = rows_of(browser_of(alice).get("/billing/").content.decode())
    assert "500 out estimated" in stopped
    assert "estimated" not in counted


def test_no_part_of_the_page_styles_itself(db: None, alice: User, browser_of: BrowserOf) -> None:
    answered(alice)
    html = browser_of(alice).get("/billing/").content.decode()
    assert "<rect" in html
    assert not re.search(r"<[^>]+\sstyle=|<style", html)


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


def test_the_file_is_streamed_for_download(committed_db: None, alice: User, sign_in: SignIn) -> None:
    spend(alice, 10)
    browser = sign_in(alice)
    answer = browser.get("/billing/statement.csv")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert re.fullmatch(
        r'attachment; filename="statement-\d{4}-\d\d-\d\d\.csv"', answer.headers["content-disposition"]
    )
    assert "no-store" in answer.headers["cache-control"]
    assert "content-length" not in answer.headers
    assert len(answer.text.splitlines()) == 3
    assert len(browser.get("/billing/statement.csv?kind=signup").text.splitlines()) == 2


def test_a_file_that_cannot_be_made_is_refused_with_a_sentence(
    db: None, alice: User, browser_of: BrowserOf
) -> None:
    answer = browser_of(alice).get("/billing/statement.csv", {"from": "never", "kind": "x"})
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert "From: write a day as 2026-11-30." in answer.content.decode()


# --- Few credits left


def test_a_person_sets_when_to_be_told(db: None, alice: User, browser_of: BrowserOf) -> None:
    browser = browser_of(alice)
    assert 'name="threshold"' in (html := browser.get("/billing/").content.decode())
    assert 'value="20"' in html
    answer = browser.post("/billing/low-balance/", {"threshold": "50.5"})
    assert (answer.status_code, answer["Location"]) == (303, "/billing/#low-balance")
    assert notices.notice_of(alice).threshold == 50_500_000
    assert 'value="50.5"' in browser.get("/billing/").content.decode()
    browser.post("/billing/low-balance/", {"threshold": "0"})
    assert notices.notice_of(alice).threshold == 0


@pytest.mark.parametrize("threshold", ["", "x", "-1", "1000001", "0.0000001", "NaN", "1e99", "\x00"])
def test_a_threshold_that_is_none_is_refused_with_a_sentence(
    db: None, alice: User, browser_of: BrowserOf, threshold: str
) -> None:
    answer = browser_of(alice).post("/billing/low-balance/", {"threshold": threshold})
    assert answer.status_code == 400
    assert re.search(r'role="alert">[A-Z][^<]*\.</p>', answer.content.decode())
    assert not LowBalanceNotice.objects.filter(user=alice).exists()


# --- In a browser


SCREENS = [
    {"viewport": {"width": 1280, "height": 800}, "color_scheme": "light"},
    {"viewport": {"width": 360, "height": 740}, "color_scheme": "dark"},
]


@pytest.mark.parametrize("options", SCREENS, ids=["desktop", "phone"])
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
    row = page.locator("#statement").get_by_role("row").filter(has_text="Credits bought")
    expect(row.get_by_role("cell").nth(2)).to_have_text("+500.000000")
    fits(page)


@pytest.mark.parametrize("options", SCREENS, ids=["desktop", "phone"])
def test_a_full_statement_fits_and_opens(
    alice: User, page_of: Callable[..., Page], options: dict[str, Any]
) -> None:
    talk = chat(alice, "A-title-that-has-no-spaces-and-does-not-want-to-end-" * 3)
    for model in ("claude-sonnet-5-5", "claude-haiku-5-5", "claude-opus-5-5"):
        answered(alice, model=model, conversation=talk)
    page = page_of(alice, **options)
    page.goto("/billing/")
    fits(page)
    page.locator("#statement summary").first.click()
    expect(page.get_by_role("table", name="How this price comes about").first).to_be_visible()
    page.get_by_text("Day by day").click()
    table = page.get_by_role("table", name="Credits used per day (UTC) and model")
    expect(table.get_by_role("row")).to_have_count(2)
    # Where more of it can be scrolled to, an edge is shaded.
    for wide in page.locator("#use .table-scroll").all():
        expect(wide).to_have_css("background-attachment", "local, local, scroll, scroll")
    fits(page)

    page.get_by_label("Model").select_option("Opus 5.5")
    page.get_by_role("search").get_by_role("button", name="Show").click()
    expect(page.locator("#statement tbody[role=rowgroup] > tr")).to_have_count(1)
    expect(page.get_by_label("Model")).to_have_value("claude-opus-5-5")
    page.get_by_role("link", name="Clear the filters").click()
    expect(page.locator("#statement tbody[role=rowgroup] > tr")).to_have_count(4)


def test_the_balance_moves_while_the_page_is_open(alice: User, page_of: Callable[..., Page]) -> None:
    page = page_of(alice)
    page.goto("/billing/")
    shown = page.locator("[data-wallet-text=available]")
    expect(shown).to_have_text(["100.00", "100.00"])
    moved = page.get_by_text("Your balance has changed.")
    # The page's socket may still be on its way: what it begins with is the balance of then.
    spend(alice, 1_250_000)
    # Not in this thread, in which Playwright's event loop runs.
    with ThreadPoolExecutor() as pool:
        pool.submit(notify, alice.pk, "balance").result()
    expect(shown).to_have_text(["98.75", "98.75"])
    expect(moved).to_be_visible()
    page.get_by_role("link", name="Show the new lines").click()
    expect(page.locator("#statement tbody[role=rowgroup] > tr")).to_have_count(2)
    expect(moved).to_be_hidden()


def fits(page: Page) -> None:
    """Nothing makes the page scroll sideways."""
    page.wait_for_load_state()  # its style sheets are there
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
