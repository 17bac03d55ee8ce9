"""The page of a long conversation: its instructions, and where what Claude sees begins."""

from collections.abc import Callable

from playwright.sync_api import Page, expect

from accounts.models import User
from chatapp.conversations.models import Conversation
from tests.conftest import SignIn
from tests.stack import Stack
from tests.streaming.reading import ask


def test_instructions_are_given_by_keyboard_and_the_mark_is_seen_live_and_after_a_reload(
    stack: Stack, alice: User, sign_in: SignIn, page_of: Callable[..., Page]
) -> None:
    client = sign_in(alice)
    conversation = ask(client, "first of all")[0]["conversation"]
    for words in ("second", "third"):
        ask(client, words, conversation=conversation)
    page = page_of(alice)
    page.goto(f"/chat/{conversation}/")

    own = page.get_by_title("This chat has instructions of its own")
    expect(own).to_be_hidden()
    page.get_by_role("button", name="This chat").press("Enter")
    page.get_by_role("menuitem", name="Rename").press("ArrowDown")
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog", name="Instructions for this chat")
    expect(dialog.get_by_role("textbox")).to_be_focused()
    page.keyboard.type(" In rhymes. ")
    expect(dialog).to_contain_text("12 of 4,000 characters")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(dialog).to_be_hidden()
    stack.wait_until(
        lambda: Conversation.objects.get(pk=conversation).instructions == "In rhymes.",
        "the instructions are kept",
    )
    expect(own).to_have_text("Instructions")

    stack.claude.script("too_long", match="again")
    page.get_by_label("Message Claude").fill("once again")
    page.keyboard.press("Enter")
    mark = page.locator(".horizon")
    expect(mark).to_have_text("Claude no longer sees what is above")
    expect(page.locator(".answer").nth(3)).to_contain_text("credits")
    above = "article:has(+ .horizon)"
    answer = page.locator(above).inner_text()
    page.reload()
    expect(mark).to_have_text("Claude no longer sees what is above")
    assert page.locator(above).inner_text() == answer
