/**
 * What the next message can cost at most, computed as the server computes the hold: before sending, in the browser.
 *
 * @import { Message, Model, Pricing } from "#lib/shapes.js"
 */
import { parseDecimal, toMicrocredits } from "#lib/credits.js";

/** A turn that cannot afford this much of an answer is refused. */
export const SHORTEST_ANSWER_TOKENS = 256;

/** What the server says to the model before the conversation, rounded up, and what roles cost in each message. */
const HOUSE_TOKENS = 512;
/** What introduces instructions of the person's own, rounded up. */
const INTRODUCTION_TOKENS = 160;
/** What introduces a summary, rounded up. */
const SUMMARY_TOKENS = 320;
const TOKENS_PER_MESSAGE = 16;

/** Prices are compared and multiplied at this many places: finer than any price can be. */
const PLACES = 12;

/**
 * Microcredits, rounded up once. Credits per million tokens are microcredits per token, so no factor is needed.
 * A prompt bound above the tier may still turn out smaller: the dearer side counts, as does the dearer of the model and
 * of who answers in its stead.
 * @param {Model} model
 * @param {number} promptTokens an upper bound; a token is at least one byte of UTF-8
 * @param {number} [answerTokens]
 * @returns {bigint}
 */
export function worstCase(model, promptTokens, answerTokens = model.answer_tokens) {
  const own = worstAt(model, promptTokens, answerTokens);
  const other = model.fallback ? worstAt(model.fallback, promptTokens, answerTokens) : 0n;
  return other > own ? other : own;
}

/**
 * @param {Pricing} pricing
 * @param {number} promptTokens
 * @param {number} answerTokens
 */
function worstAt({ prices, tier, flat_fee }, promptTokens, answerTokens) {
  const sides = [prices];
  if (tier && promptTokens > tier.above_tokens) sides.push(tier.prices);
  const prompt = dearest(sides.flatMap((side) => [side.input, side.cache_write_5m, side.cache_read]));
  const output = dearest(sides.map((side) => side.output));
  const exact = BigInt(promptTokens) * prompt + BigInt(answerTokens) * output;
  const unit = 10n ** BigInt(PLACES);
  return (exact + unit - 1n) / unit + toMicrocredits(flat_fee);
}

/**
 * What the next message needs of a balance.
 * @param {Model} model
 * @param {number} promptTokens
 * @param {bigint} available microcredits
 * @param {bigint} [held] microcredits held for answers that are being written
 * @returns {{ most: bigint, least: bigint, verdict: "enough" | "limited" | "held" | "short" }} `most` buys the longest
 *   answer, `least` the shortest that is sold; "limited" means an answer that may end early, "held" that what is held
 *   may be enough once it is free again
 */
export function affordability(model, promptTokens, available, held = 0n) {
  const most = worstCase(model, promptTokens);
  const least = worstCase(model, promptTokens, Math.min(SHORTEST_ANSWER_TOKENS, model.answer_tokens));
  if (available >= least) return { most, least, verdict: available >= most ? "enough" : "limited" };
  return { most, least, verdict: available + held >= least ? "held" : "short" };
}

/**
 * More tokens than the prompt can have that ends with `text`. What stands above the last mark is not sent, but something
 * in its stead; without a mark, above the messages on the page stands what the oldest answer among them was told to have
 * read.
 * @param {Message[]} messages the end of the shown branch
 * @param {boolean} complete whether nothing stands above them
 * @param {string} text
 * @param {string[]} [instructions] the person's and the conversation's, perhaps empty
 * @returns {number}
 */
export function promptBound(messages, complete, text, instructions = []) {
  const marked = messages.findLastIndex(({ mark }) => mark !== null);
  const oldest = complete || marked !== -1 ? -1 : messages.findIndex(({ turn }) => turn?.usage);
  const usage = messages[oldest]?.turn?.usage;
  const read = usage
    ? usage.input_tokens + usage.cache_read_input_tokens + usage.cache_creation_input_tokens
    : HOUSE_TOKENS + (messages[marked]?.mark?.bytes ?? 0) + (marked === -1 ? 0 : SUMMARY_TOKENS);
  // They may have been written since anything was read.
  const told = instructions.filter((words) => words !== "");
  const instructed = told.reduce((sum, words) => sum + utf8Bytes(words) + INTRODUCTION_TOKENS, 0);
  const said = messages.slice(Math.max(0, oldest, marked + 1)).map((message) => message.text);
  return [...said, text].reduce((sum, words) => sum + utf8Bytes(words) + TOKENS_PER_MESSAGE, read + instructed);
}

const encoder = new TextEncoder();

/** @param {string} text */
function utf8Bytes(text) {
  return encoder.encode(text).length;
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
