/** What has been written and not sent, kept per conversation in this tab: through reloads and logging in again. */

/** @param {string | null} conversation null for a new one */
function key(conversation) {
  return `draft:${conversation ?? "new"}`;
}

export const drafts = {
  /** @param {string | null} conversation */
  of(conversation) {
    return sessionStorage.getItem(key(conversation)) ?? "";
  },
  /**
   * @param {string | null} conversation
   * @param {string} text
   */
  keep(conversation, text) {
    if (text) sessionStorage.setItem(key(conversation), text);
    else sessionStorage.removeItem(key(conversation));
  },
};
