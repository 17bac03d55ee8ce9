"""The admin as a browser shows it: no error in the console, nothing refused by the policy, nothing cut off."""

import itertools
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.utils import timezone
from playwright.sync_api import Page, expect
from playwright.sync_api import TimeoutError as PlaywrightTimeout

from accounts.models import ApiKey, User
from billing.models import Price, StripeEvent
from chatapp.conversations.models import Conversation, Turn
from tests.admin.desk import SECRET, conversation, ended_turn
from tests.billing.books import CREDIT, grant, order, wallet_of

LISTS = [
    "",
    *("accounts/user/", "accounts/apikey/", "admin/logentry/", "auth/group/"),
    *(
        "conversations/conversation/",
        "conversations/turn/",
        "streaming/usagerecord/",
        "streaming/guardfinding/",
    ),
    *("money/", "money/day/", "money/model/", "money/user/"),
    *("billing/account/", "billing/hold/", "billing/transfer/", "billing/order/", "billing/stripeevent/"),
    *("billing/pack/", "billing/price/", "billing/languagemodel/"),
    *("billing/discrepancy/", "billing/reconciliation/"),
    *("billing/plan/", "billing/subscription/", "billing/autotopup/"),
]

FITS = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
STICKING_OUT = """
    [...document.querySelectorAll("body *")]
        .filter(element => element.getBoundingClientRect().right > document.documentElement.clientWidth)
        .map(element => element.outerHTML.slice(0, 150))
"""


@pytest.fixture
def turn(committed_db: None, alice: User) -> Turn:
    """An answer of alice's, with which there is something of hers on every kind of page."""
    chat = conversation(alice)
    # Ten pages of a list, each of which has its link.
    Conversation.objects.bulk_create(Conversation(user=alice, title="Another") for _ in range(901))
    return ended_turn(alice, conversation=chat)


# In parts, which several processes can look at.
@pytest.mark.parametrize("part", range(4))
def test_every_list_fits_and_works(
    turn: Turn, operator: User, page_of: Callable[..., Page], part: int
) -> None:
    assert_each_fits_and_works(page_of, operator, LISTS[part::4])


def test_every_form_fits_and_works(
    turn: Turn, alice: User, operator: User, page_of: Callable[..., Page]
) -> None:
    key, _ = ApiKey.issue(user=alice, name="cron")
    grant(alice, CREDIT, expires_at=timezone.now() + timedelta(days=30))
    unpaid = order(alice, CREDIT)
    event = StripeEvent.objects.create(
        id=f"evt_{alice.pk.hex}", type="invoice.paid", payload={"data": {}}, outcome="failed", error="x" * 300
    )
    person = f"accounts/user/{alice.pk}"
    chat = f"conversations/conversation/{turn.conversation_id}"
    forms = [
        *(f"{person}/change/", f"{person}/adjust-credits/", f"{person}/grant-credits/"),
        *(f"{person}/password/", "accounts/user/add/"),
        *(f"accounts/apikey/{key.pk}/change/", f"accounts/apikey/{key.pk}/revoke/", f"{person}/history/"),
        *(f"{chat}/change/", f"{chat}/messages/"),
        f"conversations/turn/{turn.pk}/change/",
        f"streaming/usagerecord/{turn.pk}/change/",
        f"billing/account/{wallet_of(alice).pk}/change/",
        f"billing/hold/{turn.pk}/change/",
        f"billing/price/{turn.price_id}/change/",
        *(f"billing/order/{unpaid.pk}/change/", f"billing/order/{unpaid.pk}/refund/"),
        *(f"billing/stripeevent/{event.pk}/change/", f"billing/stripeevent/{event.pk}/replay/"),
        *("billing/price/add/", "billing/pack/add/", "auth/group/add/"),
        "billing/languagemodel/claude-sonnet-5-5/change/",
    ]
    assert_each_fits_and_works(page_of, operator, forms)


def assert_each_fits_and_works(page_of: Callable[..., Page], operator: User, places: list[str]) -> None:
    """On a phone and in a wide window; every other page in the dark.

    Whatever goes wrong in the console of a page fails the test besides: see the fixture `pages`.
    """
    page = page_of(operator)
    for place, theme in zip(places, itertools.cycle(("dark", "light")), strict=False):
        page.emulate_media(color_scheme=theme)
        page.set_viewport_size({"width": 360, "height": 800})
        answer = page.goto(f"/admin/{place}")
        assert answer is not None
        assert answer.status == 200, place
        # Alpine, without which nothing opens, has run.
        expect(page.locator("html[x-cloak]")).to_have_count(0)
        expect(page.locator("html.dark")).to_have_count(1 if theme == "dark" else 0)
        assert_fits(page, place)
        page.set_viewport_size({"width": 1280, "height": 800})
        assert_fits(page, place)


def assert_fits(page: Page, place: str) -> None:
    # Alpine takes a moment to hide what is folded away.
    try:
        page.wait_for_function(FITS)
    except PlaywrightTimeout:
        pytest.fail(f"{place} is too wide: {page.evaluate(STICKING_OUT)}")


def test_an_operator_gives_credits(alice: User, operator: User, page_of: Callable[..., Page]) -> None:
    page = page_of(operator)
    page.goto("/admin/accounts/user/")
    page.get_by_placeholder("E-mail, name or id").fill(alice.email)
    page.keyboard.press("Enter")
    page.wait_for_url("**/?q=*")  # the list before the search has this link too
    page.get_by_role("link", name=alice.email).click()
    page.get_by_role("link", name="Adjust credits").click()
    page.get_by_label("Credits").fill("12.5")
    page.get_by_label("Reason").fill("Sorry for the outage")
    page.get_by_role("button", name="Show what it does").click()
    expect(page.get_by_text("The balance is 100.000000 now and 112.500000 then.")).to_be_visible()
    page.get_by_role("button", name="Give 12.500000 credits").click()
    expect(
        page.get_by_text(f"12.500000 credits were given to {alice.email} by {operator.email}")
    ).to_be_visible()
    assert wallet_of(alice).balance == 112_500_000


def test_an_operator_gives_credits_to_many(
    alice: User, bob: User, operator: User, page_of: Callable[..., Page]
) -> None:
    page = page_of(operator)
    page.goto("/admin/accounts/user/")
    for user in (alice, bob):
        page.get_by_role("row", name=user.email).get_by_role("checkbox").check()
    page.get_by_label("Select action to run").select_option("Give promotional credits")
    page.get_by_role("button", name="Run").click()
    page.get_by_label("Credits for each person").fill("3")
    page.get_by_label("Last day").fill(f"{timezone.now() + timedelta(days=9):%Y-%m-%d}")
    page.get_by_label("Reason").fill("Spring")
    page.get_by_role("button", name="Show what it does").click()
    page.get_by_role("button", name="Give 6.000000 credits").click()
    expect(page.get_by_text("3.000000 promotional credits were given to each of 2 people")).to_be_visible()
    assert [wallet_of(user).balance for user in (alice, bob)] == [103_000_000, 103_000_000]


def test_usage_is_filtered_by_day_in_the_page(
    alice: User, operator: User, page_of: Callable[..., Page]
) -> None:
    ended_turn(alice, price=CREDIT)
    page = page_of(operator)
    page.goto(f"/admin/streaming/usagerecord/?q={alice.email}")
    totals = page.get_by_label("Totals of what the filters leave")
    expect(totals).to_contain_text("1.000000")
    page.locator("a", has_text="Filters").click()
    page.locator("[name=ended_at_to]").fill("2020-01-01")
    page.get_by_role("button", name="Apply filters").click()
    expect(totals).to_contain_text("0.000000")


def test_money_is_narrowed_by_clicks(alice: User, operator: User, page_of: Callable[..., Page]) -> None:
    ended_turn(alice, price=CREDIT)
    page = page_of(operator)
    page.goto(f"/admin/money/user/?q={alice.email}")
    row = page.locator("tbody tr")
    expect(row).to_have_count(1)
    expect(row).to_contain_text("1.000000")
    page.get_by_role("link", name="Revenue").click()
    expect(page.locator("[aria-sort=descending]")).to_have_text("Revenue")
    page.get_by_role("link", name=alice.email).click()
    expect(page.get_by_role("heading", name="Money per day")).to_be_visible()
    page.get_by_label("To", exact=True).fill("2020-01-31")
    page.get_by_label("From", exact=True).fill("2020-01-01")
    page.get_by_role("button", name="Show").click()
    expect(page.get_by_text("Nothing happened in this time.")).to_be_visible()


def test_a_price_is_previewed_while_it_is_typed(
    committed_db: None, operator: User, page_of: Callable[..., Page]
) -> None:
    page = page_of(operator)
    fixed = Price.objects.now_for("claude-sonnet-5-5")
    page.goto(f"/admin/billing/price/{fixed.pk}/replace/")
    expect(page.get_by_role("row", name="Short turn")).to_contain_text("0.700000")
    page.locator("[name=output_usd]").fill("150")
    expect(page.get_by_role("row", name="Short turn")).to_contain_text("7.700000")
    page.get_by_label("I have looked at this twice and mean it.").check()
    expect(page.get_by_text("Output would be 15 times what it is now: 150, not 10.")).to_be_visible()


def test_messages_appear_only_after_the_click(
    alice: User, operator: User, page_of: Callable[..., Page]
) -> None:
    chat = conversation(alice)
    page = page_of(operator)
    page.goto(f"/admin/conversations/conversation/{chat.pk}/change/")
    page.get_by_role("link", name="Show messages").click()
    expect(page.get_by_text(SECRET)).to_have_count(0)
    page.get_by_role("button", name="Show the messages").click()
    expect(page.get_by_text(SECRET)).to_have_count(2)
