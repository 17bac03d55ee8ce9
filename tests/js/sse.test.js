import assert from "node:assert/strict";
import { test } from "node:test";

import { EventStreamParser } from "#lib/sse.js";

const encoder = new TextEncoder();

/** @param {Iterable<Uint8Array>} chunks */
function read(chunks) {
  const parser = new EventStreamParser();
  return [...chunks].flatMap((chunk) => parser.push(chunk));
}

/** @param {string} text */
const whole = (text) => read([encoder.encode(text)]);

const RECORDED = [
  'id: 0.0\nevent: start\ndata: {"type":"start","turn":"5f0c","held":"8.314000"}\n\n',
  ": keep-alive\n\n",
  'id: 9.0\nevent: thinking\ndata: {"type":"thinking","text":"Größe, 漢字"}\n\n',
  'id: 9.14\nevent: text\ndata: {"type":"text","text":"Ein Maß 🍺 für “alle”\\n\\n"}\n\n',
  ":\n\n",
  'id: 9.14.end\nevent: done\ndata: {"type":"done","status":"completed","charged":"0.417800"}\n\n',
].join("");
const EVENTS = [
  { id: "0.0", event: "start", data: '{"type":"start","turn":"5f0c","held":"8.314000"}' },
  { id: "9.0", event: "thinking", data: '{"type":"thinking","text":"Größe, 漢字"}' },
  { id: "9.14", event: "text", data: '{"type":"text","text":"Ein Maß 🍺 für “alle”\\n\\n"}' },
  { id: "9.14.end", event: "done", data: '{"type":"done","status":"completed","charged":"0.417800"}' },
];

for (const [name, ending] of /** @type {const} */ ([
  ["LF", "\n"],
  ["CRLF", "\r\n"],
  ["CR", "\r"],
])) {
  const bytes = encoder.encode(RECORDED.replaceAll("\n", ending));

  test(`a recorded stream with ${name} reads the same, cut in two at any byte`, () => {
    for (let cut = 0; cut <= bytes.length; cut += 1) {
      assert.deepEqual(read([bytes.subarray(0, cut), bytes.subarray(cut)]), EVENTS, `cut at ${cut}`);
    }
  });

  test(`a recorded stream with ${name} reads the same byte by byte`, () => {
    assert.deepEqual(read(Array.from(bytes, (byte) => Uint8Array.of(byte))), EVENTS);
  });
}

test("a byte order mark at the start is no part of the first field", () => {
  const bytes = Uint8Array.of(0xef, 0xbb, 0xbf, ...encoder.encode("data: x\n\n"));
  for (let cut = 0; cut <= bytes.length; cut += 1) {
    assert.deepEqual(read([bytes.subarray(0, cut), bytes.subarray(cut)]), [{ id: "", event: "message", data: "x" }]);
  }
});

test("data of several lines is joined by line feeds", () => {
  assert.equal(whole("data: one\ndata:two\ndata\ndata:  three\n\n")[0]?.data, "one\ntwo\n\n three");
});

test("an event without data is none, and its name does not stick to the next", () => {
  assert.deepEqual(whole("event: empty\n\ndata: x\n\n"), [{ id: "", event: "message", data: "x" }]);
});

test("an id stays until the next one, and one with a NUL is ignored", () => {
  const ids = whole("id: 1\ndata: a\n\ndata: b\n\nid: 2\0\ndata: c\n\nid\ndata: d\n\n").map(({ id }) => id);
  assert.deepEqual(ids, ["1", "1", "1", ""]);
});

test("an event that the stream does not finish is not told", () => {
  assert.deepEqual(whole("data: whole\n\ndata: half\n"), [{ id: "", event: "message", data: "whole" }]);
});

test("comments and unknown fields are skipped", () => {
  assert.deepEqual(whole(": hello\nretry: 10\nfoo: bar\nbaz\ndata: x\n\n"), [{ id: "", event: "message", data: "x" }]);
});
