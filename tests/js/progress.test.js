import assert from "node:assert/strict";
import { test } from "node:test";

import { LiveTurn } from "#chat/live-turn.js";
import { PATIENCE_MS, progressOf } from "#lib/progress.js";

test("a connection that breaks is told at once, until words come again", () => {
  const live = new LiveTurn("t", "c", "sonnet", true);
  live.connection(false);
  assert.deepEqual(progressOf(live), { words: "Sending…", tone: "" });
  live.connection(true);
  live.take({ type: "start", turn: "t", conversation: "c", model: "sonnet" });
  assert.deepEqual(progressOf(live), { words: "", tone: "blank" });
  live.take({ type: "text", text: "Hel" });
  assert.deepEqual(progressOf(live), { words: "", tone: "" });
  live.connection(false);
  assert.deepEqual(progressOf(live), { words: "Connection lost. Trying again…", tone: "lost" });
  live.connection(true);
  assert.equal(progressOf(live).tone, "lost");
  assert.match(progressOf(live).words, /^Connected again/);
  live.stopping = true;
  assert.equal(progressOf(live).words, "Stopping…");
  live.stopping = false;
  live.take({ type: "text", text: "lo" });
  assert.deepEqual(progressOf(live), { words: "", tone: "" });
});

test("what takes long is told about", () => {
  const going = { started: {}, connected: true, stopping: false, text: "", thinking: "", age: 0, quiet: 0 };
  assert.match(progressOf({ ...going, age: PATIENCE_MS }).words, /taking its time/);
  assert.match(progressOf({ ...going, text: "Hel", quiet: PATIENCE_MS }).words, /^Waiting for the rest/);
});
