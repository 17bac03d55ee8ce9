/**
 * The conversation on the page: opening one, reading back, changing branch, keeping up with what happens elsewhere.
 *
 * Dispatches `change` whenever what is shown, or what is known of it, has changed.
 *
 * @import { Conversation, Mark, Message, Page } from "#lib/shapes.js"
 * @import { LiveTurn } from "#chat/live-turn.js"
 * @import { Scrolling } from "#chat/scrolling.js"
 * @import { Thread } from "#chat/thread.js"
 * @import { Turns } from "#chat/turns.js"
 */
import { api, Refusal } from "#chat/api.js";

export class Shown extends EventTarget {
  /** @type {Conversation | null} null for one that is not begun */
  conversation = null;
  /** @type {Message[]} the end of the shown branch */
  messages = [];
  /** @type {"ready" | "loading" | "missing" | "failed"} */
  state = "ready";
  #older = /** @type {string | null} */ (null);
  #loadingOlder = false;
  // Counts openings: what arrives for an earlier one is dropped.
  #visit = 0;
  #turns;
  #thread;
  #scrolling;

  /**
   * @param {Turns} turns
   * @param {Thread} thread
   * @param {Scrolling} scrolling
   */
  constructor(turns, thread, scrolling) {
    super();
    this.#turns = turns;
    this.#thread = thread;
    this.#scrolling = scrolling;
  }

  get id() {
    return this.conversation?.id ?? null;
  }
  /** Whether nothing stands above the messages. */
  get complete() {
    return this.#older === null;
  }
  /** @returns {LiveTurn | null} the answer that is being written here */
  get live() {
    const writing = this.messages.find(({ turn }) => turn && this.#turns.get(turn.id));
    return writing ? this.liveOf(writing) : null;
  }

  /** @param {Message} message */
  liveOf = (message) => (message.turn && this.#turns.get(message.turn.id)) ?? null;

  /**
   * @param {Conversation | null} conversation
   * @param {Page<Message> | null} page
   */
  begin(conversation, page) {
    this.#visit += 1;
    this.conversation = conversation;
    this.state = "ready";
    this.#older = page?.next ?? null;
    this.set(page?.items ?? []);
    this.#scrolling.toEnd();
  }

  /** @param {string | null} id null for a new conversation */
  async open(id) {
    this.begin(null, null);
    if (id === null) return;
    const visit = this.#visit;
    this.#become("loading");
    try {
      const [conversation, page] = await Promise.all([api.conversation(id), api.messages(id)]);
      if (visit === this.#visit) this.begin(conversation, page);
    } catch (error) {
      if (visit !== this.#visit) return;
      this.#become(error instanceof Refusal && error.status === 404 ? "missing" : "failed");
    }
  }

  /**
   * Shows these messages, and follows the answer among them that is still being written.
   * @param {Message[]} messages
   */
  set(messages) {
    this.messages = messages;
    const conversation = this.id;
    for (const { turn } of messages) {
      if (turn?.state === "running" && conversation) this.#turns.join({ id: turn.id, conversation, model: turn.model });
    }
    this.#thread.show(messages, this.liveOf);
    this.#changed();
  }

  /** Shows what is above, if there is anything. */
  async readBack() {
    const { id } = this;
    if (id === null || this.#older === null || this.#loadingOlder) return;
    const visit = this.#visit;
    this.#loadingOlder = true;
    try {
      const page = await api.messages(id, this.#older);
      if (visit !== this.#visit) return;
      this.#older = page.next;
      this.#scrolling.keepingPlace(() => this.set([...page.items, ...this.messages]));
    } finally {
      this.#loadingOlder = false;
    }
  }

  /** Brings the page up to date after something has happened elsewhere. */
  async refresh() {
    const { id } = this;
    if (id === null || this.state !== "ready") return;
    const visit = this.#visit;
    const [conversation, page] = await Promise.all([api.conversation(id), api.messages(id)]);
    if (visit !== this.#visit) return;
    this.conversation = conversation;
    // What was loaded above stays, if it is above this page too.
    const joint = this.messages.findIndex((message) => message.id === page.items[0]?.parent);
    if (joint === -1) this.#older = page.next;
    this.set([...this.messages.slice(0, joint + 1), ...page.items]);
  }

  /** @param {string} message whose branch to show */
  async showBranch(message) {
    if (this.id === null) return;
    this.conversation = await api.change(this.id, { branch: message });
    await this.refresh();
  }

  /** It was deleted elsewhere. */
  lose() {
    this.begin(null, null);
    this.#become("missing");
  }

  /** @param {Conversation} conversation what is known of it now */
  know(conversation) {
    if (conversation.id !== this.id && this.id !== null) return;
    this.conversation = conversation;
    this.#changed();
  }

  /**
   * Gives the messages of a turn that was begun here the ids by which the server knows them.
   * @param {LiveTurn} live
   */
  identify(live) {
    const { started } = live;
    const answer = this.messages.find(({ turn }) => turn?.id === live.id);
    if (!started || !answer) return;
    /** @type {Record<string, string>} */
    const real = { [answer.id]: started.assistant_message, [answer.parent ?? ""]: started.user_message };
    const named = (/** @type {string} */ id) => real[id] ?? id;
    for (const [before, after] of Object.entries(real)) this.#thread.rename(before, after);
    this.set(
      this.messages.map((message) => ({
        ...message,
        id: named(message.id),
        parent: message.parent && named(message.parent),
        siblings: message.siblings.map(named),
      })),
    );
  }

  /**
   * @param {string} turn
   * @param {Partial<Message>} outcome of its answer
   */
  amend(turn, outcome) {
    if (!this.messages.some((message) => message.turn?.id === turn)) return;
    this.set(this.messages.map((message) => (message.turn?.id === turn ? { ...message, ...outcome } : message)));
  }

  /**
   * What is above and with a message is no longer sent as it stands.
   * @param {string} conversation
   * @param {string} message
   * @param {Mark} mark
   */
  mark(conversation, message, mark) {
    if (conversation !== this.id || !this.messages.some(({ id }) => id === message)) return;
    this.set(this.messages.map((known) => (known.id === message ? { ...known, mark } : known)));
  }

  /** @param {"loading" | "missing" | "failed"} state */
  #become(state) {
    this.state = state;
    this.#changed();
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }
}
