import assert from "node:assert/strict";
import { test } from "node:test";

import { backoffDelay } from "#lib/backoff.js";

const LEAST = () => 0;
const MOST = () => 1 - Number.EPSILON;

test("the first try comes within half a second", () => {
  assert.ok(backoffDelay(0, MOST) < 500);
});

test("each attempt waits about twice as long, up to a quarter of a minute", () => {
  const delays = [0, 1, 2, 3, 4].map((attempt) => backoffDelay(attempt, LEAST));
  for (const [index, delay] of delays.slice(1).entries())
    assert.equal(delay, 2 * /** @type {number} */ (delays[index]));
  assert.ok(backoffDelay(50, MOST) <= 15_000);
  assert.ok(backoffDelay(50, LEAST) >= 7_500);
});

test("half of each delay is chance", () => {
  assert.equal(
    backoffDelay(3, () => 0.5),
    backoffDelay(3, LEAST) * 1.5,
  );
});
