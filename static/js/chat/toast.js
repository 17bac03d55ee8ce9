/** One sentence at the edge of the page about something small that did not work. */
import { Refusal } from "#chat/api.js";

const SHOWN_MS = 6000;

export class Toast {
  #element;
  #timer = /** @type {ReturnType<typeof setTimeout> | undefined} */ (undefined);

  /** @param {HTMLElement} element a status region */
  constructor(element) {
    this.#element = element;
  }

  /** @param {string} sentence */
  say(sentence) {
    clearTimeout(this.#timer);
    this.#element.textContent = sentence;
    this.#element.hidden = false;
    this.#timer = setTimeout(() => {
      this.#element.hidden = true;
    }, SHOWN_MS);
  }

  /**
   * Runs `work`; when it fails, says what did not happen and why.
   * @param {string} what such as "The chat was not renamed."
   * @param {() => Promise<void>} work
   * @returns {Promise<boolean>} whether it worked
   */
  async unless(what, work) {
    try {
      await work();
      return true;
    } catch (error) {
      this.say(`${what} ${reason(error)}`);
      return false;
    }
  }
}

/**
 * @param {unknown} error
 * @returns {string} in words; what is a mistake of ours is thrown on
 */
function reason(error) {
  if (error instanceof Refusal) return error.code === "not_signed_in" ? "You are signed out." : error.message;
  // As `fetch` throws them: TypeError when there is no answer, DOMException when it comes too late.
  if (error instanceof TypeError || error instanceof DOMException) return "The server cannot be reached.";
  throw error;
}
