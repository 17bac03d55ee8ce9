/**
 * The sidebar's groups.
 *
 * @import { Conversation } from "#lib/shapes.js"
 */

/** @typedef {{ name: string, conversations: Conversation[] }} Group */

/**
 * Pinned first, then by the reader's own calendar days; the newest first in each. Empty groups are left out.
 * @param {Iterable<Conversation>} conversations
 * @param {Date} now
 * @returns {Group[]}
 */
export function groupConversations(conversations, now) {
  /** @type {Map<string, Conversation[]>} */
  const groups = new Map(["Pinned", "Today", "Yesterday", "Last 7 days", "Older"].map((name) => [name, []]));
  for (const conversation of [...conversations].sort(newestFirst)) {
    const name = conversation.pinned ? "Pinned" : dayName(new Date(conversation.updated_at), now);
    groups.get(name)?.push(conversation);
  }
  return [...groups]
    .filter(([, members]) => members.length > 0)
    .map(([name, members]) => ({ name, conversations: members }));
}

/**
 * @param {Conversation} a
 * @param {Conversation} b
 */
function newestFirst(a, b) {
  return Date.parse(b.updated_at) - Date.parse(a.updated_at);
}

/**
 * @param {Date} then
 * @param {Date} now
 */
function dayName(then, now) {
  if (then >= startOfDay(now, 0)) return "Today";
  if (then >= startOfDay(now, 1)) return "Yesterday";
  return then >= startOfDay(now, 7) ? "Last 7 days" : "Older";
}

/**
 * Midnight, some days ago. Through the calendar, since a day of the clock change has 23 or 25 hours.
 * @param {Date} now
 * @param {number} daysAgo
 */
function startOfDay(now, daysAgo) {
  return new Date(now.getFullYear(), now.getMonth(), now.getDate() - daysAgo);
}
