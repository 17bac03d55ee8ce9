/**
 * "‹ 1 / 2 ›": the versions of a message.
 *
 * @import { Message } from "#lib/shapes.js"
 */
import { part } from "#chat/pieces.js";

/**
 * @param {HTMLElement} root
 * @param {Message} message
 */
export function showBranches(root, { id, siblings }) {
  const place = siblings.indexOf(id);
  part(root, "branches").hidden = siblings.length < 2 || place === -1;
  part(root, "place").textContent = `${place + 1} / ${siblings.length}`;
  for (const [act, step] of /** @type {const} */ ([
    ["previous", -1],
    ["next", 1],
  ])) {
    const button = root.querySelector(`[data-act="${act}"]`);
    if (button instanceof HTMLButtonElement) button.disabled = siblings[place + step] === undefined;
  }
}

/**
 * The version beside this one.
 * @param {Message} message
 * @param {1 | -1} step
 */
export function neighbour({ id, siblings }, step) {
  return siblings[siblings.indexOf(id) + step];
}
