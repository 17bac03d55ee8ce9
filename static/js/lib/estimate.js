/**
 * What the next message can cost at most, computed as the server computes the hold: before sending, in the browser.
 *
 * @import { Model } from "#lib/shapes.js"
 */
import { parseDecimal, toMicrocredits } from "#lib/credits.js";

/** A turn that cannot afford this much of an answer is refused. */
export const SHORTEST_ANSWER_TOKENS = 256;

/** Prices are compared and multiplied at this many places: finer than any price can be. */
const PLACES = 12;

/**
 * Microcredits, rounded up once. Credits per million tokens are microcredits per token, so no factor is needed.
 * A prompt bound above the tier may still turn out smaller: the dearer side counts.
 * @param {Model} model
 * @param {number} promptTokens an upper bound; a token is at least one byte of UTF-8
 * @param {number} [answerTokens]
 * @returns {bigint}
 */
export function worstCase(model, promptTokens, answerTokens = model.answer_tokens) {
  const sides = [model.prices];
  if (model.tier && promptTokens > model.tier.above_tokens) sides.push(model.tier.prices);
  const prompt = dearest(sides.flatMap((side) => [side.input, side.cache_write_5m, side.cache_read]));
  const output = dearest(sides.map((side) => side.output));
  const exact = BigInt(promptTokens) * prompt + BigInt(answerTokens) * output;
  const unit = 10n ** BigInt(PLACES);
  return (exact + unit - 1n) / unit + toMicrocredits(model.flat_fee);
}

/**
 * What the next message needs of a balance.
 * @param {Model} model
 * @param {number} promptTokens
 * @param {bigint} available microcredits
 * @returns {{ most: bigint, least: bigint, verdict: "enough" | "limited" | "short" }} `most` buys the longest answer,
 *   `least` the shortest that is sold; "limited" means an answer that may end early
 */
export function affordability(model, promptTokens, available) {
  const most = worstCase(model, promptTokens);
  const least = worstCase(model, promptTokens, Math.min(SHORTEST_ANSWER_TOKENS, model.answer_tokens));
  return { most, least, verdict: available >= most ? "enough" : available >= least ? "limited" : "short" };
}

/**
 * @param {string} text
 * @returns {number}
 */
export function utf8Bytes(text) {
  return new TextEncoder().encode(text).length;
}

/** @param {string[]} prices */
function dearest(prices) {
  return prices.map(atScale).reduce((most, price) => (price > most ? price : most));
}

/** @param {string} price */
function atScale(price) {
  const { units, places } = parseDecimal(price);
  if (places > PLACES) throw new RangeError(`a price with more than ${PLACES} places: ${price}`);
  return units * 10n ** BigInt(PLACES - places);
}
