/** What is going on in an answer while there are no new words. */

/** A word that takes longer than this deserves to be told about. */
export const PATIENCE_MS = 8_000;

/**
 * @typedef {Object} Going A turn that is being answered, as LiveTurn knows it.
 * @property {object | null} started
 * @property {boolean} connected
 * @property {boolean} stopping
 * @property {string} text
 * @property {string} thinking
 * @property {number} age milliseconds
 * @property {number} quiet milliseconds; without end from a broken connection to the next word
 */

/**
 * The words for it, empty while words come by themselves. `blank`: the first may come any moment. `lost`: the
 * connection has broken, and nothing has come since.
 * @param {Going} going
 * @returns {{ words: string, tone: "" | "blank" | "lost" }}
 */
export function progressOf({ started, connected, stopping, text, thinking, age, quiet }) {
  if (!connected && started) return { words: "Connection lost. Trying again…", tone: "lost" };
  if (!connected) return { words: "Sending…", tone: "" };
  if (stopping) return { words: "Stopping…", tone: "" };
  if (quiet === Infinity && started) {
    return { words: "Connected again. Waiting for the rest of the answer…", tone: "lost" };
  }
  if (text === "" && thinking === "") {
    return age < PATIENCE_MS ? { words: "", tone: "blank" } : { words: "Claude is taking its time…", tone: "" };
  }
  return { words: quiet < PATIENCE_MS ? "" : "Waiting for the rest of the answer…", tone: "" };
}
