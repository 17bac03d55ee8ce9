import assert from "node:assert/strict";
import { test } from "node:test";

import { figure, formatCredits, formatTaken, parseDecimal, toAmount, toMicrocredits } from "#lib/credits.js";

test("amounts of the API become whole microcredits and back, exactly", () => {
  for (const amount of ["0.000000", "0.000001", "12.340000", "9007199254740993.000001", "-0.500000"]) {
    assert.equal(toAmount(toMicrocredits(amount)), amount);
  }
});

test("more places are taken when they are zeros, and refused when they are not", () => {
  assert.equal(toMicrocredits("1.50000000"), 1_500_000n);
  assert.throws(() => toMicrocredits("0.0000001"), RangeError);
});

test("what is not a decimal number is refused", () => {
  for (const text of ["", "1e3", "1,000.00", "NaN", ".5", "--1", " 1"])
    assert.throws(() => parseDecimal(text), RangeError, text);
});

test("credits have two places, or two digits that say something", () => {
  /** @type {[bigint, string][]} */
  const said = [
    [0n, "0.00"],
    [420_000n, "0.42"],
    [58_424_999n, "58.42"],
    [1_234_567_890n, "1,234.57"],
    [9_876_543_210_000_000n, "9,876,543,210.00"],
    [90_300n, "0.09"],
    [3_120n, "0.0031"],
    [1n, "0.000001"],
    [-500_000n, "−0.50"],
  ];
  for (const [microcredits, words] of said) assert.equal(formatCredits(microcredits), words);
});

test("a limit is never understated, and a balance never overstated", () => {
  assert.equal(formatCredits(1_200_001n, "up"), "1.21");
  assert.equal(formatCredits(1_209_999n, "down"), "1.20");
  assert.equal(formatCredits(99_999n, "up"), "0.10");
  assert.equal(formatCredits(-1n, "down"), "−0.000001");
  assert.equal(formatCredits(-1_200_001n, "down"), "−1.21");
});

test("what was taken is what is between the balances that are shown", () => {
  /** @type {[bigint, bigint, string, string][]} */
  const told = [
    [100_000_000n, 418_200n, "99.58", "0.42"],
    [99_581_800n, 418_200n, "99.16", "0.42"],
    [99_169_000n, 411_000n, "98.75", "0.41"],
    [-1_000_000n, 500_001n, "−1.51", "0.51"],
    [50_000_000n, 3_120n, "49.99", "0.0032"],
  ];
  for (const [before, taken, after, words] of told) {
    assert.equal(formatCredits(before - taken, "down"), after);
    assert.equal(formatTaken(taken, before - taken), words);
  }
});

test("a price has the digits that the statement has, and none that is rounded", () => {
  assert.deepEqual(figure(125_100n), { cents: "0.12", rest: "5100" });
  assert.deepEqual(figure(1_234_567_890n), { cents: "1,234.56", rest: "7890" });
  assert.deepEqual(figure(3_120n), { cents: "0.00", rest: "3120" });
  assert.deepEqual(figure(700_000n), { cents: "0.70", rest: "" });
});
