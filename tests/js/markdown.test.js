import assert from "node:assert/strict";
import { test } from "node:test";

import { lex, toHtml } from "#lib/markdown.js";

/** @param {string} source */
const html = (source) => toHtml(lex(source)).trim();

test("raw HTML is shown as it was written", () => {
  for (const source of [
    "<script>alert(1)</script>",
    "<div onclick=x>hey</div>",
    "vector<int>",
    "<!-- note -->",
    "<a href=x>b</a>",
  ]) {
    assert.equal(html(source), `<p>${source.replaceAll("<", "&lt;").replaceAll(">", "&gt;")}</p>`);
  }
});

test("a few bare tags are markup, and none with attributes", () => {
  assert.equal(html("H<sub>2</sub>O<br>x<BR/>"), "<p>H<sub>2</sub>O<br>x<BR/></p>");
  assert.equal(html("<sub class=x>2</sub>"), "<p>&lt;sub class=x&gt;2</sub></p>");
});

test("text inside raw <code> or <pre> is escaped like any other", () => {
  assert.doesNotMatch(html("<pre>a <img src=x onerror=alert(1)> b</pre>"), /<(?:pre|img)/);
  assert.doesNotMatch(html("<code>a <b>c</b></code>"), /<(?:code|b)>/);
});

test("links lead to the web or to mail, everything else is text", () => {
  assert.equal(html("[a](https://example.org/?a=1&b=2)"), '<p><a href="https://example.org/?a=1&amp;b=2">a</a></p>');
  assert.equal(html("[a](mailto:x@example.org)"), '<p><a href="mailto:x@example.org">a</a></p>');
  for (const href of [
    "javascript:alert(1)",
    "JaVaScRiPt:alert(1)",
    "data:text/html,x",
    "/admin/",
    "//evil.example",
    "#x",
    "vbscript:x",
  ]) {
    assert.equal(html(`[a](${href})`), "<p>a</p>", href);
  }
});

test("a quote in an address stays in the address", () => {
  assert.doesNotMatch(html('[a](<https://example.org/" onmouseover="alert(1)>)'), /" onmouseover/);
});

test("an image is offered as a link, and nothing is loaded", () => {
  assert.equal(
    html("![A cat](https://example.org/c.png)"),
    '<p><a href="https://example.org/c.png">Image: A cat</a></p>',
  );
  assert.equal(html("![x](data:image/png;base64,AAAA)"), "<p>x</p>");
});

test("the language of code is a plain word", () => {
  assert.equal(html("```Python title=x\na < b\n```"), '<pre><code class="language-python">a &lt; b</code></pre>');
  assert.equal(html('```"><script>\nx\n```'), "<pre><code>x</code></pre>");
});

test("headings begin below those of the page", () => {
  assert.equal(html("# One\n\n###### Six"), "<h3>One</h3>\n<h6>Six</h6>");
});

test("money stays money", () => {
  for (const source of ["from $5 to $10", "$5, then $6.", "it costs $ 5 or 6 $ here", "US$5/month vs $8/month"]) {
    assert.equal(html(source), `<p>${source}</p>`);
  }
});

test("mathematics keeps its source, untouched by Markdown", () => {
  assert.equal(html("so $a_1*b*c < d$ holds"), '<p>so <span class="math">a_1*b*c &lt; d</span> holds</p>');
  assert.equal(
    html("\\(x_1\\) and \\[y\\]"),
    '<p><span class="math">x_1</span> and <span class="math math-display">y</span></p>',
  );
  assert.equal(html("$$\nx\n= y\n$$"), '<p><span class="math math-display">x\n= y</span></p>');
  assert.equal(
    html("text\n\\[\nz\n\\]\nmore"),
    '<p>text</p>\n<p><span class="math math-display">z</span></p>\n<p>more</p>',
  );
});

test("a stray pair of dollars does not swallow what follows a blank line", () => {
  assert.equal(html("$$ open\n\nnext $$"), "<p>$$ open</p>\n<p>next $$</p>");
});

test("mathematics in code is code", () => {
  assert.equal(html("`$x$` and `\\(y\\)`"), "<p><code>$x$</code> and <code>\\(y\\)</code></p>");
});

test("tables scroll within themselves and keep their alignment", () => {
  const expected =
    '<div class="table-scroll"><table><thead><tr><th>a</th><th align="right">b</th></tr></thead>' +
    '<tbody><tr><td>1</td><td align="right"><strong>2</strong></td></tr></tbody></table></div>';
  assert.equal(html("| a | b |\n|---|--:|\n| 1 | **2** |"), expected);
});
