import assert from "node:assert/strict";
import { test } from "node:test";

process.env.TZ = "Europe/Berlin";
const { groupConversations } = await import("#lib/grouping.js");

/**
 * @param {string} title
 * @param {string} updated
 * @param {boolean} [pinned]
 */
function chat(title, updated, pinned = false) {
  const fixed = { archived: false, model: null, created_at: updated, running_turn: null };
  return { id: title, title, updated_at: updated, pinned, ...fixed };
}

/**
 * @param {ReturnType<typeof chat>[]} chats
 * @param {string} now
 */
function names(chats, now) {
  const groups = groupConversations(chats, new Date(now));
  return Object.fromEntries(groups.map(({ name, conversations }) => [name, conversations.map(({ title }) => title)]));
}

test("pinned ones come first, then the reader's own days, each with the newest first", () => {
  const chats = [
    chat("last year", "2025-11-20T12:00:00Z"),
    chat("just after midnight", "2026-11-19T23:01:00Z"),
    chat("now", "2026-11-20T11:59:00Z"),
    chat("just before midnight", "2026-11-19T22:59:00Z"),
    chat("six days ago", "2026-11-14T12:00:00Z"),
    chat("seven days ago", "2026-11-13T12:00:00Z"),
    chat("eight days ago", "2026-11-12T12:00:00Z"),
    chat("old but pinned", "2024-01-01T12:00:00Z", true),
    chat("pinned", "2026-11-20T09:00:00Z", true),
  ];
  assert.deepEqual(names(chats, "2026-11-20T12:00:00Z"), {
    Pinned: ["pinned", "old but pinned"],
    Today: ["now", "just after midnight"],
    Yesterday: ["just before midnight"],
    "Last 7 days": ["six days ago", "seven days ago"],
    Older: ["eight days ago", "last year"],
  });
});

test("a group without chats is left out", () => {
  assert.deepEqual(Object.keys(names([chat("now", "2026-11-20T11:00:00Z")], "2026-11-20T12:00:00Z")), ["Today"]);
  assert.deepEqual(groupConversations([], new Date()), []);
});

test("the day of the clock change has 25 hours, and yesterday is still yesterday", () => {
  // 2026-10-25 in Berlin lasts from 22:00Z on the 24th to 23:00Z on the 25th.
  assert.deepEqual(names([chat("early", "2026-10-24T22:30:00Z")], "2026-10-26T08:00:00Z"), { Yesterday: ["early"] });
});

test("a clock ahead of ours makes nothing older", () => {
  assert.deepEqual(names([chat("soon", "2026-11-20T12:03:00Z")], "2026-11-20T12:00:00Z"), { Today: ["soon"] });
});
