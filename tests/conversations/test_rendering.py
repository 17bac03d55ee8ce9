"""What becomes of an answer's Markdown on the page, hostile or not."""

import re
from collections.abc import Callable

from playwright.sync_api import Page, Route, expect

from accounts.models import User
from tests.browser import Pages
from tests.conversations.talk import conversation, said, show
from tests.stack import Stack

ANSWER = """
1. First

$$x^2$$

2. Second

| what | credits |
|:---:|---:|
| top-up | 100.00 |

A [page](https://example.org/a?b=c), a [script](javascript:window.hacked=1), [data](data:text/html,x).

<img src=x onerror="window.hacked=1"><iframe srcdoc="x"></iframe><style>body{display:none}</style>
<a href="javascript:window.hacked=1" onclick="window.hacked=1" style="position:fixed">by HTML</a>
<svg><script>window.hacked=1</script></svg><form action="/accounts/logout/"><input name="x"></form>
"""


def test_an_answer_keeps_its_form_and_brings_nothing_that_runs(
    stack: Stack, alice: User, page_of: Callable[..., Page]
) -> None:
    chat = conversation(alice)
    show(chat, said(chat, ANSWER, after=said(chat, "<b>How?</b>")))
    page = page_of(alice)
    page.goto(f"/chat/{chat.pk}/")
    answer = page.locator("article.answer")
    expect(answer.locator("table")).to_be_visible()

    lists, cells = answer.locator("ol"), answer.locator("td")
    assert [lists.nth(place).evaluate("list => list.start") for place in range(2)] == [1, 2]
    alignment = "cell => getComputedStyle(cell).textAlign"
    assert [cells.nth(place).evaluate(alignment) for place in range(2)] == ["center", "right"]
    link = answer.get_by_role("link", name="page")
    assert link.get_attribute("href") == "https://example.org/a?b=c"
    assert link.get_attribute("rel") == "noopener noreferrer nofollow"

    links = answer.locator("a[href]").evaluate_all("links => links.map(link => link.outerHTML)")
    assert len(links) == 1, links
    assert (
        answer.locator("img, iframe, style, svg script, form, input, [onclick], [style*=fixed]").count() == 0
    )
    assert page.evaluate("window.hacked") is None
    expect(page.locator("article").first).to_contain_text("<b>How?</b>")


def test_without_a_network_code_and_formulas_are_read_as_they_were_written(
    stack: Stack, alice: User, page_of: Callable[..., Page], pages: Pages
) -> None:
    chat = conversation(alice)
    show(chat, said(chat, "```python\nprint(1)\n```\n\n$$x^2$$", after=said(chat, "How?")))
    page = page_of(alice)
    refused: list[str] = []

    def refuse(route: Route) -> None:
        refused.append(route.request.url)
        route.abort()

    for module in ("highlight", "katex"):
        page.route(re.compile(rf"/vendor/.*{module}[^/]*\.m?js"), refuse)
    page.goto(f"/chat/{chat.pk}/")
    answer = page.locator("article.answer")
    expect(answer.locator("pre")).to_have_text("print(1)")
    expect(answer.locator(".math")).to_contain_text("x^2")
    page.wait_for_load_state("networkidle")
    assert len(refused) == 2
    pages.problems[:] = [problem for problem in pages.problems if "net::ERR_FAILED" not in problem]
