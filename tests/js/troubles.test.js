import assert from "node:assert/strict";
import { test } from "node:test";

import { explainRefusal, explainTurn, offlineWords } from "#lib/troubles.js";

/**
 * @param {Partial<import("#lib/shapes.js").Turn>} outcome
 * @returns {import("#lib/shapes.js").Turn}
 */
function turn(outcome) {
  return {
    id: "t",
    state: "completed",
    model: "m",
    model_name: "M",
    stop_reason: "end_turn",
    usage: { input_tokens: 1, output_tokens: 1312, cache_read_input_tokens: 0, cache_creation_input_tokens: 0 },
    charged: "0.000000",
    held: "1.000000",
    estimated: false,
    limited_by_balance: false,
    first_token_ms: null,
    duration_ms: null,
    error: null,
    ...outcome,
  };
}

const REFUSALS =
  "invalid not_signed_in insufficient_credits forbidden not_found turn_running turn_conflict too_large rate_limited unavailable";
const FAILURES =
  "rate_limited overloaded context_too_long provider_rejected provider_unavailable provider_cut refused interrupted connection_lost";

test("every refusal of the API is put in words of its own", () => {
  const titles = REFUSALS.split(" ").map((code) => {
    const { title, text } = explainRefusal({ code, message: "What the server says." });
    assert.ok(text, code);
    return title;
  });
  assert.equal(new Set([...titles, explainRefusal({ code: "unheard_of" }).title]).size, titles.length + 1);
});

test("a refusal nobody has heard of shows the server's sentence, or something at least", () => {
  assert.equal(explainRefusal({ code: "new", message: "Said by the server." }).text, "Said by the server.");
  assert.ok(explainRefusal({ code: "new" }).text);
});

test("a message that is too long is told the limit and what to do", () => {
  const message = "A message may have 400,000 characters; this has 400,001.";
  assert.equal(explainRefusal({ code: "too_large", message }).text, `${message} Shorten it, or send it in parts.`);
  assert.equal(explainRefusal({ code: "too_large" }).text, "Shorten it, or send it in parts.");
});

test("out of credits tells what is there and what is needed, neither of them too kindly", () => {
  const { text, remedy } = explainRefusal({ code: "insufficient_credits", available: "0.439999", needed: "1.190001" });
  assert.match(text, /at least 1\.20 credits; you have 0\.43\./);
  assert.equal(remedy, "top_up");
});

test("every failure is put in words of its own, whoever was asked, and says that it cost nothing", () => {
  const titles = FAILURES.split(" ").map((code) => {
    const explained = explainTurn(turn({ state: "failed", error: { code, message: "m", retryable: true } }));
    assert.ok(explained, code);
    if (code !== "connection_lost") assert.match(explained.text, /not charged/, code);
    assert.doesNotMatch(explained.title + explained.text, /Claude/, code);
    return explained.title;
  });
  assert.equal(new Set(titles).size, titles.length);
});

test("a failure nobody has heard of is retried when the server says that it can be", () => {
  const failed = (/** @type {boolean} */ retryable) =>
    explainTurn(turn({ state: "failed", error: { code: "new", message: "Said.", retryable } }));
  assert.equal(failed(true)?.remedy, "retry");
  assert.equal(failed(false)?.remedy, null);
});

test("what was stopped, left or interrupted can be asked for again", () => {
  for (const state of /** @type {const} */ (["stopped", "abandoned", "interrupted"])) {
    assert.equal(explainTurn(turn({ state }))?.remedy, "retry", state);
  }
});

test("an answer that is whole needs no explanation, and one that is running none yet", () => {
  assert.equal(explainTurn(turn({})), null);
  assert.equal(explainTurn(turn({ limited_by_balance: true })), null);
  assert.equal(explainTurn(turn({ state: "running" })), null);
});

test("an answer cut short says by what", () => {
  const short = explainTurn(turn({ stop_reason: "max_tokens", limited_by_balance: true }));
  assert.match(short?.title ?? "", /balance allowed 1,312 tokens/);
  assert.equal(short?.remedy, "top_up");
  assert.match(explainTurn(turn({ stop_reason: "max_tokens" }))?.title ?? "", /longest/);
  assert.equal(explainTurn(turn({ stop_reason: "model_context_window_exceeded" }))?.remedy, null);
});

test("who is offline is told how long an answer waits for them", () => {
  assert.match(offlineWords(10), /is being written goes on if you are back within 10 seconds\.$/);
  assert.match(offlineWords(1), /within 1 second\.$/);
  assert.match(offlineWords(0), /is being written ends now\.$/);
});
