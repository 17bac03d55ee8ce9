import assert from "node:assert/strict";
import { test } from "node:test";

import { blocksOf, BlockSplitter } from "#lib/blocks.js";

const ANSWERS = {
  prose: "One paragraph,\non two lines.\n\nAnother with **bold** and `code`.\n\n\nAnd a last one.",
  headings: "# Title\nText right below.\n## Second\n\nSetext\n======\n\nrule below\n\n---\n\nend",
  code: "Before:\n```python\ndef f():\n\n    return 1\n```\nafter\n\n~~~\na ``` b\n~~~\n\n````md\n```js\nx\n```\n````\nend",
  lists:
    "- one\n- two\n\n- three, loose\n\n  with a paragraph\n\n1. first\n2. second\n\n10 is a number, not an item.\n\n* star\n\n-dash",
  "numbers after a list": "1. one\n2. two\n\n3. three\n\n2024 was a year.\n\n- a\n\n**bold** start\n\n- b\n\n--- x",
  nested:
    "1. One\n   - a\n   - b\n\n     ```sh\n     echo\n\n     two\n     ```\n2. Two\n\n> quote\n> more\n\n> another\nlazy",
  table: "Numbers:\n\n| a | b |\n|---|--:|\n| 1 | 2 |\n| 3 | 4 |\n\nText | with a pipe.\n\n|x|\n|-|",
  math: "Text\n$$\na\n= b\n$$\nmore \\(x\\)\n\n\\[\ny\n\\]\n\nend $z$",
  indented: "Text\n\n    code\n\n    more code\n\nend",
  tasks: "- [ ] to do\n- [x] done\n\nend",
  carriage: "one\r\n\r\n- a\r\n- b\r\n\r\n```\r\nx\r\n```\r\n",
};

for (const [name, text] of Object.entries(ANSWERS)) {
  test(`${name}: character by character, the settled blocks are those of the whole`, () => {
    const whole = blocksOf(text).map(({ html }) => html);
    const splitter = new BlockSplitter();
    /** @type {string[]} */
    const settled = [];
    for (let end = 1; end <= text.length; end += 1) {
      settled.push(...splitter.push(text.slice(0, end)).settled.map(({ html }) => html));
      assert.deepEqual(settled, whole.slice(0, settled.length), `after ${JSON.stringify(text.slice(0, end))}`);
    }
    assert.ok(settled.length >= whole.length - 2, "most of it has settled");
  });

  test(`${name}: the cut may fall anywhere`, () => {
    const whole = blocksOf(text).map(({ html }) => html);
    for (let cut = 0; cut <= text.length; cut += 1) {
      const splitter = new BlockSplitter();
      const first = splitter.push(text.slice(0, cut));
      const second = splitter.push(text);
      const settled = [...first.settled, ...second.settled].map(({ html }) => html);
      assert.deepEqual(settled, whole.slice(0, settled.length), `cut at ${cut}`);
      const shown = settled.join("") + splitter.preview(second.open);
      assert.equal(shown, whole.join(""), `cut at ${cut}`);
    }
  });
}

test("a paragraph settles with the blank line behind it, a fence with the line it is closed on", () => {
  const splitter = new BlockSplitter();
  assert.equal(splitter.push("One.\n").settled.length, 0);
  assert.equal(splitter.push("One.\n\n").settled.length, 1);
  assert.equal(splitter.push("One.\n\n```js\nx\n```").settled.length, 0);
  const { settled, open } = splitter.push("One.\n\n```js\nx\n```\nmo");
  assert.equal(settled.length, 1);
  assert.equal(open, "mo");
});

test("a list waits until what follows cannot be its next item", () => {
  const splitter = new BlockSplitter();
  for (const text of ["- a\n", "- a\n\n", "- a\n\n1", "- a\n\n  "]) {
    assert.equal(new BlockSplitter().push(text).settled.length, 0, JSON.stringify(text));
  }
  assert.equal(splitter.push("- a\n\nText").settled.length, 1);
});

test("a block is told with its source, for those who listen", () => {
  assert.equal(new BlockSplitter().push("Some **words**.\n\nmore").settled[0]?.text, "Some **words**.");
});

test("what is open may use a link defined in a settled block", () => {
  const splitter = new BlockSplitter();
  const { open } = splitter.push("[a]: https://example.org/\n\nsee [a]");
  assert.match(splitter.preview(open), /href="https:\/\/example\.org\/"/);
});
