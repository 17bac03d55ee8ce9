/**
 * What the model said: thoughts, words as they come, how it ended, and what it cost.
 *
 * @import { Message, Turn } from "#lib/shapes.js"
 * @import { MessageActions } from "#chat/thread.js"
 */
import { PATIENCE_MS, progressOf } from "#lib/progress.js";
import { explainTurn } from "#lib/troubles.js";
import { wholeSeconds } from "#lib/words.js";
import { neighbour, showBranches } from "#chat/branches.js";
import { explanationView } from "#chat/explanation.js";
import { showFigures } from "#chat/figures.js";
import { LiveTurn } from "#chat/live-turn.js";
import { MarkdownView } from "#chat/markdown-view.js";
import { part, piece } from "#chat/pieces.js";

/** At most about ten paints a second: faster than anyone reads, slow enough to leave the page free. */
const PAINT_MS = 100;

export class AnswerView {
  element = piece("answer");
  #message;
  #actions;
  #words = new MarkdownView(part(this.element, "text"));
  #thoughts = new MarkdownView(part(this.element, "thoughts"));
  #shownText = /** @type {string | null} */ (null);
  /** @type {LiveTurn | null} */
  #live = null;
  #thoughtMs = /** @type {number | null} */ (null);
  #left = new AbortController();
  #paintedAt = -PAINT_MS;
  #paintTimer = /** @type {ReturnType<typeof setTimeout> | undefined} */ (undefined);
  #patienceTimer = /** @type {ReturnType<typeof setTimeout> | undefined} */ (undefined);

  /**
   * @param {Message} message
   * @param {MessageActions} actions
   * @param {LiveTurn | null} live the turn that writes it, while it does
   */
  constructor(message, actions, live) {
    this.#message = message;
    this.#actions = actions;
    this.element.addEventListener("click", (event) => this.#act(event));
    part(this.element, "thinking").addEventListener("toggle", () => this.#showThoughts());
    this.update(message, live);
  }

  /**
   * @param {Message} message
   * @param {LiveTurn | null} live
   */
  update(message, live) {
    this.#message = message;
    if (live !== this.#live) this.leave();
    if (live && live !== this.#live) this.#follow(live);
    if (!live) this.#showEnded();
    showBranches(this.element, message);
  }

  /** Stops following the turn, because it is over or because this is no longer shown. */
  leave() {
    this.#left.abort();
    clearTimeout(this.#paintTimer);
    clearTimeout(this.#patienceTimer);
    this.#paintTimer = undefined;
    this.#live = null;
    this.element.removeAttribute("aria-busy");
    this.element.classList.remove("growing");
  }

  /** @param {LiveTurn} live */
  #follow(live) {
    this.#live = live;
    if (this.#shownText !== null) {
      // What was shown as ended goes on after all, from its start.
      this.#words = new MarkdownView(part(this.element, "text"));
      this.#thoughts = new MarkdownView(part(this.element, "thoughts"));
      this.#shownText = null;
      this.#showOutcome(null);
    }
    this.#left = new AbortController();
    const { signal } = this.#left;
    live.addEventListener("growth", () => this.#schedulePaint(), { signal });
    live.addEventListener("connection", () => this.#showProgress(), { signal });
    this.element.setAttribute("aria-busy", "true");
    this.element.classList.add("growing");
    this.#paint();
  }

  #schedulePaint() {
    this.#paintTimer ??= setTimeout(() => this.#paint(), this.#paintedAt + PAINT_MS - performance.now());
  }

  #paint() {
    this.#paintTimer = undefined;
    this.#paintedAt = performance.now();
    if (!this.#live) return;
    const settled = this.#words.grow(this.#live.text);
    if (settled) this.#actions.announce(settled);
    this.#showThoughts();
    this.#showProgress();
    clearTimeout(this.#patienceTimer);
    this.#patienceTimer = setTimeout(() => this.#showProgress(), PATIENCE_MS);
  }

  #showEnded() {
    const { text, turn } = this.#message;
    if (text !== this.#shownText) {
      const settled = this.#words.settle(text);
      if (this.#shownText === null && this.element.isConnected) this.#actions.announce(settled);
      this.#shownText = text;
    }
    this.element.classList.toggle("wordless", text === "");
    this.#showThoughts();
    this.#showProgress();
    this.#showOutcome(turn);
  }

  #showThoughts() {
    const details = part(this.element, "thinking", HTMLDetailsElement);
    const live = this.#live;
    const thinking = live ? live.thinking : this.#message.thinking;
    details.hidden = thinking === "";
    part(details, "thinking-title").textContent = this.#thinkingTitle(live);
    details.classList.toggle("active", live !== null && live.thoughtMs === null);
    if (!details.open || thinking === "") return;
    if (live) this.#thoughts.grow(thinking);
    else this.#thoughts.settle(thinking);
  }

  /** @param {LiveTurn | null} live */
  #thinkingTitle(live) {
    if (live) this.#thoughtMs = live.thoughtMs;
    if (live && live.thoughtMs === null) return "Thinking…";
    return this.#thoughtMs === null ? "Thoughts" : `Thought for ${wholeSeconds(this.#thoughtMs)}`;
  }

  /** What is going on while there are no new words. */
  #showProgress() {
    const live = this.#live;
    const waiting = part(this.element, "waiting");
    const { words, tone } = live ? progressOf(live) : { words: "", tone: "" };
    waiting.hidden = words === "" && tone !== "blank";
    waiting.classList.toggle("blank", tone === "blank");
    waiting.classList.toggle("lost", tone === "lost");
    this.element.classList.toggle("cut-off", tone === "lost");
    if (waiting.textContent !== words) {
      waiting.textContent = words;
      if (tone === "lost") this.#actions.announce(words);
    }
    showFigures(this.element, this.#message.turn, live !== null);
  }

  /** @param {Turn | null} turn */
  #showOutcome(turn) {
    const place = part(this.element, "outcome");
    const explanation = turn && explainTurn(turn);
    const words = JSON.stringify(explanation);
    // Drawn once: a countdown goes on, a focused button stays.
    if (place.dataset.words === words) return;
    place.dataset.words = words;
    place.hidden = !explanation;
    place.replaceChildren();
    this.element.classList.toggle("offers-retry", explanation?.remedy === "retry");
    if (explanation) {
      const remedies = { ...this.#actions.remedies, retry: () => this.#actions.retry(this.#message) };
      place.append(explanationView(explanation, remedies, turn.error?.retry_after ?? null));
    }
  }

  /** @param {Event} event */
  #act(event) {
    const button = event.target instanceof Element ? event.target.closest("button[data-act]") : null;
    if (!(button instanceof HTMLButtonElement)) return;
    const { act } = button.dataset;
    const code = button.closest("figure")?.querySelector("code");
    if (act === "copy") this.#actions.copy(this.#message.text, button);
    else if (act === "copy-code") this.#actions.copy(code?.textContent ?? "", button);
    else if (act === "retry") this.#actions.retry(this.#message);
    else this.#actions.showBranch(neighbour(this.#message, act === "next" ? 1 : -1));
  }
}
