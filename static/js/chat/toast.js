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
      if (error instanceof Refusal)
        this.say(error.code === "not_signed_in" ? `${what} You are signed out.` : `${what} ${error.message}`);
      else if (isNetworkError(error)) this.say(`${what} The server cannot be reached.`);
      else throw error;
      return false;
    }
  }
}

/** @param {unknown} error as `fetch` throws it: TypeError without an answer, DOMException for one that came too late */
function isNetworkError(error) {
  return error instanceof TypeError || error instanceof DOMException;
}
