/**
 * The server's JSON API, as the page uses it.
 *
 * @import { Balance, Conversation, Message, NewTurn, Page, TurnDetail } from "#lib/shapes.js"
 */

const ROOT = "/api/v1/";
/** Answers begin at once, also those that then stream for minutes: later than this, the connection is dead. */
const ANSWER_MS = 30_000;

/** The server's refusal: a stable `code`, and a sentence for the person as message. */
export class Refusal extends Error {
  /**
   * @param {number} status
   * @param {{ code?: string, detail?: string, available?: string, needed?: string, retry_after?: number }} problem
   * @param {number | null} retryAfter seconds
   */
  constructor(status, { code = "unexpected", detail = "", available, needed }, retryAfter) {
    super(detail);
    this.status = status;
    this.code = code;
    this.available = available;
    this.needed = needed;
    this.retryAfter = retryAfter;
  }
}

/**
 * @param {string} path below /api/v1/
 * @param {RequestInit} [options]
 * @returns {Promise<Response>} a response that is not a refusal
 */
async function request(path, { signal, headers, ...options } = {}) {
  const late = new AbortController();
  const timer = setTimeout(() => late.abort(new DOMException("no answer", "TimeoutError")), ANSWER_MS);
  try {
    const response = await fetch(ROOT + path, {
      ...options,
      headers: { ...(options.method ? { "X-CSRFToken": csrfToken() } : {}), ...headers },
      signal: signal ? AbortSignal.any([signal, late.signal]) : late.signal,
    });
    if (response.ok) return response;
    throw await refusal(response);
  } finally {
    clearTimeout(timer);
  }
}

/** @param {Response} response */
async function refusal(response) {
  const described = response.headers.get("Content-Type")?.startsWith("application/problem+json");
  const retryAfter = Number(response.headers.get("Retry-After") ?? NaN);
  return new Refusal(
    response.status,
    described ? await response.json() : {},
    Number.isFinite(retryAfter) ? retryAfter : null,
  );
}

/** The cookie is read each time: logging in from another tab changes it. */
function csrfToken() {
  return /(?:^|;\s*)csrftoken=([^;]*)/.exec(document.cookie)?.[1] ?? "";
}

/**
 * @param {string} method
 * @param {unknown} [body]
 * @returns {RequestInit}
 */
function sending(method, body) {
  if (body === undefined) return { method };
  return { method, body: JSON.stringify(body), headers: { "Content-Type": "application/json" } };
}

/** @param {Record<string, string | number | boolean | null | undefined>} values those without a value are left out */
function query(values) {
  const given = Object.entries(values).flatMap(([name, value]) =>
    value === null || value === undefined ? [] : [[name, String(value)]],
  );
  return given.length > 0 ? `?${new URLSearchParams(given)}` : "";
}

export const api = {
  /** @returns {Promise<Balance>} */
  async balance() {
    return (await (await request("me")).json()).balance;
  },
  /**
   * @param {{ q?: string, cursor?: string | null, archived?: boolean }} which
   * @param {AbortSignal} [signal]
   * @returns {Promise<Page<Conversation>>}
   */
  async conversations(which, signal) {
    return (await request(`conversations${query(which)}`, { signal: signal ?? null })).json();
  },
  /**
   * @param {string} id
   * @returns {Promise<Conversation>}
   */
  async conversation(id) {
    return (await request(`conversations/${id}`)).json();
  },
  /**
   * @param {string} id
   * @param {{ title?: string, pinned?: boolean, archived?: boolean, model?: string, instructions?: string,
   *   branch?: string }} changes
   * @returns {Promise<Conversation>}
   */
  async change(id, changes) {
    return (await request(`conversations/${id}`, sending("PATCH", changes))).json();
  },
  /** @param {string} id */
  async remove(id) {
    await request(`conversations/${id}`, sending("DELETE"));
  },
  /**
   * @param {string} id
   * @param {string | null} [before]
   * @returns {Promise<Page<Message>>}
   */
  async messages(id, before = null) {
    return (await request(`conversations/${id}/messages${query({ before })}`)).json();
  },
  /**
   * @param {string} id
   * @returns {Promise<TurnDetail>}
   */
  async turn(id) {
    return (await request(`turns/${id}`)).json();
  },
  /** @param {string} id */
  async stop(id) {
    await request(`turns/${id}/stop`, sending("POST"));
  },
  /**
   * Begins a turn, or joins the one of the same id.
   * @param {NewTurn} turn
   * @param {AbortSignal} signal breaks the stream too
   * @returns {Promise<Response>} whose body is the stream of its events
   */
  begin(turn, signal) {
    return request("turns", { ...sending("POST", turn), signal });
  },
  /**
   * The events of a turn behind `after`, or all of them.
   * @param {string} id
   * @param {string | null} after
   * @param {AbortSignal} signal breaks the stream too
   */
  follow(id, after, signal) {
    return request(`turns/${id}/events${query({ after })}`, { signal });
  },
};
