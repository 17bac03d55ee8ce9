/**
 * The box in which the next message is written, what it can cost, and what stands in its way.
 *
 * Dispatches `send` and `stop`.
 *
 * @import { Message } from "#lib/shapes.js"
 * @import { Explanation } from "#lib/troubles.js"
 * @import { Remedies } from "#chat/explanation.js"
 * @import { LiveTurn } from "#chat/live-turn.js"
 */
import { formatCredits, toAmount } from "#lib/credits.js";
import { affordability, promptBound } from "#lib/estimate.js";
import { outOfCredits } from "#lib/troubles.js";
import { drafts } from "#chat/drafts.js";
import { explanationView } from "#chat/explanation.js";
import { growWithText, meansSend } from "#chat/growing-box.js";
import { ModelPicker } from "#chat/model-picker.js";
import { part } from "#chat/pieces.js";

/**
 * @typedef {Object} Situation What decides what can be sent, and for how much.
 * @property {string | null} conversation
 * @property {Message[]} messages
 * @property {boolean} complete whether those are all of them
 * @property {string[]} instructions the person's and the conversation's
 * @property {LiveTurn | null} live the answer that is being written here
 * @property {bigint} available microcredits
 * @property {bigint} held microcredits
 */

const SET_ASIDE = "Set aside while the answer is written. You pay only what it uses.";
const LIMITED = "Your balance limits how long this answer can be.";
const HELD = "They are held for an answer that is being written. What it leaves of them can be used after it.";

export class Composer extends EventTarget {
  #root;
  #draft;
  #trouble;
  #fit;
  #remedies;
  /** @type {Situation} */
  #situation = {
    conversation: null,
    messages: [],
    complete: true,
    instructions: [],
    live: null,
    available: 0n,
    held: 0n,
  };
  #begun = false;
  #told = /** @type {Explanation | null} */ (null);

  /**
   * @param {HTMLElement} root
   * @param {ModelPicker} picker
   * @param {Remedies} remedies
   */
  constructor(root, picker, remedies) {
    super();
    this.#root = root;
    this.#remedies = remedies;
    this.picker = picker;
    this.#draft = part(root, "draft", HTMLTextAreaElement);
    this.#trouble = part(root, "trouble");
    this.#fit = growWithText(this.#draft);
    picker.addEventListener("change", () => this.#assess());
    this.#draft.addEventListener("input", () => {
      drafts.keep(this.#situation.conversation, this.#draft.value);
      if (this.#told?.remedy === null) this.clearTrouble();
      else this.#assess();
    });
    this.#draft.addEventListener("keydown", (event) => {
      if (!meansSend(event)) return;
      event.preventDefault();
      this.#send();
    });
    part(root, "composer").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#send();
    });
    part(root, "stop").addEventListener("click", () => {
      this.dispatchEvent(new Event("stop"));
      this.focus();
    });
  }

  get text() {
    return this.#draft.value;
  }

  /** @param {string} text */
  write(text) {
    this.#draft.value = text;
    drafts.keep(this.#situation.conversation, text);
    this.#fit();
    this.#assess();
  }

  /** Puts the cursor into the box, except where that would raise a keyboard over half of the page. */
  focus() {
    if (matchMedia("(hover: hover)").matches) this.#draft.focus();
  }

  /** @param {Situation} situation */
  update(situation) {
    const moved = !this.#begun || situation.conversation !== this.#situation.conversation;
    this.#begun = true;
    this.#situation = situation;
    if (moved) {
      this.clearTrouble();
      this.write(drafts.of(situation.conversation));
    } else this.#assess();
  }

  /**
   * A new conversation has got its id; what is being written belongs to it.
   * @param {string} conversation
   */
  adopt(conversation) {
    drafts.keep(null, "");
    drafts.keep(conversation, this.text);
    this.#situation = { ...this.#situation, conversation };
  }

  /**
   * @param {Explanation} explanation
   * @param {{ retry: () => void, waitSeconds: number | null }} again
   */
  tell(explanation, { retry, waitSeconds }) {
    this.#told = explanation;
    this.#show(explanation, { ...this.#remedies, retry }, waitSeconds);
  }

  clearTrouble() {
    this.#told = null;
    this.#show(null);
    this.#assess();
  }

  #send() {
    if (this.#draft.value.trim() !== "" && !part(this.#root, "send", HTMLButtonElement).disabled) {
      this.dispatchEvent(new Event("send"));
    }
  }

  /** What the message as it stands can cost, and whether it can be sent. */
  #assess() {
    const { messages, complete, instructions, live, available, held } = this.#situation;
    const { model } = this.picker;
    const send = part(this.#root, "send", HTMLButtonElement);
    const stop = part(this.#root, "stop", HTMLButtonElement);
    const estimate = part(this.#root, "estimate");
    send.hidden = live !== null;
    stop.hidden = live === null;
    stop.disabled = live?.stopping ?? false;
    part(this.#root, "stop-words").textContent = live?.stopping ? "Stopping" : "Stop";
    if (!model) {
      estimate.textContent = "No model is on sale right now.";
      send.disabled = true;
      return;
    }
    const bound = promptBound(messages, complete, this.text, instructions);
    const { most, least, verdict } = affordability(model, bound, available, held);
    const hints = /** @type {Record<typeof verdict, [string, string]>} */ ({
      enough: [`at most ${formatCredits(most, "up")} credits`, SET_ASIDE],
      limited: [`at most ${formatCredits(available, "down")} credits`, LIMITED],
      held: [`${formatCredits(held, "up")} credits are held`, HELD],
      short: ["", ""],
    });
    [estimate.textContent, estimate.title] = hints[verdict];
    estimate.classList.toggle("limited", verdict === "limited");
    const affordable = verdict === "enough" || verdict === "limited";
    send.disabled = !affordable || live !== null || this.text.trim() === "";
    this.#root.classList.toggle("short", verdict === "short");
    if (this.#told) return;
    const cheaper = this.picker.models.find((other) => affordability(other, bound, available, held).verdict !== "short");
    this.#show(verdict === "short" ? outOfCredits(toAmount(available), toAmount(least), cheaper?.name) : null);
  }

  /**
   * @param {Explanation | null} explanation
   * @param {Remedies} [remedies]
   * @param {number | null} [waitSeconds]
   */
  #show(explanation, remedies = this.#remedies, waitSeconds = null) {
    const words = JSON.stringify([explanation, waitSeconds]);
    if (explanation && this.#trouble.dataset.words === words && !this.#told) return;
    this.#trouble.dataset.words = words;
    this.#trouble.hidden = explanation === null;
    this.#trouble.replaceChildren(...(explanation ? [explanationView(explanation, remedies, waitSeconds)] : []));
  }
}
