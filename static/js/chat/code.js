/** Code in answers: a frame with its language and a button that copies it, and colours once it is complete. */
import { part, piece } from "#chat/pieces.js";
import { sanitize } from "#chat/sanitize.js";

/** Colouring more than this would hold up the page for longer than it is worth. */
const LONGEST_COLOURED = 60_000;

/**
 * Frames every block of code below `root`.
 * @param {ParentNode} root
 */
export function frameCode(root) {
  for (const block of root.querySelectorAll("pre")) {
    const frame = piece("code");
    part(frame, "language").textContent = languageOf(block) || "text";
    block.replaceWith(frame);
    block.tabIndex = 0; // so that the keyboard can scroll it sideways
    frame.append(block);
  }
}

/**
 * Colours the code of these blocks, whose text will not change any more.
 * @param {Iterable<Element>} blocks
 */
export async function colourCode(blocks) {
  const waiting = [...blocks].flatMap((block) => [...block.querySelectorAll("pre > code[class]")]);
  if (waiting.length === 0) return;
  const highlighter = await fetched();
  if (highlighter === null) return;
  for (const code of waiting) {
    const source = code.textContent ?? "";
    const language = languageOf(code);
    if (source.length > LONGEST_COLOURED || !highlighter.getLanguage(language)) continue;
    const { value } = highlighter.highlight(source, { language, ignoreIllegals: true });
    code.replaceChildren(sanitize(value));
  }
}

/** What colours, or null where there is no network now: code can be read without colours too. */
async function fetched() {
  try {
    return (await import("@highlightjs/cdn-assets/es/highlight.min.js")).default;
  } catch {
    return null;
  }
}

/** @param {Element} element `<pre>` or its `<code>` */
function languageOf(element) {
  const code = element.matches("code") ? element : element.querySelector("code");
  return /^language-(.+)$/.exec(code?.className ?? "")?.[1] ?? "";
}
