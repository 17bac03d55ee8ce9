/**
 * A turn that is being answered: what has come of it so far, wherever it is shown.
 *
 * Dispatches `start` (its ids are known), `growth` (text or thinking), `connection`, then once `end` or `refusal`.
 *
 * @import { DoneEvent, ErrorEvent, Model, StartEvent, Turn, TurnEvent } from "#lib/shapes.js"
 * @import { Trouble } from "#lib/troubles.js"
 */
import { Disconnected } from "#lib/follow.js";
import { Refusal } from "#chat/api.js";

export class LiveTurn extends EventTarget {
  text = "";
  thinking = "";
  connected = true;
  stopping = false;
  /** @type {StartEvent | null} */
  started = null;
  /** @type {DoneEvent | ErrorEvent | null} */
  ending = null;
  /** @type {(Trouble & { retryAfter?: number | null }) | null} */
  refusal = null;
  thoughtMs = /** @type {number | null} */ (null);
  #finished = new AbortController();
  #beganAt = performance.now();
  #heardAt = this.#beganAt;

  /**
   * @param {string} id
   * @param {string | null} conversation null until a new one has its id
   * @param {string} model
   * @param {boolean} begunHere
   */
  constructor(id, conversation, model, begunHere) {
    super();
    this.id = id;
    this.conversation = conversation;
    this.model = model;
    this.begunHere = begunHere;
  }

  get over() {
    return this.ending !== null || this.refusal !== null;
  }

  /** Aborted once it is over. */
  get finished() {
    return this.#finished.signal;
  }

  /** Milliseconds since it was sent, or since this page joined. */
  get age() {
    return performance.now() - this.#beganAt;
  }

  /** Milliseconds since it said anything; without end once its connection has broken, until it says more. */
  get quiet() {
    return performance.now() - this.#heardAt;
  }

  /** @param {TurnEvent} event */
  take(event) {
    this.#heardAt = performance.now();
    if (event.type === "start") {
      this.started = event;
      this.conversation = event.conversation;
      this.model = event.model;
      this.#tell("start");
    } else if (event.type === "thinking") {
      this.thinking += event.text;
      this.#tell("growth");
    } else if (event.type === "text") {
      if (this.thinking !== "") this.thoughtMs ??= this.age;
      this.text += event.text;
      this.#tell("growth");
    } else {
      if (this.thinking !== "") this.thoughtMs ??= this.age;
      this.ending = event;
      this.#finished.abort();
      this.#tell("end");
    }
  }

  /** @param {boolean} connected */
  connection(connected) {
    if (this.connected === connected) return;
    this.connected = connected;
    if (!connected) this.#heardAt = -Infinity;
    this.#tell("connection");
  }

  /**
   * It could not be begun, or not be followed to its end.
   * @param {unknown} error
   */
  refuse(error) {
    if (error instanceof Refusal) {
      const { code, message, available, needed, retryAfter } = error;
      this.refusal = { code, message, retryAfter, ...(available && needed ? { available, needed } : {}) };
    } else if (error instanceof Disconnected) {
      this.refusal = { code: this.started ? "connection_lost" : navigator.onLine ? "unreachable" : "offline" };
    } else {
      this.refusal = { code: "unexpected" };
      console.error(error);
    }
    this.#finished.abort();
    this.#tell("refusal");
  }

  /**
   * The turn as the API would tell it.
   * @param {Model[]} models
   * @returns {Turn}
   */
  toTurn(models) {
    const { ending, refusal } = this;
    const done = ending?.type === "done" ? ending : null;
    const failed = ending?.type === "error" ? ending : null;
    return {
      id: this.id,
      state: done ? stateOf(done) : failed || refusal ? "failed" : "running",
      model: this.model,
      model_name: nameOf(this.model, models),
      served_by: done?.served_by ?? null,
      served_by_name: done ? nameOf(done.served_by, models) : null,
      stop_reason: done?.stop_reason ?? null,
      usage: done?.usage ?? null,
      charged: ending?.charged ?? null,
      held: this.started?.held ?? null,
      estimated: done?.estimated ?? false,
      limited_by_balance: done?.limited_by_balance ?? false,
      first_token_ms: ending?.first_token_ms ?? null,
      duration_ms: null,
      error: failed ?? (refusal ? { code: refusal.code, message: refusal.message ?? "", retryable: true } : null),
    };
  }

  /** @param {string} type */
  #tell(type) {
    this.dispatchEvent(new Event(type));
  }
}

/**
 * @param {string} model
 * @param {Model[]} models those that can be chosen, and with them those that answer in their place
 */
function nameOf(model, models) {
  const known = models.flatMap((choice) => [choice, choice.fallback]).find((choice) => choice?.id === model);
  return known?.name ?? model;
}

/**
 * Nobody has stopped an answer that was left alone for too long.
 * @param {DoneEvent} done
 */
function stateOf({ status, stop_reason }) {
  return status === "stopped" && stop_reason === "abandoned" ? "abandoned" : status;
}
