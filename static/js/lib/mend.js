/**
 * Markdown that breaks off in mid-word, made to look as it most likely will when it goes on. Only for show while the
 * last block grows: what is settled is rendered from the text as it came.
 */

const FENCE = /^ {0,3}(`{3,}|~{3,})(.*)$/;
// A last line of nothing but marks could become a heading, a list, a rule or a fence: it waits for its next character.
const MARKS_ONLY = /(?:^|\n)[ \t]*(?:[-=*_+#>|~`$]+|\d{1,9}[.)]?|\\\[?|[-*+] \[[ xX]?\]?)[ \t]*$/;
const TABLE_HEAD = /(?:^|\n)([ \t]*\|[^\n]*)(?:\n([ \t:|-]*))?$/;
const START_OF_ITEM = /^[ \t]*(?:[-*+]|\d{1,9}[.)]|>|#{1,6})[ \t]/;

/**
 * @param {string} source the block that is still being written
 * @returns {string}
 */
export function mend(source) {
  const fence = openFence(source);
  if (fence !== null) return withoutPartialFence(source, fence);
  const lastLineClosesOne = openFence(source.slice(0, Math.max(0, source.lastIndexOf("\n")))) !== null;
  if (lastLineClosesOne) return source;
  const shown = withTableHead(source).replace(MARKS_ONLY, "");
  const start = startOfLastRun(shown);
  return shown.slice(0, start) + mendInline(shown.slice(start));
}

/**
 * The fence that is still open at the end, or null.
 * @param {string} source
 */
function openFence(source) {
  /** @type {string | null} */
  let open = null;
  for (const line of source.split("\n")) {
    // Fences may stand in list items and quotes.
    const match = FENCE.exec(line.replace(/^(?:[ \t]*(?:[-*+]|\d{1,9}[.)]|>)[ \t]+)+|^[ \t]+/, ""));
    if (!match) continue;
    const [, marks = "", info = ""] = match;
    if (open === null) {
      if (!(marks.startsWith("`") && info.includes("`"))) open = marks;
    } else if (marks.startsWith(open) && info.trim() === "") open = null;
  }
  return open;
}

/**
 * Code without the beginning of the fence that will close it.
 * @param {string} source
 * @param {string} fence
 */
function withoutPartialFence(source, fence) {
  const lastLine = source.slice(source.lastIndexOf("\n") + 1);
  if (!source.includes("\n")) return MARKS_ONLY.test(lastLine) ? "" : source;
  const mark = fence.charAt(0);
  return lastLine.trim() !== "" && lastLine.trim().split(mark).join("") === ""
    ? source.slice(0, -lastLine.length - 1)
    : source;
}

/**
 * A table as soon as its head stands, though the row of dashes is still coming.
 * @param {string} source
 */
function withTableHead(source) {
  const match = TABLE_HEAD.exec(source);
  if (!match) return source;
  const [whole, head = "", delimiter] = match;
  const before = source.slice(0, -whole.length);
  if (/(?:^|\n)[ \t]*\|[^\n]*$/.test(before)) return source; // a row of a table that has its head
  if (delimiter === undefined) return before;
  const columns = head
    .trim()
    .replace(/^\||\|$/g, "")
    .split(/(?<!\\)\|/).length;
  return `${before}\n${head}\n|${" --- |".repeat(columns)}`;
}

/**
 * Where the text begins that emphasis at the very end can belong to.
 * @param {string} source
 */
function startOfLastRun(source) {
  const lines = source.split("\n");
  let line = lines.length - 1;
  while (line > 0 && lines[line]?.trim() !== "" && !START_OF_ITEM.test(lines[line] ?? "")) line -= 1;
  const start = lines.slice(0, line).reduce((sum, { length }) => sum + length + 1, 0);
  const marker = START_OF_ITEM.exec(lines[line] ?? "")?.[0].length ?? 0;
  const lastCell = /^[ \t]*\|/.test(lines.at(-1) ?? "") ? source.lastIndexOf("|") + 1 : 0;
  return Math.max(start + marker, lastCell);
}

/**
 * Closes what is open: emphasis, code, links. Mathematics and tags wait until they are whole.
 * @param {string} text without block structure
 * @returns {string}
 */
function mendInline(text) {
  /** @type {string[]} */
  const open = [];
  let index = 0;
  while (index < text.length) {
    const rest = text.slice(index);
    const character = text.charAt(index);
    const before = text.charAt(index - 1);
    if (character === "\\") {
      const display = rest.startsWith("\\[");
      if (!display && !rest.startsWith("\\(")) index += 2;
      else {
        const end = rest.indexOf(display ? "\\]" : "\\)");
        if (end === -1) return closed(text.slice(0, index), open);
        index += end + 2;
      }
    } else if (character === "`") {
      const run = /^`+/.exec(rest)?.[0] ?? "";
      const end = rest.slice(run.length).search(new RegExp(`(?<!\`)${run}(?!\`)`));
      if (end === -1) return closed(rest === run ? text.slice(0, index) : `${text.replace(/`+$/, "")}${run}`, open);
      index += end + 2 * run.length;
    } else if (rest.startsWith("$$")) {
      const end = rest.indexOf("$$", 2);
      if (end === -1) return closed(text.slice(0, index), open);
      index += end + 2;
    } else if (character === "[" || rest.startsWith("![")) {
      const link = /^!?\[((?:\\.|[^\]\\])*)(?:\](?:\(([^)\s]*)(\)?))?)?/.exec(rest);
      const [whole = "", label = "", , end] = link ?? [];
      if (index + whole.length < text.length || end === ")") index += Math.max(1, end === ")" ? whole.length : 1);
      else if (character === "!") return closed(text.slice(0, index), open);
      else return closed(text.slice(0, index), open, mendInline(label));
    } else if (/[*_~]/.test(character)) {
      const run = /^(?:\*+|_+|~+)/.exec(rest)?.[0] ?? "";
      const after = rest.charAt(run.length);
      if (after === "") return closed(text.slice(0, index), open); // it may open, close or grow
      if (open.at(-1) === run && /\S/.test(before)) open.pop();
      else if (/\S/.test(after) && !/[\p{L}\p{N}]/u.test(before) && run.length <= 3) open.push(run);
      index += run.length;
    } else if (/^<\/?[a-z]{0,10} ?\/?$|^<https?:[^>\s]*$/i.test(rest) || rest === "!" || rest === "$") {
      return closed(text.slice(0, index), open);
    } else index += 1;
  }
  return closed(text, open);
}

/**
 * @param {string} text
 * @param {string[]} open marks in the order they were opened
 * @param {string} [label] words to be shown before the marks are closed
 */
function closed(text, open, label = "") {
  let content = text + label;
  const marks = [...open];
  // Marks around nothing would be shown as they are.
  for (let mark = marks.at(-1); mark !== undefined && content.endsWith(mark); mark = marks.at(-1)) {
    content = content.slice(0, -mark.length);
    marks.pop();
  }
  const space = /\s*$/.exec(content)?.[0] ?? "";
  return content.slice(0, content.length - space.length) + marks.reverse().join("") + space;
}
