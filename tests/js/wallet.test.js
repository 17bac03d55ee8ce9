import assert from "node:assert/strict";
import { test } from "node:test";

import { pieces } from "#wallet.js";

const CREDIT = 1_000_000n;

test("the bar's pieces are shares of what the wallet had when it was full", () => {
  assert.deepEqual(pieces(50n * CREDIT, 25n * CREDIT, 100n * CREDIT), { available: 42, held: 21 });
  assert.deepEqual(pieces(0n, 0n, CREDIT), { available: 0, held: 0 });
});

test("the least hold is seen, and none reaches beyond the bar", () => {
  assert.equal(pieces(50n * CREDIT, 1n, 100n * CREDIT).held, 2);
  const { available, held } = pieces(999n * CREDIT, 1n * CREDIT, 1000n * CREDIT);
  assert.equal(available + held, 84);
});

test("a wallet below zero has an empty bar", () => {
  assert.deepEqual(pieces(-5n * CREDIT, 0n, 100n * CREDIT), { available: 0, held: 0 });
});
