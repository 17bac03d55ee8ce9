/**
 * Sending a message, asking again, editing, stopping; and what becomes of it.
 *
 * @import { Message, Model, NewTurn } from "#lib/shapes.js"
 * @import { Chats } from "#chat/chats.js"
 * @import { Composer } from "#chat/composer.js"
 * @import { LiveTurn } from "#chat/live-turn.js"
 * @import { Scrolling } from "#chat/scrolling.js"
 * @import { Shown } from "#chat/shown.js"
 * @import { Toast } from "#chat/toast.js"
 * @import { Turns } from "#chat/turns.js"
 * @import { Wallet } from "#chat/wallet.js"
 */
import { expectedAnswer, expectedQuestion } from "#lib/expected.js";
import { explainRefusal } from "#lib/troubles.js";
import { uuid4 } from "#lib/uuid.js";
import { api } from "#chat/api.js";
import { drafts } from "#chat/drafts.js";

/** After these, the message may have arrived all the same. */
const UNSURE = new Set(["offline", "unreachable", "unexpected"]);

/**
 * @typedef {Object} Ask
 * @property {NewTurn & { model: string }} body
 * @property {Message[]} before what the page showed
 * @property {string} draft what goes back into the box if it is refused
 * @property {() => void} again
 */

export class Asking {
  #on;
  #models;
  /** @type {Map<string, Ask>} those whose start is not known yet, by turn */
  #asked = new Map();
  /** @type {Ask | null} the one that may or may not have reached the server */
  #unsure = null;

  /**
   * @param {{ turns: Turns, shown: Shown, chats: Chats, composer: Composer, wallet: Wallet, scrolling: Scrolling,
   *   toast: Toast, moved: (id: string) => void, announce: (words: string) => void }} on
   * @param {Model[]} models
   */
  constructor(on, models) {
    this.#on = on;
    this.#models = models;
    on.turns.addEventListener("begun", (event) => this.#watch(/** @type {CustomEvent<LiveTurn>} */ (event).detail));
  }

  /** The message in the box, at the end of the shown branch. */
  send() {
    const { composer, shown } = this.#on;
    const { messages } = shown;
    const text = composer.text;
    const question = expectedQuestion(text, messages.at(-1)?.id ?? null, []);
    if (this.#ask({ text }, [...messages, question], [], () => this.send())) composer.write("");
  }

  /**
   * Another version of a message, on a branch of its own.
   * @param {Message} message
   * @param {string} text
   */
  edit(message, text) {
    const { messages } = this.#on.shown;
    const above = messages.slice(0, messages.indexOf(message));
    const question = expectedQuestion(text, message.parent, message.siblings);
    // Beside the first message there is no answer to go on from: then the conversation itself is the parent.
    const parent = message.parent ?? this.#on.shown.id ?? undefined;
    return this.#ask({ text, parent }, [...above, question], [], () => {
      if (this.edit(message, text)) this.#on.composer.write("");
    });
  }

  /**
   * Another answer to the same message.
   * @param {Message} answer
   */
  retry(answer) {
    const { messages } = this.#on.shown;
    const place = messages.findIndex(({ id }) => id === answer.parent);
    const question = messages[place];
    const again = () => this.retry(answer);
    if (question) this.#ask({ regenerate: question.id }, messages.slice(0, place + 1), answer.siblings, again);
  }

  async stop() {
    const { shown, toast, turns } = this.#on;
    const { live } = shown;
    if (!live || live.stopping) return;
    const advice = "Press Stop again in a moment.";
    await toast.unless("The answer was not stopped.", () => turns.stop(live), { advice, moot: live.finished });
  }

  /**
   * @param {Partial<NewTurn>} wish
   * @param {Message[]} asked the branch up to the question
   * @param {string[]} siblings earlier answers to it
   * @param {() => void} again
   * @returns {boolean} whether it could be tried
   */
  #ask(wish, asked, siblings, again) {
    const { composer, shown } = this.#on;
    const { model } = composer.picker;
    if (!model || shown.live || shown.state !== "ready") return false;
    const place = shown.id ? { conversation: shown.id } : {};
    const body = { ...wish, ...place, model: model.id, id: uuid4() };
    // Sent once more as it was, it is the same turn: had the first try arrived after all, it is joined.
    if (this.#unsure && sameWish(this.#unsure.body, body)) body.id = this.#unsure.body.id;
    this.#unsure = null;
    this.#begin({ body, before: shown.messages, draft: wish.text ?? "", again }, asked, siblings);
    return true;
  }

  /**
   * @param {Ask} ask
   * @param {Message[]} asked
   * @param {string[]} siblings
   */
  #begin(ask, asked, siblings) {
    const { composer, scrolling, shown, turns } = this.#on;
    composer.clearTrouble();
    this.#asked.set(ask.body.id, ask);
    const live = turns.begin(ask.body);
    const answer = expectedAnswer(live.toTurn(this.#models), asked.at(-1)?.id ?? null, siblings);
    shown.set([...asked, answer]);
    scrolling.toEnd();
  }

  /** @param {LiveTurn} live */
  #watch(live) {
    live.addEventListener("start", () => void this.#started(live));
    live.addEventListener("end", () => this.#ended(live));
    live.addEventListener("refusal", () => (live.started ? this.#finish(live) : this.#refused(live)));
  }

  /** @param {LiveTurn} live */
  async #started(live) {
    const { chats, moved, shown, toast } = this.#on;
    const { conversation } = live;
    this.#asked.delete(live.id);
    if (conversation === null) return;
    chats.setRunning(conversation, true);
    const here = shown.messages.some(({ turn }) => turn?.id === live.id);
    if (here && shown.id === null) moved(conversation);
    if (here) shown.identify(live);
    await toast.unless("The list of chats is not up to date.", async () => {
      const known = await api.conversation(conversation);
      chats.put(known);
      if (here && (shown.id === null || shown.id === known.id)) shown.know(known);
    });
  }

  /** @param {LiveTurn} live */
  #ended(live) {
    const { ending } = live;
    if (ending) this.#on.wallet.settle(ending.charged, ending.balance);
    this.#finish(live);
    if (live.conversation === this.#on.shown.id) this.#on.announce(inWords(ending));
    void this.#complete(live);
  }

  /** @param {LiveTurn} live */
  #finish(live) {
    const { chats, shown } = this.#on;
    if (live.conversation) chats.setRunning(live.conversation, false);
    shown.amend(live.id, { text: live.text, thinking: live.thinking, turn: live.toTurn(this.#models) });
  }

  /**
   * What only the server knows of a turn that this page has not seen from its beginning.
   * @param {LiveTurn} live
   */
  async #complete(live) {
    if (live.begunHere) return;
    await this.#on.toast.unless("The figures of the answer are not complete.", async () => {
      const turn = await api.turn(live.id);
      this.#on.shown.amend(live.id, { turn: { ...turn, error: live.toTurn(this.#models).error } });
    });
  }

  /**
   * Nothing began: the page is as before, and what was written goes back into the box.
   * @param {LiveTurn} live
   */
  #refused(live) {
    const { composer, shown, toast } = this.#on;
    const ask = this.#asked.get(live.id);
    const { refusal } = live;
    if (!refusal) return;
    if (!ask) return void toast.unless("The conversation is not up to date.", () => shown.refresh());
    this.#asked.delete(live.id);
    if (UNSURE.has(refusal.code)) this.#unsure = ask;
    const explanation = explainRefusal(refusal);
    if (shown.messages.some(({ turn }) => turn?.id === live.id)) {
      shown.set(ask.before);
      if (ask.draft && composer.text === "") composer.write(ask.draft);
      composer.tell(explanation, { retry: ask.again, waitSeconds: refusal.retryAfter ?? null });
    } else {
      if (ask.draft) drafts.keep(ask.body.conversation ?? null, ask.draft);
      toast.say(`A message was not sent: ${explanation.title}. It is kept where you wrote it.`);
    }
  }
}

/**
 * @param {NewTurn} one
 * @param {NewTurn} other
 */
function sameWish(one, other) {
  return JSON.stringify({ ...one, id: "" }) === JSON.stringify({ ...other, id: "" });
}

/**
 * How an answer ended, for whoever hears the page.
 * @param {LiveTurn["ending"]} ending
 */
function inWords(ending) {
  if (ending?.type !== "done") return "The answer failed.";
  return ending.status === "stopped" ? "You stopped the answer." : "The answer is complete.";
}
