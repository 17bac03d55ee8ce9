import assert from "node:assert/strict";
import { test } from "node:test";

import { Disconnected, followTurn } from "#lib/follow.js";

/** @param {number} status */
const refusal = (status) => Object.assign(new Error(`refused with ${status}`), { status });

/** @param {string} id @param {object & { type: string }} data */
const wire = (id, data) => `id: ${id}\nevent: ${data.type}\ndata: ${JSON.stringify(data)}\n\n`;

const START = wire("0.0", { type: "start", turn: "t" });
const TEXTS = ["Ein ", "Maß ", "für ", "alle 🍺"].map((text, index) => wire(`0.${index + 1}`, { type: "text", text }));
const DONE = wire("0.4.end", { type: "done", status: "completed" });
const ALL = [START, ...TEXTS, DONE];

/**
 * A response that breaks, or ends, after these bytes.
 * @param {string | Uint8Array} content
 * @param {boolean} [breaks]
 */
function response(content, breaks = false) {
  const bytes = typeof content === "string" ? new TextEncoder().encode(content) : content;
  const chunks = bytes.length > 0 ? [bytes] : [];
  return new Response(
    new ReadableStream({
      pull(controller) {
        const chunk = chunks.shift();
        if (chunk) controller.enqueue(chunk);
        else if (breaks) controller.error(new TypeError("network error"));
        else controller.close();
      },
    }),
  );
}

/**
 * Follows a turn against a script of answers, the first to `begin`.
 * @param {(Response | Error)[]} answers
 * @param {{ silenceMs?: number, random?: () => number }} [options]
 */
async function follow(answers, options = {}) {
  /** @type {string[]} */
  const requests = [];
  /** @type {boolean[]} */
  const connections = [];
  /** @type {[number, boolean][]} */
  const waits = [];
  const answer = (/** @type {string} */ name) => {
    requests.push(name);
    const next = answers.shift();
    assert.ok(next, `nothing left to answer ${name}`);
    return next instanceof Error ? Promise.reject(next) : Promise.resolve(next);
  };
  /** @type {any[]} */
  const events = [];
  /** @type {unknown} */
  let error = null;
  try {
    const stream = followTurn({
      begin: () => answer("begin"),
      resume: (after) => answer(after),
      wait: async (ms, begun) => void waits.push([ms, begun]),
      onConnection: (connected) => connections.push(connected),
      random: () => 0,
      ...options,
    });
    for await (const event of stream) events.push(event);
  } catch (thrown) {
    error = thrown;
  }
  const text = events
    .filter(({ type }) => type === "text")
    .map((event) => event.text)
    .join("");
  return { events, text, requests, connections, waits, error };
}

test("an undisturbed turn is read once, to its end", async () => {
  const { text, events, requests, error } = await follow([response(ALL.join(""))]);
  assert.equal(error, null);
  assert.equal(text, "Ein Maß für alle 🍺");
  assert.deepEqual(
    events.map(({ type }) => type),
    ["start", "text", "text", "text", "text", "done"],
  );
  assert.deepEqual(requests, ["begin"]);
});

for (const breaks of [true, false]) {
  test(`a connection that ${breaks ? "breaks" : "ends"} at any byte loses and doubles nothing`, async () => {
    const bytes = new TextEncoder().encode(ALL.join(""));
    for (let cut = 0; cut < bytes.length; cut += 1) {
      const seen = new TextDecoder().decode(bytes.subarray(0, cut)).split("\n\n").length - 1;
      const rest = seen === 0 ? ALL : ALL.slice(seen);
      const { text, requests, error } = await follow([
        response(bytes.subarray(0, cut), breaks),
        response(rest.join("")),
      ]);
      assert.equal(error, null);
      assert.equal(text, "Ein Maß für alle 🍺", `cut at ${cut}`);
      assert.deepEqual(requests, ["begin", seen === 0 ? "begin" : `0.${seen - 1}`], `cut at ${cut}`);
    }
  });
}

test("an event that a server repeats at the seam is taken once", async () => {
  const { text } = await follow([
    response(START + TEXTS[0], true),
    response([TEXTS[0], ...TEXTS.slice(1), DONE].join("")),
  ]);
  assert.equal(text, "Ein Maß für alle 🍺");
});

test("each new event starts the count of attempts anew", async () => {
  const lost = () => new TypeError("network error");
  const { text, waits } = await follow([
    response(START, true),
    ...Array.from({ length: 5 }, lost),
    response(/** @type {string} */ (TEXTS[0]), true),
    lost(),
    response([...TEXTS.slice(1), DONE].join("")),
  ]);
  assert.equal(text, "Ein Maß für alle 🍺");
  const delays = waits.map(([ms]) => ms);
  assert.ok(/** @type {number} */ (delays[5]) > /** @type {number} */ (delays[0]));
  assert.equal(delays[6], delays[0]);
  assert.ok(waits.every(([, begun]) => begun));
});

test("a server's refusal to begin is final, and told", async () => {
  for (const status of [400, 401, 402, 403, 404, 409, 413, 429, 500, 503]) {
    const { error, requests } = await follow([refusal(status)]);
    assert.equal(/** @type {{ status: number }} */ (error).status, status);
    assert.deepEqual(requests, ["begin"]);
  }
});

test("a gateway that lost its server is asked again", async () => {
  const { text, requests } = await follow([refusal(502), refusal(504), response(ALL.join(""))]);
  assert.equal(text, "Ein Maß für alle 🍺");
  assert.deepEqual(requests, ["begin", "begin", "begin"]);
});

test("once begun, only a refusal that concerns the turn itself is final", async () => {
  const passing = await follow([
    response(START, true),
    refusal(503),
    refusal(429),
    refusal(500),
    response([...TEXTS, DONE].join("")),
  ]);
  assert.equal(passing.text, "Ein Maß für alle 🍺");
  const final = await follow([response(START, true), refusal(404)]);
  assert.equal(/** @type {{ status: number }} */ (final.error).status, 404);
});

test("a turn that cannot be begun is given up soon, one that has begun much later", async () => {
  const dead = () => Array.from({ length: 40 }, () => new TypeError("network error"));
  const never = await follow(dead());
  assert.ok(never.error instanceof Disconnected);
  assert.equal(never.requests.length, 5);
  assert.ok(never.waits.every(([, begun]) => !begun));
  const lost = await follow([response(START, true), ...dead()]);
  assert.ok(lost.error instanceof Disconnected);
  assert.equal(lost.requests.length, 22);
});

for (const chance of [0, 0.999]) {
  test(`for ten seconds, almost to the end, tries come every second or two: chance ${chance}`, async () => {
    const dead = Array.from({ length: 40 }, () => new TypeError("network error"));
    const { waits } = await follow([response(START, true), ...dead], { random: () => chance });
    let passed = 0;
    const tries = waits.map(([ms]) => (passed += ms));
    const inTime = tries.filter((at) => at < 10_000);
    const gaps = [...inTime, 10_000].map((at, index) => at - (inTime[index - 1] ?? 0));
    assert.ok(Math.max(...gaps) <= 1_600 && /** @type {number} */ (gaps.at(-1)) <= 1_000, `tries at ${tries}`);
    assert.ok(passed > 50_000 && passed < 120_000, `given up after ${passed} ms`);
  });
}

test("the connection is told to be there or not", async () => {
  const { connections } = await follow([
    response(START, true),
    new TypeError("network error"),
    response(TEXTS.join("") + DONE),
  ]);
  assert.deepEqual(connections, [true, false, false, true]);
});

test("a connection that has fallen silent is left for another", async () => {
  const silent = new Response(
    new ReadableStream({
      start: (controller) => controller.enqueue(new TextEncoder().encode(START)),
      pull: () => new Promise(() => {}),
    }),
  );
  const { text, requests } = await follow([silent, response(TEXTS.join("") + DONE)], { silenceMs: 5 });
  assert.equal(text, "Ein Maß für alle 🍺");
  assert.deepEqual(requests, ["begin", "0.0"]);
});
