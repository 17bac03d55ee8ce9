/**
 * Keeps the balance on the billing page true while it is open, and says when the statement below is older than it.
 */
import { toMicrocredits } from "#lib/credits.js";
import { listen } from "#chat/socket.js";
import { showWallet } from "#wallet.js";

const shown = /** @type {HTMLElement | null} */ (document.querySelector("[data-wallet]"));
const moved = /** @type {HTMLElement | null} */ (document.querySelector("[data-moved]"));
// A hold moves nothing: what was there when the page was made is the sum of both.
const before = shown && sum(shown.dataset.available, shown.dataset.held);

void listen({
  onNotice: (notice) => {
    if (notice.type !== "balance") return;
    showWallet(notice);
    if (moved) moved.hidden = sum(notice.available, notice.held) === before;
  },
  // The socket begins with the balance of the moment, after a gap too.
  onReturn: () => {},
  onSignedOut: () => location.reload(),
});

/**
 * @param {string | undefined} available
 * @param {string | undefined} held
 */
function sum(available = "0", held = "0") {
  return toMicrocredits(available) + toMicrocredits(held);
}
