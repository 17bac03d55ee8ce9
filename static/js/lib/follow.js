/**
 * One turn read to its end, through dropped connections: nothing lost, nothing doubled.
 *
 * @import { TurnEvent } from "#lib/shapes.js"
 */
import { backoffDelay } from "#lib/backoff.js";
import { EventStreamParser } from "#lib/sse.js";

/** Tries without a single event in between, after which the person is asked: a minute or two, */
const ATTEMPTS_TO_RESUME = 21;
/** of which so many come within 1.6 s each, together 9.4 s at least: an unread answer goes on for ten seconds, */
const BRISK_ATTEMPTS = 13;
const BRISK = 2;
/** and a few seconds while nothing is known to have begun. */
const ATTEMPTS_TO_BEGIN = 4;
/** The server breaks its silence every 15 s: after this long the connection is dead, whatever the system believes. */
const SILENCE_MS = 40_000;

/** The turn could not be reached for a long time; it may have ended meanwhile. */
export class Disconnected extends Error {}

class Silence extends Error {}

/**
 * Begins (or joins) a turn and yields its events in order, the last being `done` or `error`.
 *
 * `begin` is repeated until the first event has come, so it must be idempotent; after that `resume` continues behind
 * the last event seen. Both give a response whose body is an event stream, or throw: an error with a `status` is the
 * server's answer, anything else is the network's.
 * @param {object} options
 * @param {() => Promise<Response>} options.begin
 * @param {(after: string) => Promise<Response>} options.resume
 * @param {(ms: number, begun: boolean) => Promise<void>} options.wait may return sooner, when the network is known to
 *   be back, or later, while it is known to be away; what it throws ends the turn's reading
 * @param {(connected: boolean) => void} [options.onConnection]
 * @param {() => number} [options.random]
 * @param {number} [options.silenceMs]
 * @returns {AsyncGenerator<TurnEvent, void, void>}
 */
export async function* followTurn({
  begin,
  resume,
  wait,
  onConnection = () => {},
  random = Math.random,
  silenceMs = SILENCE_MS,
}) {
  let lastId = "";
  let attempt = 0;
  for (;;) {
    try {
      const response = lastId === "" ? await begin() : await resume(lastId);
      onConnection(true);
      for await (const { id, data } of serverSentEvents(response, silenceMs)) {
        if (id === lastId) continue;
        lastId = id;
        attempt = 0;
        const event = /** @type {TurnEvent} */ (JSON.parse(data));
        yield event;
        if (event.type === "done" || event.type === "error") return;
      }
    } catch (error) {
      if (!isPassing(error, lastId !== "")) throw error;
    }
    if (attempt === (lastId !== "" ? ATTEMPTS_TO_RESUME : ATTEMPTS_TO_BEGIN)) throw new Disconnected();
    onConnection(false);
    await wait(backoffDelay(lastId !== "" ? paceOf(attempt) : attempt, random), lastId !== "");
    attempt += 1;
  }
}

/**
 * How far the back-off has come at an attempt to resume: it rests at its pace of a second while there is hope to be
 * back in time.
 * @param {number} attempt
 */
function paceOf(attempt) {
  return Math.min(attempt, BRISK) + Math.max(0, attempt - BRISK_ATTEMPTS + 1);
}

/**
 * Whether the same request may succeed in a moment.
 * @param {unknown} error
 * @param {boolean} begun once begun, only a refusal that concerns the turn itself is final
 */
function isPassing(error, begun) {
  if (error instanceof SyntaxError) return false;
  const status = error instanceof Error && "status" in error ? Number(error.status) : null;
  if (status === null) return true;
  // A gateway that lost its server says nothing about the turn. Our own 429 and 503 are answers, shown at once.
  return status === 502 || status === 504 || (begun && (status === 429 || status >= 500));
}

/**
 * @param {Response} response
 * @param {number} silenceMs
 */
async function* serverSentEvents(response, silenceMs) {
  const parser = new EventStreamParser();
  const reader = /** @type {ReadableStream<Uint8Array>} */ (response.body).getReader();
  try {
    for (;;) {
      const { done, value } = await unlessSilent(reader.read(), silenceMs);
      if (done) return;
      yield* parser.push(value);
    }
  } finally {
    // Of a connection that has failed, this fails too, for the reason that is already known.
    reader.cancel().catch(() => {});
  }
}

/**
 * @template Result
 * @param {Promise<Result>} read
 * @param {number} silenceMs
 * @returns {Promise<Result>}
 */
async function unlessSilent(read, silenceMs) {
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  const silence = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Silence()), silenceMs);
  });
  try {
    return await Promise.race([read, /** @type {Promise<never>} */ (silence)]);
  } finally {
    clearTimeout(timer);
  }
}
