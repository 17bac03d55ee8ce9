/**
 * What went wrong, in plain words, and what the person can do about it.
 *
 * @import { Turn } from "#lib/shapes.js"
 */
import { formatCredits, toMicrocredits } from "#lib/credits.js";
import { grouped } from "#lib/words.js";

/**
 * @typedef {"retry" | "reconnect" | "top_up" | "log_in" | "new_chat" | "reload"} Remedy
 * @typedef {{ title: string, text: string, remedy: Remedy | null, tone: "bad" | "held" | "plain" }} Explanation
 * @typedef {{ code: string, message?: string, available?: string, needed?: string }} Trouble
 */

/** @type {Record<string, Omit<Explanation, "tone">>} */
const REFUSALS = {
  invalid: { title: "This message cannot be sent", text: "", remedy: null },
  not_signed_in: {
    title: "You are signed out",
    text: "What you wrote is kept here. Log in to go on.",
    remedy: "log_in",
  },
  forbidden: {
    title: "This page is out of date",
    text: "What you wrote is kept. Reload the page and send it again.",
    remedy: "reload",
  },
  not_found: {
    title: "This conversation is gone",
    text: "It was deleted, perhaps in another tab. Your message is kept.",
    remedy: "new_chat",
  },
  turn_running: {
    title: "An answer is still being written here",
    text: "Wait for its end or stop it, then send again.",
    remedy: null,
  },
  turn_conflict: { title: "This message was changed after it was sent", text: "Send it again.", remedy: "retry" },
  too_large: { title: "This message is too long", text: "", remedy: null },
  rate_limited: { title: "That was a lot at once", text: "", remedy: "retry" },
  unavailable: { title: "That did not go through", text: "", remedy: "retry" },
  offline: {
    title: "You are offline",
    text: "Your message is kept. It can be sent once you are connected again.",
    remedy: "retry",
  },
  unreachable: {
    title: "The server cannot be reached",
    text: "Your message is kept. Try again in a moment.",
    remedy: "retry",
  },
  unexpected: {
    title: "Something went wrong on our side",
    text: "Your message is kept. Try again in a moment.",
    remedy: "retry",
  },
};

/** @type {Record<string, Omit<Explanation, "tone">>} */
const FAILURES = {
  rate_limited: { title: "The model is taking too many requests", text: "You were not charged.", remedy: "retry" },
  overloaded: {
    title: "The model is overloaded",
    text: "You were not charged. A moment later it usually works.",
    remedy: "retry",
  },
  context_too_long: {
    title: "This message is longer than the model can read",
    text: "You were not charged. Shorten it, send it in parts, or choose a model with a larger context.",
    remedy: null,
  },
  provider_rejected: {
    title: "The model did not accept this message",
    text: "You were not charged. Sending it again will not help; try to put it differently.",
    remedy: null,
  },
  provider_unavailable: {
    title: "The model cannot be reached",
    text: "You were not charged. Try again in a moment.",
    remedy: "retry",
  },
  provider_cut: { title: "The answer broke off", text: "What arrived is kept. You were not charged.", remedy: "retry" },
  refused: {
    title: "The model declined to answer",
    text: "You were not charged. Try to ask differently.",
    remedy: null,
  },
  interrupted: {
    title: "The answer was interrupted on our side",
    text: "What arrived is kept. You were not charged.",
    remedy: "retry",
  },
  connection_lost: {
    title: "The connection is lost",
    text: "The answer may have gone on without this page.",
    remedy: "reconnect",
  },
};

/**
 * What the loss of the network means.
 * @param {number} patienceSeconds how long the server goes on with an answer that nobody reads
 */
export function offlineWords(patienceSeconds) {
  const seconds = `${patienceSeconds} ${patienceSeconds === 1 ? "second" : "seconds"}`;
  const fate = patienceSeconds > 0 ? `goes on if you are back within ${seconds}` : "ends now";
  return `You are offline. What you write is kept. An answer that is being written ${fate}.`;
}

/**
 * A request that was refused before anything began.
 * @param {Trouble} trouble
 * @returns {Explanation}
 */
export function explainRefusal({ code, message = "", available, needed }) {
  if (code === "insufficient_credits") return outOfCredits(available, needed);
  const known = REFUSALS[code];
  const explanation = /** @type {Omit<Explanation, "tone">} */ (known ?? REFUSALS.unexpected);
  // An unknown code still comes with a sentence for the person.
  const said = known ? explanation.text || message : message || explanation.text;
  // The server knows the limit.
  const text = code === "too_large" ? `${said} Shorten it, or send it in parts.`.trimStart() : said;
  return { ...explanation, text, tone: "bad" };
}

/**
 * How a turn that did not complete ended, or null when there is nothing to say about it.
 * @param {Turn} turn
 * @returns {Explanation | null}
 */
export function explainTurn(turn) {
  if (turn.state === "stopped") return { title: "You stopped this answer", text: "", remedy: "retry", tone: "plain" };
  if (turn.state === "abandoned") {
    return {
      title: "This answer was not finished",
      text: "No page was connected to it any more, so it was ended.",
      remedy: "retry",
      tone: "plain",
    };
  }
  if (turn.state === "failed" || turn.state === "interrupted") {
    const code = turn.error?.code ?? turn.state;
    const known = FAILURES[code] ?? {
      title: "The answer failed",
      text: turn.error?.message ?? "You were not charged.",
      remedy: turn.error?.retryable === false ? null : /** @type {const} */ ("retry"),
    };
    return { ...known, tone: "bad" };
  }
  return turn.state === "completed" ? explainShortness(turn) : null;
}

/**
 * A complete turn whose answer is not.
 * @param {Turn} turn
 * @returns {Explanation | null}
 */
function explainShortness(turn) {
  if (turn.stop_reason === "max_tokens" && turn.limited_by_balance) {
    const tokens = grouped(turn.usage?.output_tokens ?? 0);
    return { title: `Shortened: your balance allowed ${tokens} tokens`, text: "", remedy: "top_up", tone: "held" };
  }
  if (turn.stop_reason === "max_tokens") {
    return {
      title: "This answer reached the longest length",
      text: "Ask to go on for the rest.",
      remedy: null,
      tone: "plain",
    };
  }
  if (turn.stop_reason === "model_context_window_exceeded") {
    return {
      title: "Cut off: the conversation has filled what the model can read",
      text: "Ask to go on for the rest.",
      remedy: null,
      tone: "plain",
    };
  }
  return null;
}

/**
 * @param {string | undefined} available
 * @param {string | undefined} needed
 * @param {string | undefined} [cheaper] the name of a model that could still answer
 * @returns {Explanation}
 */
export function outOfCredits(available, needed, cheaper) {
  const lack =
    available !== undefined && needed !== undefined
      ? `This message needs at least ${formatCredits(toMicrocredits(needed), "up")} credits; ` +
        `you have ${formatCredits(toMicrocredits(available), "down")}.`
      : "Your balance is too small for this message.";
  const text = cheaper ? `${lack} ${cheaper} could still answer it.` : lack;
  return { title: "Not enough credits", text, remedy: "top_up", tone: "held" };
}
