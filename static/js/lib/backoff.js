/** How long to wait before trying again. */

const FIRST_MS = 400;
const LONGEST_MS = 15_000;

/**
 * Doubles with each attempt up to a limit; half of it is chance, so that a crowd that was cut off together does not
 * come back together.
 * @param {number} attempt 0 for the first try after a failure
 * @param {() => number} [random] in [0, 1)
 * @returns {number} milliseconds
 */
export function backoffDelay(attempt, random = Math.random) {
  const limit = Math.min(LONGEST_MS, FIRST_MS * 2 ** attempt);
  return limit / 2 + (limit / 2) * random();
}
