/**
 * Exact amounts. Credits travel as decimal strings and are counted here in whole microcredits (BigInt);
 * floating point never touches money.
 */

const MICROCREDITS = 1_000_000n;

/**
 * A decimal number as `units` / 10^`places`.
 * @param {string} decimal such as "12.340000"
 * @returns {{ units: bigint, places: number }}
 */
export function parseDecimal(decimal) {
  const match = /^(-?)(\d+)(?:\.(\d*))?$/.exec(decimal);
  if (!match) throw new RangeError(`not a decimal number: ${decimal}`);
  const [, sign, whole = "", fraction = ""] = match;
  const units = BigInt(whole + fraction);
  return { units: sign ? -units : units, places: fraction.length };
}

/**
 * Whole microcredits of an amount of the API. RangeError when it is finer than a microcredit.
 * @param {string} amount
 * @returns {bigint}
 */
export function toMicrocredits(amount) {
  const { units, places } = parseDecimal(amount);
  if (places <= 6) return units * 10n ** BigInt(6 - places);
  const divisor = 10n ** BigInt(places - 6);
  if (units % divisor !== 0n) throw new RangeError(`${amount} credits is finer than a microcredit`);
  return units / divisor;
}

/**
 * The form of every amount in the API: "12.340000".
 * @param {bigint} microcredits
 */
export function toAmount(microcredits) {
  const digits = String(microcredits < 0n ? -microcredits : microcredits).padStart(7, "0");
  return `${microcredits < 0n ? "-" : ""}${digits.slice(0, -6)}.${digits.slice(-6)}`;
}

/**
 * Credits as people read them: two places, or two significant digits below a tenth of a credit.
 * A limit rounds up, so that it is never broken; a balance rounds down, so that it is never overstated. What has left
 * one is told by `formatTaken`.
 * @param {bigint} microcredits
 * @param {"nearest" | "up" | "down"} [rounding]
 * @returns {string} such as "1,204.50", "0.42" or "0.0031"
 */
export function formatCredits(microcredits, rounding = "nearest") {
  const size = microcredits < 0n ? -microcredits : microcredits;
  let places = 2;
  if (size > 0n && size < MICROCREDITS / 10n) {
    // 0.0999 has its first digit in the second place: two digits end in the third.
    places = Math.min(6, 6 - String(size).length + 2);
  }
  const step = 10n ** BigInt(6 - places);
  const rounded = roundTo(microcredits, step, rounding);
  const digits = String(rounded < 0n ? -rounded : rounded).padStart(places + 1, "0");
  const whole = digits.slice(0, -places).replace(/\B(?=(\d{3})+$)/g, ",");
  const fraction = digits.slice(-places).replace(/(?<=\d{2})0+$/, "");
  return `${rounded < 0n ? "−" : ""}${whole}.${fraction}`;
}

/**
 * What has been taken from a balance, as the difference of the balances that are shown before and after, so that they
 * add up; what is less than a tenth of a credit is told by its digits.
 * @param {bigint} taken microcredits, not negative
 * @param {bigint} left microcredits
 */
export function formatTaken(taken, left) {
  if (taken < MICROCREDITS / 10n) return formatCredits(taken, "up");
  const cents = (/** @type {bigint} */ balance) => roundTo(balance, MICROCREDITS / 100n, "down");
  return formatCredits((cents(left + taken) - cents(left)) * (MICROCREDITS / 100n));
}

/**
 * An amount to its last microcredit, as the statement writes it: two places, and the four that follow, if they say
 * anything.
 * @param {bigint} microcredits not negative
 * @returns {{ cents: string, rest: string }} such as "1,204.56" and "0300", or ""
 */
export function figure(microcredits) {
  const [whole = "", fraction = ""] = toAmount(microcredits).split(".");
  const rest = fraction.slice(2);
  return {
    cents: `${whole.replace(/\B(?=(\d{3})+$)/g, ",")}.${fraction.slice(0, 2)}`,
    rest: rest === "0000" ? "" : rest,
  };
}

/**
 * How many steps of `step` make up `value`.
 * @param {bigint} value
 * @param {bigint} step
 * @param {"nearest" | "up" | "down"} rounding
 */
function roundTo(value, step, rounding) {
  const floor = value / step - (value % step < 0n ? 1n : 0n);
  const rest = value - floor * step;
  if (rest === 0n || rounding === "down") return floor;
  return rounding === "up" || rest * 2n >= step ? floor + 1n : floor;
}
