"""A browser reads an answer to its end, whatever becomes of its connection."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from playwright.sync_api import Page, expect

from accounts.models import User
from chatapp.conversations.models import Message
from tests.browser import Pages
from tests.conftest import SignIn
from tests.proxy import Proxy
from tests.stack import Stack
from tests.streaming.reading import TURNS, ask_until, follow, text_of

LONG = "[[demo: tokens 16000]] [[demo: pace 100]] go on and on"
READ = """
turn => {
  window.read = { text: "", types: [], opened: 0 };
  window.source = new EventSource(`/api/v1/turns/${turn}/events`);
  source.addEventListener("open", () => (read.opened += 1));
  for (const type of ["start", "thinking", "text", "done"]) {
    source.addEventListener(type, ({ data }) => {
      read.types.push(type);
      if (type === "text") read.text += JSON.parse(data).text;
    });
  }
}
"""


WORDS = "document.querySelector('article.answer .prose:not(.quiet)')?.innerText ?? ''"


def words_of(page: Page) -> str:
    words: str = page.evaluate(f"() => {WORDS}")
    return words


def wait_for_more(page: Page, than: str) -> None:
    """Wait until the page shows more words, behind these."""
    # What stands at the end of unfinished Markdown may be shown otherwise once it is finished.
    page.wait_for_function(
        f"than => ({WORDS}).startsWith(than.slice(0, -20)) && ({WORDS}).length > than.length", arg=than
    )


def has_text(seen: list[dict[str, Any]]) -> bool:
    return len(text_of(seen)) > 20


def test_an_event_source_comes_back_by_itself_and_stays_away_after_the_end(
    stack: Stack, alice: User, page_of: Callable[..., Page], sign_in: SignIn
) -> None:
    page, client = page_of(alice), sign_in(alice)
    seen = ask_until(client, has_text, LONG)
    with Proxy(stack.url) as proxy, ThreadPoolExecutor() as threads:
        # A browser takes seconds to come back: somebody else keeps the answer going.
        reading = threads.submit(follow, client, seen[0]["turn"])
        page.goto(f"{proxy.url}/settings/")
        page.evaluate(READ, seen[0]["turn"])
        page.wait_for_function("() => read.text.length > 40")
        proxy.drop()
        page.wait_for_function("() => read.opened === 2")
        assert client.post(f"{TURNS}/{seen[0]['turn']}/stop").status_code == 202
        page.wait_for_function("() => source.readyState === EventSource.CLOSED")

        read = page.evaluate("() => read")
        events = reading.result()
    whole = Message.objects.get(pk=seen[0]["assistant_message"]).text
    assert read["text"] == text_of(events) == whole
    assert (read["types"].count("start"), read["types"].count("done"), read["types"][-1]) == (1, 1, "done")
    assert read["opened"] == 2  # a third time it was told that there is no more


def test_a_page_goes_on_after_a_reload_beside_another_and_without_a_network(
    stack: Stack, alice: User, pages: Pages, page_of: Callable[..., Page]
) -> None:
    # A busy machine takes seconds to load a page.
    web = stack.start_web({"TURN_RECONNECT_SECONDS": "60"})
    page, other = page_of(alice), page_of(alice)
    page.goto(f"{web.url}/chat/")
    box = page.get_by_placeholder("Message Claude")
    box.fill(LONG)
    box.press("Enter")
    page.wait_for_url("**/chat/*/")
    wait_for_more(page, "")

    before = words_of(page)
    page.reload()
    wait_for_more(page, before)
    other.goto(page.url)
    wait_for_more(other, before)

    page.context.set_offline(True)
    expect(page.get_by_text("goes on if you are back within 60 seconds.")).to_be_visible()
    expect(page.locator("article.answer").get_by_text("Connection lost. Trying again…")).to_be_visible()
    wait_for_more(other, words_of(page))
    page.context.set_offline(False)
    wait_for_more(page, words_of(page))

    other.get_by_role("button", name="Stop").click()
    for one in (page, other):
        expect(one.locator("article.answer[aria-busy]")).to_have_count(0)
        expect(one.locator("[data-part=announcer]")).to_contain_text("You stopped the answer.")
    read = [words_of(one) for one in (page, other)]
    other.reload()
    wait_for_more(other, "")
    assert read == [words_of(other)] * 2
    # A formula that came just before wanted its font just then.
    pages.problems[:] = [problem for problem in pages.problems if "ERR_INTERNET_DISCONNECTED" not in problem]
