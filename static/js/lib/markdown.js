/**
 * Markdown as answers are written in it, to HTML. The HTML is for the sanitizer, never for the page itself.
 *
 * @import { Token, Links } from "marked"
 */
import { Marked } from "marked";

import { escapeHtml } from "#lib/html.js";
import { mathExtensions } from "#lib/math.js";

// Raw HTML in an answer is nearly always code that was meant to be read (`vector<int>`). Only these, bare, are markup.
const BARE_TAG = /^<\/?(?:br|sub|sup|kbd|mark|u|small) ?\/?>/i;
const FOLLOWED_SCHEME = /^(?:https?:\/\/|mailto:)/i;

const marked = new Marked({
  gfm: true,
  extensions: mathExtensions,
  tokenizer: {
    html: () => undefined,
    tag(source) {
      const raw = BARE_TAG.exec(source)?.[0];
      const { inLink } = this.lexer.state;
      return raw ? { type: "html", raw, text: raw, inLink, inRawBlock: false, block: false } : undefined;
    },
  },
  renderer: {
    code: ({ text, lang }) => `<pre><code${languageClass(lang)}>${escapeHtml(text)}</code></pre>\n`,
    // The page has its own first and second level.
    heading({ tokens, depth }) {
      const level = Math.min(6, depth + 2);
      return `<h${level}>${this.parser.parseInline(tokens)}</h${level}>\n`;
    },
    table(token) {
      return `<div class="table-scroll">${tableHtml(this.parser, token)}</div>\n`;
    },
    link({ href, tokens }) {
      const content = this.parser.parseInline(tokens);
      return FOLLOWED_SCHEME.test(href) ? `<a href="${escapeHtml(href)}">${content}</a>` : content;
    },
    // An image would tell a stranger's server who reads this, and when. It is offered as a link.
    image: ({ href, text }) =>
      FOLLOWED_SCHEME.test(href)
        ? `<a href="${escapeHtml(href)}">Image: ${escapeHtml(text || href)}</a>`
        : escapeHtml(text),
    checkbox: ({ checked }) =>
      checked ? '<span class="task" title="Done">☑</span> ' : '<span class="task" title="To do">☐</span> ',
  },
});

/**
 * The blocks of `source`; the `raw` of all of them together is `source`.
 * @param {string} source with line feeds only
 * @param {Links} [links] definitions from earlier text; those of `source` are added to it
 * @returns {Token[]}
 */
export function lex(source, links = {}) {
  const lexer = new marked.Lexer(marked.defaults);
  lexer.tokens.links = links;
  return lexer.lex(source);
}

/**
 * @param {Token[]} tokens
 * @returns {string}
 */
export function toHtml(tokens) {
  return marked.parser(tokens);
}

/** @param {string | undefined} info what stands behind the opening fence */
function languageClass(info) {
  const language = /^[\w+#.-]+/.exec(info ?? "")?.[0];
  return language ? ` class="language-${language.toLowerCase()}"` : "";
}

/**
 * @param {{ parseInline(tokens: Token[]): string }} parser
 * @param {import("marked").Tokens.Table} table
 */
function tableHtml(parser, { header, rows }) {
  /** @param {import("marked").Tokens.TableCell} cell */
  const cellHtml = ({ tokens, align, header }) => {
    const tag = header ? "th" : "td";
    return `<${tag}${align ? ` align="${align}"` : ""}>${parser.parseInline(tokens)}</${tag}>`;
  };
  /** @param {import("marked").Tokens.TableCell[]} cells */
  const rowHtml = (cells) => `<tr>${cells.map(cellHtml).join("")}</tr>`;
  const body = rows.length > 0 ? `<tbody>${rows.map(rowHtml).join("")}</tbody>` : "";
  return `<table><thead>${rowHtml(header)}</thead>${body}</table>`;
}
