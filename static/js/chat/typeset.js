/** Mathematics in answers. KaTeX is large, so it is fetched when the first formula appears. */

/** @type {typeof import("katex").default | null} */
let katex = null;
/** @type {Promise<void> | null} */
let loading = null;

/**
 * Typesets the formulas below `root` at once, if KaTeX is there. It builds elements from its own parse of the source
 * and trusts no command that could carry HTML, a link or a style.
 * @param {ParentNode} root
 */
export function typeset(root) {
  if (katex === null) return;
  for (const place of /** @type {NodeListOf<HTMLElement>} */ (root.querySelectorAll(".math:not(.typeset)"))) {
    const source = place.textContent ?? "";
    const displayMode = place.classList.contains("math-display");
    try {
      katex.render(source, place, { displayMode, trust: false, strict: "ignore", maxSize: 20, maxExpand: 500 });
    } catch (error) {
      if (!(error instanceof katex.ParseError)) throw error;
      // What KaTeX does not understand is best read as it was written.
      place.textContent = source;
      continue;
    }
    place.classList.add("typeset");
  }
}

/**
 * Typesets the formulas below `root` as soon as it can be done.
 * @param {ParentNode} root
 */
export async function typesetLater(root) {
  if (katex === null && root.querySelector(".math:not(.typeset)")) {
    loading ??= load();
    try {
      await loading;
    } catch {
      loading = null; // no network now: the next formula tries again, and this one is read as it was written
      return;
    }
  }
  typeset(root);
}

async function load() {
  const sheet = document.createElement("link");
  sheet.rel = "stylesheet";
  sheet.href = import.meta.resolve("katex.css");
  document.head.append(sheet);
  ({ default: katex } = await import("katex"));
}
