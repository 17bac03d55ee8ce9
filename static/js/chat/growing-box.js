/** A text box as high as its text, up to the limit that CSS sets. */

/** @param {HTMLTextAreaElement} box */
export function growWithText(box) {
  const fit = () => {
    box.style.height = "auto";
    box.style.height = `${box.scrollHeight}px`;
  };
  box.addEventListener("input", fit);
  new ResizeObserver((entries) => {
    // The width decides how lines break; the height is ours.
    const width = entries[0]?.contentRect.width ?? 0;
    if (width !== Number(box.dataset.width)) {
      box.dataset.width = String(width);
      fit();
    }
  }).observe(box);
  return fit;
}

/**
 * Whether a key press means "send": Enter alone, and not the one that ends the composition of a character.
 * @param {KeyboardEvent} event
 */
export function meansSend(event) {
  // Safari reports the ending Enter after the composition, with the code that stands for "in composition".
  return event.key === "Enter" && !event.shiftKey && !event.altKey && !event.isComposing && event.keyCode !== 229;
}
