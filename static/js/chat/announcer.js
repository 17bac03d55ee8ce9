/** Tells screen readers what has been said, a finished paragraph at a time. */
import { blocksOf } from "#lib/blocks.js";
import { sanitize } from "#chat/sanitize.js";

const KEPT = 12;

export class Announcer {
  #region;

  /** @param {HTMLElement} region polite */
  constructor(region) {
    this.#region = region;
  }

  /** @param {string} markdown */
  announce(markdown) {
    for (const { html } of blocksOf(markdown)) this.say(sanitize(html).textContent ?? "");
  }

  /** @param {string} words */
  say(words) {
    const line = document.createElement("p");
    line.textContent = words.trim();
    if (line.textContent === "") return;
    this.#region.append(line);
    while (this.#region.childElementCount > KEPT) this.#region.firstElementChild?.remove();
  }
}
