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
    for (const { html } of blocksOf(markdown)) this.say(spoken(sanitize(html)));
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

/**
 * What is worth hearing of a block: its words, with pauses where the eye sees gaps. Code is there to be read.
 * @param {DocumentFragment} block
 */
function spoken(block) {
  for (const code of block.querySelectorAll("pre")) code.replaceWith("A block of code.");
  for (const piece of block.querySelectorAll("th, td")) piece.append(", ");
  for (const piece of block.querySelectorAll("tr, li > p, li")) piece.append(" ");
  return block.textContent ?? "";
}
