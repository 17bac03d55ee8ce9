/**
 * What an answer used and cost, in the line below it.
 *
 * @import { Turn } from "#lib/shapes.js"
 */
import { formatCredits, toMicrocredits } from "#lib/credits.js";
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
  const price = part(root, "price");
  const failed = turn?.error != null;
  showText(price, charged === null || failed ? "" : priceWords(charged, turn?.estimated ?? false));
  if (turn?.charged) price.title = `${turn.charged} credits`;
  const first = turn?.first_token_ms;
  showText(part(root, "first"), live || first == null ? "" : `first word ${duration(first)}`);
}

/**
 * @param {bigint} charged
 * @param {boolean} estimated
 */
function priceWords(charged, estimated) {
  if (charged === 0n) return "not charged";
  return estimated ? `≈ ${formatCredits(charged)} credits estimated` : `${formatCredits(charged)} credits`;
}
