/**
 * A trouble shown with what can be done about it.
 *
 * @import { Explanation, Remedy } from "#lib/troubles.js"
 */
import { part, piece } from "#chat/pieces.js";

/** @type {Record<Remedy, string>} */
const WORDS = {
  retry: "Retry",
  reconnect: "Reconnect",
  top_up: "See credit packs",
  log_in: "Log in",
  new_chat: "New chat",
  reload: "Reload",
};

/**
 * @typedef {Object} Remedies What each remedy does; those that are links have an address.
 * @property {() => void} retry
 * @property {() => void} reconnect
 * @property {() => void} newChat
 * @property {string} billing
 * @property {string} login
 */

/**
 * @param {Explanation} explanation
 * @param {Remedies} remedies
 * @param {number | null} [waitSeconds] how long a retry would be refused
 * @returns {HTMLElement}
 */
export function explanationView({ title, text, remedy, tone }, remedies, waitSeconds = null) {
  const view = piece("explanation");
  view.classList.add(tone);
  part(view, "title").textContent = text && !/[.?!]$/.test(title) ? `${title}.` : title;
  part(view, "text").textContent = text;
  if (remedy === "top_up" || remedy === "log_in") {
    const link = part(view, "link", HTMLAnchorElement);
    link.href = remedy === "top_up" ? remedies.billing : remedies.login;
    link.textContent = WORDS[remedy];
    link.hidden = false;
  } else if (remedy !== null) {
    const button = part(view, "act", HTMLButtonElement);
    const { retry, reconnect, newChat } = remedies;
    const act = { retry, reconnect, new_chat: newChat, reload: () => location.reload() }[remedy];
    button.textContent = WORDS[remedy];
    button.hidden = false;
    button.addEventListener("click", act);
    if (waitSeconds && remedy === "retry") countDown(button, Math.ceil(waitSeconds));
  }
  return view;
}

/**
 * @param {HTMLButtonElement} button
 * @param {number} seconds
 */
function countDown(button, seconds) {
  const end = performance.now() + seconds * 1000;
  const tick = () => {
    const left = Math.ceil((end - performance.now()) / 1000);
    button.disabled = left > 0;
    button.textContent = left > 0 ? `Retry in ${left} s` : WORDS.retry;
    if (left > 0 && (button.isConnected || left === seconds)) setTimeout(tick, 1000);
  };
  tick();
}
