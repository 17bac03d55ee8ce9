import assert from "node:assert/strict";
import { mock, test } from "node:test";

import { Toast } from "#chat/toast.js";

test("what nobody needs to be told any more is taken back, and nothing else", async () => {
  mock.timers.enable({ apis: ["setTimeout"] });
  const element = { textContent: "", hidden: true };
  const toast = new Toast(/** @type {HTMLElement} */ (/** @type {unknown} */ (element)));
  const answer = new AbortController();
  const fails = () => Promise.reject(new TypeError("Failed to fetch"));

  await toast.unless("It was not stopped.", fails, { advice: "Press Stop again.", moot: answer.signal });
  assert.equal(element.textContent, "It was not stopped. The server cannot be reached. Press Stop again.");
  assert.equal(element.hidden, false);
  answer.abort();
  assert.equal(element.hidden, true);

  const other = new AbortController();
  toast.say("First.", other.signal);
  toast.say("Second.");
  other.abort();
  assert.deepEqual(element, { textContent: "Second.", hidden: false });
  toast.say("Too late.", answer.signal);
  assert.equal(element.textContent, "Second.");
  mock.timers.tick(6000);
  assert.equal(element.hidden, true);
  mock.timers.reset();
});
