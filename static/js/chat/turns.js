/**
 * The turns that this page follows, each once, also while another conversation is shown: a turn that nobody follows
 * is ended by the server.
 *
 * Dispatches `begun` with each new LiveTurn as detail, and `change` when one begins, gets its ids, is being stopped or
 * is over.
 *
 * @import { NewTurn } from "#lib/shapes.js"
 */
import { Disconnected, followTurn } from "#lib/follow.js";
import { api } from "#chat/api.js";
import { LiveTurn } from "#chat/live-turn.js";
import { waitForNetwork, whileOnline } from "#chat/network.js";

export class Turns extends EventTarget {
  /** @type {Map<string, LiveTurn>} */
  #live = new Map();

  /** @param {string} id */
  get(id) {
    return this.#live.get(id);
  }

  /**
   * @param {NewTurn & { model: string }} body
   * @returns {LiveTurn}
   */
  begin(body) {
    const live = new LiveTurn(body.id, body.conversation ?? null, body.model, true);
    return this.#follow(live, () => api.begin(body, whileOnline()));
  }

  /**
   * Follows a turn from its start that was begun elsewhere, or by this page before it was reloaded.
   * @param {{ id: string, conversation: string, model: string }} turn
   * @returns {LiveTurn}
   */
  join({ id, conversation, model }) {
    const known = this.#live.get(id);
    if (known) return known;
    return this.#follow(new LiveTurn(id, conversation, model, false), () => api.follow(id, null, whileOnline()));
  }

  /**
   * Asks for the end of a turn; it comes through its events. Throws when the request could not be made.
   * @param {LiveTurn} live
   */
  async stop(live) {
    this.#setStopping(live, true);
    // Before its start there is nothing to stop yet.
    if (!live.started) await startOrRefusal(live);
    if (live.over) return;
    try {
      await api.stop(live.id);
    } catch (error) {
      this.#setStopping(live, false);
      throw error;
    }
  }

  /**
   * @param {LiveTurn} live
   * @param {boolean} stopping
   */
  #setStopping(live, stopping) {
    live.stopping = stopping;
    live.dispatchEvent(new Event("connection"));
    this.#changed();
  }

  /**
   * @param {LiveTurn} live
   * @param {() => Promise<Response>} begin
   */
  #follow(live, begin) {
    this.#live.set(live.id, live);
    this.dispatchEvent(new CustomEvent("begun", { detail: live }));
    void this.#read(live, begin);
    this.#changed();
    return live;
  }

  /**
   * @param {LiveTurn} live
   * @param {() => Promise<Response>} begin
   */
  async #read(live, begin) {
    try {
      const events = followTurn({
        begin,
        resume: (after) => api.follow(live.id, after, whileOnline()),
        wait: (ms, begun) => (begun ? waitForNetwork(ms) : pause(ms)),
        onConnection: (connected) => live.connection(connected),
      });
      for await (const event of events) {
        if (event.type === "done" || event.type === "error") this.#live.delete(live.id);
        live.take(event);
        if (event.type === "start") this.#changed();
      }
    } catch (error) {
      this.#live.delete(live.id);
      live.refuse(error);
    }
    this.#changed();
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }
}

/** @param {LiveTurn} live */
function startOrRefusal(live) {
  return new Promise((resolve) => {
    for (const type of ["start", "refusal"]) live.addEventListener(type, resolve, { once: true });
  });
}

/**
 * Before a turn has begun nobody waits for the network: its message goes back into the box.
 * @param {number} ms
 */
async function pause(ms) {
  if (!navigator.onLine) throw new Disconnected();
  await new Promise((resolve) => setTimeout(resolve, ms));
}
