/**
 * The messages on the page: kept equal to a list of messages, each view made once.
 *
 * @import { Message } from "#lib/shapes.js"
 * @import { LiveTurn } from "#chat/live-turn.js"
 * @import { Remedies } from "#chat/explanation.js"
 */
import { AnswerView } from "#chat/answer.js";
import { part, piece } from "#chat/pieces.js";
import { QuestionView } from "#chat/question.js";

/**
 * @typedef {Object} MessageActions What the views of messages ask for.
 * @property {(text: string, button: HTMLElement) => void} copy
 * @property {(message: Message, text: string) => boolean} edit false when it cannot be sent now
 * @property {(message: Message) => void} retry
 * @property {(sibling: string | undefined) => void} showBranch
 * @property {(markdown: string) => void} announce
 * @property {Remedies} remedies
 */

const MARKS = {
  summary: "Claude has a summary of what is above",
  cut: "Claude no longer sees what is above",
};

export class Thread {
  #divider = piece("mark");
  #root;
  #actions;
  /** @type {Map<string, QuestionView | AnswerView>} */
  #views = new Map();

  /**
   * @param {HTMLElement} root
   * @param {MessageActions} actions
   */
  constructor(root, actions) {
    this.#root = root;
    this.#actions = actions;
  }

  /**
   * @param {Message[]} messages in their order
   * @param {(message: Message) => LiveTurn | null} liveOf
   */
  show(messages, liveOf) {
    const wanted = new Set(messages.map(({ id }) => id));
    for (const [id, view] of this.#views) {
      if (wanted.has(id)) continue;
      view.element.remove();
      if (view instanceof AnswerView) view.leave();
      this.#views.delete(id);
    }
    const elements = messages.map((message) => this.#update(message, liveOf).element);
    // Of several marks the last one holds.
    const last = messages.findLastIndex(({ mark }) => mark !== null);
    const kind = messages[last]?.mark?.kind;
    if (kind) {
      part(this.#divider, "words").textContent = MARKS[kind];
      elements.splice(last + 1, 0, this.#divider);
    } else this.#divider.remove();
    /** @type {ChildNode | null} */
    let place = this.#root.firstChild;
    for (const element of elements) {
      if (element === place) place = place.nextSibling;
      else this.#root.insertBefore(element, place);
    }
  }

  /**
   * A message that was on the page before the server gave it its id.
   * @param {string} before
   * @param {string} after
   */
  rename(before, after) {
    const view = this.#views.get(before);
    if (!view || before === after) return;
    this.#views.delete(before);
    this.#views.set(after, view);
  }

  /**
   * @param {Message} message
   * @param {(message: Message) => LiveTurn | null} liveOf
   */
  #update(message, liveOf) {
    const known = this.#views.get(message.id);
    if (known instanceof AnswerView) known.update(message, liveOf(message));
    else known?.update(message);
    if (known) return known;
    const made =
      message.role === "user"
        ? new QuestionView(message, this.#actions)
        : new AnswerView(message, this.#actions, liveOf(message));
    this.#views.set(message.id, made);
    return made;
  }
}
