/**
 * The conversations that the sidebar lists: pages of all of them, of the archived ones, or of what a search found.
 *
 * Dispatches `change`.
 *
 * @import { Conversation, Page } from "#lib/shapes.js"
 */
import { api } from "#chat/api.js";

export class Chats extends EventTarget {
  /** @type {Map<string, Conversation>} */
  #items;
  /** @type {Set<string>} conversations in which an answer is being written, here or elsewhere */
  #running = new Set();
  #next;
  #query = "";
  #archived = false;
  #loading = false;
  #request = new AbortController();

  /** @param {Page<Conversation>} first */
  constructor(first) {
    super();
    this.#items = new Map();
    this.#next = first.next;
    this.#take(first.items);
  }

  get items() {
    return this.#items.values();
  }
  get query() {
    return this.#query;
  }
  get archived() {
    return this.#archived;
  }
  get hasMore() {
    return this.#next !== null || this.#loading;
  }

  /** @param {string} id */
  get(id) {
    return this.#items.get(id);
  }

  /** @param {string} id */
  isRunning(id) {
    return this.#running.has(id);
  }

  /**
   * Lists something else, from its start; the previous list stays until it is there.
   * @param {{ query?: string, archived?: boolean }} which
   */
  async list({ query = "", archived = false }) {
    this.#query = query.trim();
    this.#archived = archived;
    this.#request.abort();
    await this.#load(null);
  }

  async more() {
    if (!this.#loading && this.#next !== null) await this.#load(this.#next);
  }

  /**
   * One that is new or has changed.
   * @param {Conversation} conversation
   */
  put(conversation) {
    const belongs =
      conversation.archived === this.#archived && (this.#query === "" || this.#items.has(conversation.id));
    if (belongs) this.#take([conversation]);
    else this.#items.delete(conversation.id);
    this.#changed();
  }

  /** @param {string} id */
  remove(id) {
    if (this.#items.delete(id)) this.#changed();
  }

  /**
   * @param {string} id
   * @param {boolean} running
   */
  setRunning(id, running) {
    if (running === this.#running.has(id)) return;
    if (running) this.#running.add(id);
    else this.#running.delete(id);
    this.#changed();
  }

  /** @param {string | null} cursor */
  async #load(cursor) {
    const request = (this.#request = new AbortController());
    this.#loading = true;
    this.#changed();
    try {
      const page = await api.conversations(
        { q: this.#query || undefined, archived: this.#archived, cursor },
        request.signal,
      );
      if (request.signal.aborted) return;
      if (cursor === null) this.#items.clear();
      this.#next = page.next;
      this.#take(page.items);
    } catch (error) {
      if (!request.signal.aborted) throw error;
    } finally {
      if (request === this.#request) this.#loading = false;
      this.#changed();
    }
  }

  /** @param {Conversation[]} conversations */
  #take(conversations) {
    for (const conversation of conversations) {
      this.#items.set(conversation.id, conversation);
      if (conversation.running_turn) this.#running.add(conversation.id);
      else this.#running.delete(conversation.id);
    }
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }
}
