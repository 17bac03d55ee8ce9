/**
 * A growing Markdown text, cut into blocks that will never change again and the one that is still being written.
 *
 * @import { Links, Token } from "marked"
 */
import { lex, toHtml } from "#lib/markdown.js";

/** @typedef {{ html: string, text: string }} Block HTML for the sanitizer, and the source as it was written */

const INVISIBLE = new Set(["space", "def"]);

export class BlockSplitter {
  #offset = 0;
  /** @type {Links} */
  #links = {};

  /**
   * The blocks that have become settled since the last call, and the source after them.
   * @param {string} text all of the text so far; it only ever grows
   * @returns {{ settled: Block[], open: string }}
   */
  push(text) {
    const tail = normalized(text).slice(this.#offset);
    const tokens = lex(tail, this.#links);
    const settled = tokens.slice(0, firstUnsettled(tokens));
    const read = settled.reduce((sum, token) => sum + token.raw.length, 0);
    // White space at the very end may be the indentation of what comes next.
    const length = Math.min(read, tail.replace(/[ \t]+$/, "").length);
    this.#offset += length;
    return { settled: blocks(settled), open: tail.slice(length) };
  }

  /**
   * HTML of source that follows the settled blocks, for show: it may use the links they defined.
   * @param {string} open
   */
  preview(open) {
    return toHtml(lex(open, { ...this.#links }));
  }
}

/**
 * All the blocks of a text that is complete.
 * @param {string} text
 * @returns {Block[]}
 */
export function blocksOf(text) {
  return blocks(lex(normalized(text)));
}

/** @param {Token[]} tokens */
function blocks(tokens) {
  return tokens
    .filter((token) => !INVISIBLE.has(token.type))
    .map((token) => ({ html: toHtml([token]), text: token.raw }));
}

/**
 * The index of the first token that further text can still change.
 * @param {Token[]} tokens
 */
function firstUnsettled(tokens) {
  const visible = tokens.flatMap((token, index) => (token.type === "space" ? [] : [index]));
  const last = visible.at(-1);
  if (last === undefined) return 0;
  const token = /** @type {Token} */ (tokens[last]);
  const after = tokens
    .slice(last + 1)
    .map(({ raw }) => raw)
    .join("");
  if (isClosed(token, after)) return tokens.length;
  const before = visible.at(-2);
  if (before === undefined) return last;
  // "1" after a list may yet become its next item: the list waits until the text tells.
  const undecided = continuesAfterBlankLine(/** @type {Token} */ (tokens[before])) && couldBecomeItem(token);
  return undecided ? before : last;
}

/**
 * Whether nothing that follows can become part of the token.
 * @param {Token} token
 * @param {string} after the white space behind it
 */
function isClosed(token, after) {
  const source = token.raw + after;
  if (token.type === "code" && !isIndented(token)) return isClosedFence(source);
  if (token.type === "heading" || token.type === "hr") return source.endsWith("\n");
  return !continuesAfterBlankLine(token) && /\n[ \t]*\n[ \t]*$/.test(source);
}

/** @param {Token} token */
function continuesAfterBlankLine(token) {
  return token.type === "list" || isIndented(token);
}

/** @param {Token} token */
function isIndented(token) {
  return token.type === "code" && token.codeBlockStyle === "indented";
}

/** @param {string} source */
function isClosedFence(source) {
  const fence = /^ {0,3}(`{3,}|~{3,})/.exec(source)?.[1];
  if (fence === undefined) return false;
  const lines = source.split("\n");
  const mark = fence.charAt(0);
  const closing = new RegExp(`^ {0,3}${mark}{${fence.length},}[ \\t]*$`);
  // The last line has no end yet: its fence may still grow into something else.
  return lines.slice(1, -1).some((line) => closing.test(line));
}

/** @param {Token} token */
function couldBecomeItem(token) {
  const firstLine = /^[^\n]*/.exec(token.raw)?.[0] ?? "";
  if (token.type === "list" || token.raw.includes("\n")) return false;
  return /^[ \t]*(?:[-*+]|\d{0,9}[.)]?)[ \t]*$/.test(firstLine) || /^[ \t]*[-*+][-*+]?$/.test(firstLine);
}

/** @param {string} text */
function normalized(text) {
  return text.replace(/\r\n?/g, "\n");
}
