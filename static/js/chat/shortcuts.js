/** The keys that work everywhere on the page. */

const ON_MAC = /Mac|iP(?:hone|ad|od)/.test(navigator.platform);

/**
 * @param {{ search: () => void, newChat: () => void, stop: () => void }} acts
 */
export function listenToKeys({ search, newChat, stop }) {
  for (const hint of /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll("[data-keys]"))) {
    const keys = hint.dataset.keys ?? "";
    hint.textContent = ON_MAC ? `⌘ ${keys.replace("shift", "⇧")}` : `Ctrl ${keys.replace("shift", "Shift")}`;
  }
  document.addEventListener("keydown", (event) => {
    const chord = ON_MAC ? event.metaKey : event.ctrlKey;
    const key = event.key.toLowerCase();
    if (chord && !event.shiftKey && key === "k") act(event, search);
    else if (chord && event.shiftKey && key === "o") act(event, newChat);
    // A menu, a dialog or the drawer that is open takes Escape for itself.
    else if (
      event.key === "Escape" &&
      !event.defaultPrevented &&
      !document.querySelector(":popover-open, dialog[open], .drawer-open")
    )
      stop();
  });
}

/**
 * @param {KeyboardEvent} event
 * @param {() => void} what
 */
function act(event, what) {
  event.preventDefault();
  what();
}
