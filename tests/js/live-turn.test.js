import assert from "node:assert/strict";
import { test } from "node:test";

import { Disconnected } from "#lib/follow.js";
import { LiveTurn } from "#chat/live-turn.js";

const MODELS = [{ id: "sonnet", name: "Sonnet", fallback: { id: "gpt", name: "GPT" } }];

/** @param {object} done what it ends with */
function ended(done) {
  const live = new LiveTurn("t", "c", "sonnet", true);
  live.take({ type: "done", status: "completed", stop_reason: "end_turn", served_by: "sonnet", ...done });
  return live.toTurn(MODELS);
}

test("who answered instead of the chosen model is named at once", () => {
  const { model_name, served_by, served_by_name } = ended({ served_by: "gpt" });
  assert.deepEqual([model_name, served_by, served_by_name], ["Sonnet", "gpt", "GPT"]);
});

test("the time to the first word is the one that a reload shows", () => {
  const live = new LiveTurn("t", "c", "sonnet", true);
  live.take({ type: "text", text: "Hel" });
  assert.equal(live.toTurn(MODELS).first_token_ms, null);
  live.take({ type: "error", code: "provider_cut", message: "It broke off.", first_token_ms: 412 });
  assert.equal(live.toTurn(MODELS).first_token_ms, 412);
  assert.equal(ended({ first_token_ms: 95 }).first_token_ms, 95);
});

test("what waits for its end is told of it, however it ends", () => {
  const [done, lost] = [new LiveTurn("t", "c", "sonnet", true), new LiveTurn("u", "c", "sonnet", true)];
  done.take({ type: "text", text: "Hel" });
  assert.equal(done.finished.aborted, false);
  done.take({ type: "error", code: "provider_cut", message: "It broke off." });
  lost.take({ type: "start", conversation: "c", model: "sonnet" });
  lost.refuse(new Disconnected());
  assert.deepEqual([done.finished.aborted, lost.finished.aborted], [true, true]);
});

test("an answer that was left alone is not called stopped", () => {
  assert.equal(ended({ status: "stopped", stop_reason: "abandoned" }).state, "abandoned");
  assert.equal(ended({ status: "stopped", stop_reason: "stopped" }).state, "stopped");
  assert.equal(ended({}).state, "completed");
});

test("a broken connection is a silence that lasts until something is said", () => {
  const live = new LiveTurn("t", "c", "sonnet", true);
  live.take({ type: "text", text: "Hel" });
  assert.ok(live.quiet < Infinity);
  live.connection(false);
  live.connection(true);
  assert.equal(live.quiet, Infinity);
  live.take({ type: "text", text: "lo" });
  assert.ok(live.quiet < Infinity);
});
