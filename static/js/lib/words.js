/** Numbers and times as they are said to people. */

const GROUPED = new Intl.NumberFormat("en");

/** @param {number} count such as 1204, to "1,204" */
export function grouped(count) {
  return GROUPED.format(count);
}

/**
 * A duration: "0.4 s", "12 s", "1 min 5 s".
 * @param {number} milliseconds
 */
export function duration(milliseconds) {
  const seconds = milliseconds / 1000;
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  return whole < 60 ? `${whole} s` : `${Math.floor(whole / 60)} min ${whole % 60} s`;
}

/**
 * A duration in whole seconds, at least one: "3 s".
 * @param {number} milliseconds
 */
export function wholeSeconds(milliseconds) {
  const seconds = Math.max(1, Math.round(milliseconds / 1000));
  return seconds < 60 ? `${seconds} s` : `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
}
