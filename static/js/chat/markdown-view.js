/**
 * Markdown on the page, complete or still growing. What has settled is never rendered again.
 *
 * @import { Block } from "#lib/blocks.js"
 */
import { blocksOf, BlockSplitter } from "#lib/blocks.js";
import { mend } from "#lib/mend.js";
import { colourCode, frameCode } from "#chat/code.js";
import { patchChildren } from "#chat/patch.js";
import { sanitize } from "#chat/sanitize.js";
import { typeset, typesetLater } from "#chat/typeset.js";

export class MarkdownView {
  #root;
  #splitter = new BlockSplitter();
  /** @type {{ html: string, last: ChildNode | null }[]} `last` is the last node on the page up to this block's end */
  #settled = [];

  /** @param {HTMLElement} root whose content it replaces */
  constructor(root) {
    this.#root = root;
    root.replaceChildren();
  }

  /**
   * Shows a text that will go on.
   * @param {string} text all of it so far
   * @returns {string} the source of what has become settled
   */
  grow(text) {
    const { settled, open } = this.#splitter.push(text);
    this.#place(settled, render(this.#splitter.preview(mend(open))));
    return sourceOf(settled);
  }

  /**
   * Shows a text that will not change. Of what is shown already, only blocks that turn out to look different are
   * rendered again, such as one that used a link defined later.
   * @param {string} text
   * @returns {string} the source of what had not been settled before
   */
  settle(text) {
    const blocks = blocksOf(text);
    const before = this.#settled.length;
    const different = blocks.findIndex(({ html }, index) => html !== this.#settled[index]?.html);
    this.#settled.length = different === -1 ? Math.min(blocks.length, before) : different;
    this.#place(blocks.slice(this.#settled.length), new DocumentFragment());
    return sourceOf(blocks.slice(before));
  }

  /**
   * Puts newly settled blocks, and behind them the open one, after what has settled before. They are patched in: the
   * settled blocks were the open one a moment ago, and do not even flicker.
   * @param {Block[]} blocks
   * @param {DocumentFragment} open
   */
  #place(blocks, open) {
    const before = this.#settled.at(-1)?.last ?? null;
    const fresh = new DocumentFragment();
    const sizes = blocks.map(({ html }) => {
      const nodes = render(html);
      const size = nodes.childNodes.length;
      fresh.append(nodes);
      return size;
    });
    fresh.append(open);
    patchChildren(this.#root, before ? before.nextSibling : this.#root.firstChild, fresh);

    let last = before;
    /** @type {Element[]} */
    const finished = [];
    blocks.forEach(({ html }, index) => {
      for (let left = sizes[index] ?? 0; left > 0; left -= 1) {
        last = last ? last.nextSibling : this.#root.firstChild;
        if (last instanceof Element) finished.push(last);
      }
      this.#settled.push({ html, last });
    });
    void colourCode(finished);
    void typesetLater(this.#root);
  }
}

/** @param {string} html */
function render(html) {
  const fragment = sanitize(html);
  frameCode(fragment);
  for (const table of fragment.querySelectorAll(".table-scroll")) table.setAttribute("tabindex", "0");
  typeset(fragment);
  return fragment;
}

/** @param {Block[]} blocks */
function sourceOf(blocks) {
  return blocks.map(({ text }) => text).join("");
}
