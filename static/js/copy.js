// Buttons that copy what a field says, or another element: <button data-copy="id of it">.

const SHOWN_MS = 1600;

for (const button of /** @type {NodeListOf<HTMLButtonElement>} */ (document.querySelectorAll("[data-copy]"))) {
  const source = document.getElementById(button.dataset.copy ?? "");
  if (!source) continue;
  const words = button.textContent;
  button.setAttribute("aria-live", "polite");
  button.addEventListener("click", async () => {
    select(source);
    try {
      await navigator.clipboard.writeText(textOf(source));
      button.textContent = "Copied";
    } catch {
      // Without permission, or over plain http: the text is selected, ready for the keyboard.
      button.textContent = "Press Ctrl+C";
    }
    setTimeout(() => {
      button.textContent = words;
    }, SHOWN_MS);
  });
}

/** @param {HTMLElement} source */
function select(source) {
  if (isField(source)) source.select();
  else getSelection()?.selectAllChildren(source);
}

/**
 * As it is seen: the items of a list are lines.
 * @param {HTMLElement} source
 */
function textOf(source) {
  return isField(source) ? source.value : source.innerText;
}

/**
 * @param {HTMLElement} source
 * @returns {source is HTMLInputElement | HTMLTextAreaElement}
 */
function isField(source) {
  return source instanceof HTMLInputElement || source instanceof HTMLTextAreaElement;
}
