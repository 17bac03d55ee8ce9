/** Copying, and saying so on the button. */

const SHOWN_MS = 1600;

/**
 * @param {string} text
 * @param {HTMLElement} button with an icon and a word
 */
export async function copyText(text, button) {
  const copied = await written(text);
  const word = button.querySelector("span");
  const icon = button.querySelector("use");
  if (!word || !icon || button.dataset.before) return;
  button.dataset.before = word.textContent ?? "";
  word.textContent = copied ? "Copied" : "Not copied";
  if (copied) icon.setAttribute("href", "#icon-check");
  setTimeout(() => {
    word.textContent = button.dataset.before ?? "";
    icon.setAttribute("href", "#icon-copy");
    delete button.dataset.before;
  }, SHOWN_MS);
}

/** @param {string} text */
async function written(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // No permission, or a page over plain HTTP, which has no clipboard: the old way still works there.
    return writtenTheOldWay(text);
  }
}

/** @param {string} text */
function writtenTheOldWay(text) {
  const box = document.createElement("textarea");
  box.className = "visually-hidden";
  box.value = text;
  document.body.append(box);
  box.select();
  const copied = document.execCommand("copy");
  box.remove();
  return copied;
}
