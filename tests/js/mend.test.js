import assert from "node:assert/strict";
import { test } from "node:test";

import { lex, toHtml } from "#lib/markdown.js";
import { mend } from "#lib/mend.js";

/** @param {string} source */
const shown = (source) => toHtml(lex(mend(source))).trim();

/** @type {Record<string, Record<string, string>>} */
const CASES = {
  "emphasis that is still open": {
    "some **bo": "<p>some <strong>bo</strong></p>",
    "some *it": "<p>some <em>it</em></p>",
    "~~gone": "<p><del>gone</del></p>",
    "**a *b": "<p><strong>a <em>b</em></strong></p>",
    "**bold ": "<p><strong>bold</strong> </p>",
    "- one\n- **two": "<ul>\n<li>one</li>\n<li><strong>two</strong></li>\n</ul>",
    "> **quote": "<blockquote>\n<p><strong>quote</strong></p>\n</blockquote>",
  },
  "marks that may yet become something": {
    "some **bold*": "<p>some <strong>bold</strong></p>",
    "some *": "<p>some </p>",
    "text\n-": "<p>text</p>",
    "text\n##": "<p>text</p>",
    "text\n1": "<p>text</p>",
    "text\n```": "<p>text</p>",
    "- ": "",
    "**": "",
  },
  "code that is still open": {
    "a `co": "<p>a <code>co</code></p>",
    "a ``co ` de": "<p>a <code>co ` de</code></p>",
    "```py": '<pre><code class="language-py"></code></pre>',
    "```py\nx = 1\n``": '<pre><code class="language-py">x = 1</code></pre>',
    "```py\nx = 1\n**y": '<pre><code class="language-py">x = 1\n**y</code></pre>',
  },
  "links and mathematics before they are whole": {
    "see [the do": "<p>see the do</p>",
    "see [the docs](https://exa": "<p>see the docs</p>",
    "see [the docs](https://example.org/)": '<p>see <a href="https://example.org/">the docs</a></p>',
    "![alt](https://exa": "",
    "x <https://exa": "<p>x </p>",
    "so \\(a^2": "<p>so </p>",
    "so $$a^2": "<p>so </p>",
    "line <br": "<p>line </p>",
  },
  "a table as soon as its head is whole": {
    "| a | b": "",
    "Text:\n\n| a | b": "<p>Text:</p>",
    "| a | b |\n": '<div class="table-scroll"><table><thead><tr><th>a</th><th>b</th></tr></thead></table></div>',
    "| a | b |\n|--": '<div class="table-scroll"><table><thead><tr><th>a</th><th>b</th></tr></thead></table></div>',
    "| a |\n|---|\n| **x":
      '<div class="table-scroll"><table><thead><tr><th>a</th></tr></thead><tbody><tr><td><strong>x</strong></td></tr></tbody></table></div>',
  },
  "what only looks like a mark": {
    "2*3 is six": "<p>2*3 is six</p>",
    "2 * 3 is": "<p>2 * 3 is</p>",
    snake_case_na: "<p>snake_case_na</p>",
    "pay $5 an": "<p>pay $5 an</p>",
    "a [1] b": "<p>a [1] b</p>",
    "\\*not": "<p>*not</p>",
    "a < b": "<p>a &lt; b</p>",
  },
};

for (const [name, cases] of Object.entries(CASES)) {
  test(name, () => {
    for (const [source, html] of Object.entries(cases)) assert.equal(shown(source), html, JSON.stringify(source));
  });
}

test("a whole text is left as it is", () => {
  for (const source of [
    "Plain.",
    "**b** *i* `c` ~~d~~ [l](https://x.org) \\(m\\)",
    "- a\n- b",
    "| a |\n|---|\n| b |",
    "```\nx\n```",
  ]) {
    assert.equal(mend(source), source);
  }
});
