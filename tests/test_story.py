"""The whole story in a browser: sign up, chat, watch the price leave the balance, run dry, buy, chat on."""

import re
import secrets
from decimal import Decimal

from playwright.sync_api import Page, expect

from accounts.models import User
from billing import ledger
from chatapp.conversations.models import Turn
from tests.stack import Stack
from tests.streaming.reading import new_id

PASSWORD = "correct horse battery staple"


def send(page: Page, text: str) -> None:
    box = page.get_by_placeholder("Message Claude")
    box.fill(text)
    box.press("Enter")


def balance(page: Page) -> Decimal:
    """The credits that the page shows as available."""
    shown = page.locator("[data-wallet]").first.get_attribute("data-available")
    assert shown is not None
    return Decimal(shown)


def test_sign_up_chat_run_dry_buy_and_chat_on(stack: Stack, page: Page) -> None:
    email = f"newcomer-{secrets.token_hex(6)}@example.org"

    page.goto("/")
    page.get_by_role("link", name=re.compile("sign up|create|start", re.IGNORECASE)).first.click()
    page.get_by_label(re.compile("e-?mail", re.IGNORECASE)).fill(email)
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_role("main").get_by_role("button", name=re.compile("sign up|create", re.IGNORECASE)).click()
    page.wait_for_url("**/chat/")
    assert balance(page) == 100

    # The answer is seen to arrive in pieces, and its price leaves the balance.
    stack.claude.script("tokens 240", "pace 80")
    send(page, "Tell me something long.")
    answer = page.get_by_role("article", name="Claude").last
    expect(answer).to_contain_text(re.compile(r"\w{4}"))
    first = answer.inner_text()
    # Looked at together: it may end at any moment.
    page.wait_for_function(
        """length => document.querySelector("article.answer .prose:not(.quiet)").innerText.length > length
            && document.querySelector("[data-part=stop]").checkVisibility()""",
        arg=len(first) + 40,
    )
    expect(answer.locator("[data-part=price]")).to_contain_text("credits")
    turn = Turn.objects.get(user__email=email)
    assert turn.state == "completed"
    page.wait_for_function(
        "price => Number(document.querySelector('[data-wallet]').dataset.available) === 100 - price",
        arg=turn.charged / 1_000_000,
    )
    assert page.url.endswith(f"/chat/{turn.conversation_id}/")

    # A reload shows what was said.
    page.reload()
    expect(page.get_by_role("article", name="Claude")).to_have_count(1)

    # Credits run out: the page says so before anything is asked of Claude.
    person = User.objects.get(email=email)
    wallet = ledger.wallet_of(person)
    ledger.adjust(
        user=person, amount=-wallet.available + 1000, reason="ran dry", made_by=person, key=new_id()
    )
    asked = len(stack.claude.requests())
    page.reload()
    send(page, "And one more thing?")
    packs = page.get_by_role("link", name=re.compile("top up|buy|packs", re.IGNORECASE)).last
    expect(page.get_by_role("alert").or_(packs).first).to_be_visible()
    assert len(stack.claude.requests()) == asked

    # Buy a pack on Stripe's page, and chat on.
    page.goto("/billing/")
    page.get_by_role("button", name=re.compile("buy", re.IGNORECASE)).first.click()
    page.wait_for_url(f"{stack.stripe_url}/**")
    page.get_by_role("button", name=re.compile(r"^pay\b", re.IGNORECASE)).first.click()
    page.wait_for_url("**/billing/return/**")
    expect(page.get_by_role("main")).to_contain_text("500")
    assert ledger.wallet_of(person).available == 500_001_000

    page.goto(f"/chat/{turn.conversation_id}/")
    stack.claude.script({"say": {"text": "Gladly."}})
    send(page, "Now then, go on.")
    expect(page.get_by_role("article", name="Claude").last).to_contain_text("Gladly.")
    expect(page.get_by_role("article", name="Claude").last).to_contain_text("credits")
