/**
 * LaTeX in Markdown: `$…$`, `$$…$$`, `\(…\)` and `\[…\]`. It becomes a place that holds the source, which is typeset
 * later in the page: neither lexing nor the first paint waits for KaTeX.
 *
 * @import { TokenizerAndRendererExtension } from "marked"
 */
import { escapeHtml } from "#lib/html.js";

// Never across a blank line: a stray `$$` must not swallow the rest of an answer.
const BLOCK = /^ {0,3}(?:\$\$((?:(?!\n[ \t]*\n|\$\$)[^])+)\$\$|\\\[((?:(?!\n[ \t]*\n|\\\])[^])+)\\\])[ \t]*(?:\n|$)/;
const BLOCK_START = /\n {0,3}(?:\$\$|\\\[)/;

const INLINE_DISPLAY = /^(?:\$\$([^$\n]+)\$\$|\\\[((?:(?!\n[ \t]*\n|\\\])[^])+)\\\])/;
// Pandoc's rule, by which "$5 and $10" stays money: no space inside either dollar, no digit after the second.
const INLINE =
  /^(?:\$(?![\s$])((?:\\[^\n]|[^\\$\n])*(?:\\[^\n]|[^\\$\s]))\$(?![\d$])|\\\(((?:(?!\n[ \t]*\n|\\\))[^])+)\\\))/;
const INLINE_START = /\$|\\[([]/;

/** @type {TokenizerAndRendererExtension[]} */
export const mathExtensions = [
  {
    name: "blockMath",
    level: "block",
    start: (source) => found(source.search(BLOCK_START)),
    tokenizer: (source) => token("blockMath", BLOCK.exec(source), true),
    renderer: ({ tex }) => `<p>${place(tex, true)}</p>\n`,
  },
  {
    name: "inlineMath",
    level: "inline",
    start: (source) => found(source.search(INLINE_START)),
    tokenizer: (source) =>
      token("inlineMath", INLINE_DISPLAY.exec(source), true) ?? token("inlineMath", INLINE.exec(source), false),
    renderer: ({ tex, display }) => place(tex, display),
  },
];

/** @param {number} index */
function found(index) {
  return index === -1 ? undefined : index;
}

/**
 * @param {string} type
 * @param {RegExpExecArray | null} match
 * @param {boolean} display
 */
function token(type, match, display) {
  return match ? { type, raw: match[0], tex: (match[1] ?? match[2] ?? "").trim(), display } : undefined;
}

/**
 * @param {string} tex
 * @param {boolean} display
 */
function place(tex, display) {
  return `<span class="${display ? "math math-display" : "math"}">${escapeHtml(tex)}</span>`;
}
