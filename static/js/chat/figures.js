/**
 * What an answer used and cost, in the line below it.
 *
 * @import { Turn } from "#lib/shapes.js"
 */
import { figure, toMicrocredits } from "#lib/credits.js";
import { duration, grouped } from "#lib/words.js";
import { part, showText } from "#chat/pieces.js";

/**
 * @param {HTMLElement} root
 * @param {Turn | null} turn
 * @param {boolean} live
 */
export function showFigures(root, turn, live) {
  const usage = live ? null : turn?.usage;
  const charged = live || turn?.charged == null ? null : toMicrocredits(turn.charged);
  const model = part(root, "model");
  showText(model, turn?.served_by_name ?? turn?.model_name ?? "");
  if (turn?.served_by && turn.served_by !== turn.model) model.title = `${turn.model_name} could not begin`;
  const read = usage ? usage.input_tokens + usage.cache_read_input_tokens + usage.cache_creation_input_tokens : 0;
  const tokens = part(root, "tokens");
  showText(
    tokens,
    usage && read + usage.output_tokens > 0 ? `${grouped(read)} in · ${grouped(usage.output_tokens)} out` : "",
  );
  const cached = usage?.cache_read_input_tokens;
  if (cached) tokens.title = `${grouped(cached)} of them read from the cache`;
  showPrice(part(root, "price"), turn?.error == null ? charged : null, turn?.estimated ?? false);
  const first = turn?.first_token_ms;
  const firstWord = part(root, "first");
  showText(firstWord, live || first == null ? "" : `first word ${duration(first)}`);
  firstWord.title = "How long the model took to its first word, counted on the server";
}

/**
 * The same digits as on the statement.
 * @param {HTMLElement} element
 * @param {bigint | null} charged
 * @param {boolean} estimated
 */
function showPrice(element, charged, estimated) {
  if (!charged) return showText(element, charged === null ? "" : "not charged");
  const { cents, rest } = figure(charged);
  const finer = document.createElement("small");
  finer.textContent = rest;
  element.replaceChildren(estimated ? `≈ ${cents}` : cents, finer, estimated ? " credits estimated" : " credits");
  element.hidden = false;
}
