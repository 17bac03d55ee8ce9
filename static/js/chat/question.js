/**
 * What the person said: the words, and editing them.
 *
 * @import { Message } from "#lib/shapes.js"
 * @import { MessageActions } from "#chat/thread.js"
 */
import { neighbour, showBranches } from "#chat/branches.js";
import { growWithText, meansSend } from "#chat/growing-box.js";
import { part, piece } from "#chat/pieces.js";

const LONG_CHARACTERS = 1600;
const LONG_LINES = 24;

export class QuestionView {
  element = piece("question");
  #message;
  #actions;

  /**
   * @param {Message} message
   * @param {MessageActions} actions
   */
  constructor(message, actions) {
    this.#message = message;
    this.#actions = actions;
    this.element.addEventListener("click", (event) => this.#act(event));
    this.update(message);
  }

  /** @param {Message} message */
  update(message) {
    this.#message = message;
    const text = part(this.element, "text");
    if (text.textContent !== message.text) {
      text.textContent = message.text;
      this.#fold(isLong(message.text));
    }
    showBranches(this.element, message);
  }

  /** @param {boolean} folded a long message shows its beginning, so that the answer is not far away */
  #fold(folded) {
    const button = part(this.element, "unfold", HTMLButtonElement);
    this.element.classList.toggle("folded", folded);
    button.hidden = !folded;
    button.onclick = () => this.#fold(false);
  }

  /** @param {Event} event */
  #act(event) {
    const button = event.target instanceof Element ? event.target.closest("button[data-act]") : null;
    if (!(button instanceof HTMLButtonElement)) return;
    if (button.dataset.act === "copy") this.#actions.copy(this.#message.text, button);
    else if (button.dataset.act === "edit") this.#edit();
    else this.#actions.showBranch(neighbour(this.#message, button.dataset.act === "next" ? 1 : -1));
  }

  #edit() {
    const form = piece("editing");
    const box = part(form, "edited", HTMLTextAreaElement);
    const shown = [part(this.element, "bubble"), part(this.element, "foot")];
    const close = () => {
      form.remove();
      for (const element of shown) element.hidden = false;
      this.element.querySelector("button")?.focus();
    };
    const send = () => {
      if (box.value.trim() === "" || !this.#actions.edit(this.#message, box.value)) return;
      close();
    };
    box.value = this.#message.text;
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      send();
    });
    part(form, "cancel").addEventListener("click", close);
    form.addEventListener("keydown", (event) => {
      if (event.key === "Escape") {
        event.stopPropagation();
        close();
      } else if (event.target === box && meansSend(event)) {
        event.preventDefault();
        send();
      }
    });
    for (const element of shown) element.hidden = true;
    this.element.append(form);
    growWithText(box)();
    box.focus();
    box.setSelectionRange(box.value.length, box.value.length);
  }
}

/** @param {string} text */
function isLong(text) {
  return text.length > LONG_CHARACTERS || text.split("\n").length > LONG_LINES;
}
