/** The keyboard in menus and lists that open over the page. Opening and closing is the browser's (`popover`). */

/**
 * @param {HTMLElement} menu with `popover`
 */
export function driveMenu(menu) {
  menu.addEventListener("toggle", (event) => {
    if (/** @type {ToggleEvent} */ (event).newState !== "open") return;
    const items = itemsOf(menu);
    (items.find((item) => item.getAttribute("aria-selected") === "true") ?? items[0])?.focus();
  });
  menu.addEventListener("keydown", (event) => {
    if (event.key === "Tab") return menu.hidePopover();
    moveFocus(event, itemsOf(menu));
  });
  menu.addEventListener("click", (event) => {
    if (event.target instanceof Element && event.target.closest("button, a")) menu.hidePopover();
  });
}

/**
 * Moves the focus among `items` when an arrow key, Home or End was pressed.
 * @param {KeyboardEvent} event
 * @param {HTMLElement[]} items from top to bottom
 */
export function moveFocus(event, items) {
  const now = items.findIndex((item) => item === document.activeElement);
  /** @type {Record<string, number>} */
  const steps = {
    ArrowDown: now + 1,
    ArrowUp: now === -1 ? items.length - 1 : now - 1,
    Home: 0,
    End: items.length - 1,
  };
  const next = steps[event.key];
  if (next === undefined || items.length === 0) return;
  event.preventDefault();
  items[Math.min(Math.max(next, 0), items.length - 1)]?.focus();
}

/** @param {HTMLElement} menu */
function itemsOf(menu) {
  return [.../** @type {NodeListOf<HTMLElement>} */ (menu.querySelectorAll("a, button"))];
}
