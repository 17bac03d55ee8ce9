import assert from "node:assert/strict";
import { test } from "node:test";

import { affordability, promptBound, worstCase } from "#lib/estimate.js";

const PRICES = {
  input: "10.000000",
  output: "50.000000",
  cache_write_5m: "12.500000",
  cache_write_1h: "20.000000",
  cache_read: "1.000000",
};
const ABOVE = {
  input: "50.000000",
  output: "250.000000",
  cache_write_5m: "62.500000",
  cache_write_1h: "100.000000",
  cache_read: "5.000000",
};
const MODEL = {
  id: "claude-haiku-5-5",
  name: "Haiku 5.5",
  description: "",
  default: false,
  context_tokens: 1_000_000,
  max_output_tokens: 128_000,
  answer_tokens: 8192,
  thinks: false,
  prices: PRICES,
  tier: { above_tokens: 100_000, prices: ABOVE },
  flat_fee: "0.000000",
  fallback: null,
};

test("the prompt counts at the dearest price it can have, the longest answer at the price of output", () => {
  // 1,000 × 12.5 + 8,192 × 50 microcredits
  assert.equal(worstCase(MODEL, 1000), 422_100n);
});

test("an hour's cache write is not asked for, so it does not count", () => {
  const dear = { ...MODEL, prices: { ...PRICES, cache_write_1h: "999" } };
  assert.equal(worstCase(dear, 1000), worstCase(MODEL, 1000));
});

test("above the tier its prices hold for every token, and at it they do not yet", () => {
  assert.equal(worstCase(MODEL, 100_000), 1_250_000n + 409_600n);
  assert.equal(worstCase(MODEL, 100_001), 6_250_063n + 2_048_000n);
});

test("a tier that is cheaper than the rest lowers nothing: the prompt may turn out smaller", () => {
  const odd = {
    ...MODEL,
    tier: { above_tokens: 10, prices: { ...ABOVE, input: "0", output: "1", cache_write_5m: "0" } },
  };
  assert.equal(worstCase(odd, 1000), worstCase({ ...MODEL, tier: null }, 1000));
});

test("the flat fee is added once", () => {
  assert.equal(worstCase({ ...MODEL, flat_fee: "0.250000" }, 1000), 672_100n);
});

test("who answers when the model cannot begin may be dearer, in one size of prompt and not in another", () => {
  const other = { id: "o", name: "O", prices: { ...PRICES, output: "60" }, tier: null, flat_fee: "0.000001" };
  const model = { ...MODEL, fallback: other };
  assert.equal(worstCase(model, 1000), 12_500n + 8192n * 60n + 1n);
  assert.equal(worstCase(model, 100_001), worstCase(MODEL, 100_001));
});

test("fractions of a microcredit are added exactly and rounded up once", () => {
  const fine = {
    ...MODEL,
    tier: null,
    prices: { ...PRICES, input: "0.1", cache_write_5m: "0.1", cache_read: "0.1", output: "0.2" },
  };
  assert.equal(worstCase(fine, 1, 1), 1n);
  assert.equal(worstCase(fine, 3, 0), 1n);
  assert.equal(worstCase(fine, 10, 0), 1n);
  assert.equal(worstCase(fine, 11, 0), 2n);
});

test("numbers beyond what floating point can hold stay exact", () => {
  const dear = { ...MODEL, tier: null, prices: { ...PRICES, cache_write_5m: "123456789.123456" } };
  assert.equal(worstCase(dear, 999_999, 0), 123_456_665_666_667n);
});

test("a balance buys the longest answer, a shorter one, or none", () => {
  const { most, least } = affordability(MODEL, 1000, 0n);
  assert.equal(least, 12_500n + 12_800n);
  assert.equal(affordability(MODEL, 1000, most).verdict, "enough");
  assert.equal(affordability(MODEL, 1000, most - 1n).verdict, "limited");
  assert.equal(affordability(MODEL, 1000, least).verdict, "limited");
  assert.equal(affordability(MODEL, 1000, least - 1n).verdict, "short");
  assert.equal(affordability(MODEL, 1000, -5n).verdict, "short");
});

test("what is only held for a running answer is no lack of credits", () => {
  const { least } = affordability(MODEL, 1000, 0n);
  assert.equal(affordability(MODEL, 1000, 0n, least).verdict, "held");
  assert.equal(affordability(MODEL, 1000, 0n, least - 1n).verdict, "short");
  assert.equal(affordability(MODEL, 1000, least, 1n).verdict, "limited");
});

/**
 * @param {string} text
 * @param {{ input_tokens: number, output_tokens: number, cache_read_input_tokens: number, cache_creation_input_tokens: number } | null} [usage]
 */
function message(text, usage) {
  return /** @type {import("#lib/shapes.js").Message} */ (
    /** @type {unknown} */ ({ text, turn: usage === undefined ? null : { usage }, mark: null })
  );
}

test("a prompt is at most its bytes, and a little for each message and the instructions", () => {
  assert.equal(promptBound([], true, ""), 512 + 16);
  assert.equal(promptBound([], true, "größer 🍺"), 512 + 16 + 13);
  assert.equal(promptBound([message("ab"), message("cde", null)], true, "f"), 512 + 3 * 16 + 6);
  assert.equal(promptBound([], true, "", ["größer", ""]), 512 + 16 + 160 + 8);
});

test("what stands above the loaded messages is known from the oldest answer among them", () => {
  const usage = { input_tokens: 4, output_tokens: 9, cache_read_input_tokens: 3000, cache_creation_input_tokens: 200 };
  const loaded = [
    message("not counted twice"),
    message("answer", usage),
    message("later"),
    message("end", { ...usage, input_tokens: 9999 }),
  ];
  assert.equal(promptBound(loaded, false, "x"), 3204 + 4 * 16 + "answerlaterendx".length);
});

test("what stands above the last mark is not sent, but its summary is", () => {
  const usage = { input_tokens: 9999, output_tokens: 9, cache_read_input_tokens: 0, cache_creation_input_tokens: 0 };
  const marked = { ...message("gone", usage), mark: /** @type {const} */ ({ kind: "summary", bytes: 70 }) };
  const loaded = [{ ...marked, text: "long gone" }, message("gone too"), marked, message("kept"), message("end", usage)];
  for (const complete of [true, false]) {
    assert.equal(promptBound(loaded, complete, "x"), 512 + 320 + 70 + 3 * 16 + "keptendx".length);
  }
});
