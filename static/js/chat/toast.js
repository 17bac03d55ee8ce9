/** A few words at the edge of the page about something small that did not work. */
import { Refusal } from "#chat/api.js";

const SHOWN_MS = 6000;

export class Toast {
  #element;
  #timer = /** @type {ReturnType<typeof setTimeout> | undefined} */ (undefined);

  /** @param {HTMLElement} element a status region */
  constructor(element) {
    this.#element = element;
  }

  /**
   * @param {string} words
   * @param {AbortSignal} [moot] when nobody needs to be told any more
   */
  say(words, moot) {
    if (moot?.aborted) return;
    clearTimeout(this.#timer);
    this.#element.textContent = words;
    this.#element.hidden = false;
    const timer = setTimeout(() => this.#hide(), SHOWN_MS);
    this.#timer = timer;
    // By then something else may be said here.
    moot?.addEventListener("abort", () => this.#timer === timer && this.#hide());
  }

  /**
   * Runs `work`; when it fails, says what did not happen and why.
   * @param {string} what such as "The chat was not renamed."
   * @param {() => Promise<void>} work
   * @param {{ advice?: string, moot?: AbortSignal }} [more] what to do about it, and when that is over by itself
   * @returns {Promise<boolean>} whether it worked
   */
  async unless(what, work, { advice = "", moot } = {}) {
    try {
      await work();
      return true;
    } catch (error) {
      this.say(`${what} ${reason(error)} ${advice}`.trimEnd(), moot);
      return false;
    }
  }

  #hide() {
    clearTimeout(this.#timer);
    this.#element.hidden = true;
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
