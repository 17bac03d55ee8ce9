import assert from "node:assert/strict";
import { test } from "node:test";

import { uuid4 } from "#lib/uuid.js";
import { duration, grouped, wholeSeconds } from "#lib/words.js";

test("durations are as exact as they deserve", () => {
  assert.deepEqual([0, 380, 9949, 9951, 59_400, 65_000].map(duration), [
    "0.0 s",
    "0.4 s",
    "9.9 s",
    "10 s",
    "59 s",
    "1 min 5 s",
  ]);
  assert.deepEqual([200, 1499, 3000, 61_000].map(wholeSeconds), ["1 s", "1 s", "3 s", "1 min 1 s"]);
});

test("counts are grouped", () => {
  assert.equal(grouped(1204567), "1,204,567");
});

test("a client's id is a random UUID", () => {
  const ids = Array.from({ length: 50 }, uuid4);
  for (const id of ids) assert.match(id, /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  assert.equal(new Set(ids).size, ids.length);
});
