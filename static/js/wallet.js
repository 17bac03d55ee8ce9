/**
 * Draws a balance into every wallet of the page (templates/parts/wallet.html).
 *
 * @import { Balance } from "#lib/shapes.js"
 */
import { formatCredits, toAmount, toMicrocredits } from "#lib/credits.js";

const BAR_WIDTH = 84;
/** Anything at all is seen: a hold of a thousandth would otherwise be less than a pixel. */
const LEAST_WIDTH = 2;

/**
 * Show `balance` in all wallets below `root`: the bar, the words and the data attributes.
 * @param {Balance} balance
 * @param {ParentNode} [root]
 */
export function showWallet(balance, root = document) {
  for (const wallet of /** @type {NodeListOf<HTMLElement>} */ (root.querySelectorAll("[data-wallet]"))) {
    draw(wallet, balance);
  }
}

/**
 * Widths of the bar's two pieces, in microcredits out of `full`.
 * @param {bigint} available
 * @param {bigint} held
 * @param {bigint} full
 */
export function pieces(available, held, full) {
  const share = (/** @type {bigint} */ part) =>
    part > 0n ? Math.min(Math.max((Number(part) / Number(full)) * BAR_WIDTH, LEAST_WIDTH), BAR_WIDTH) : 0;
  const yours = share(available);
  return { available: yours, held: Math.min(share(held), BAR_WIDTH - yours) };
}

/**
 * @param {HTMLElement} wallet
 * @param {Balance} balance
 */
function draw(wallet, balance) {
  const available = toMicrocredits(balance.available);
  const held = toMicrocredits(balance.held);
  // A top-up raises what the whole bar stands for; spending does not lower it.
  const before = toMicrocredits(wallet.dataset.full ?? "0");
  const full = available + held > before ? available + held : before;
  wallet.dataset.available = balance.available;
  wallet.dataset.held = balance.held;
  if (full > before) wallet.dataset.full = toAmount(full);

  const widths = pieces(available, held, full);
  wallet.querySelector('[data-wallet-bar="available"]')?.setAttribute("width", String(widths.available));
  const hatch = wallet.querySelector('[data-wallet-bar="held"]');
  hatch?.setAttribute("x", String(widths.available));
  hatch?.setAttribute("width", String(widths.held));

  const words = wallet.querySelector('[data-wallet-text="available"]');
  if (words) words.textContent = formatCredits(available, "down");
  const aside = /** @type {HTMLElement | null} */ (wallet.querySelector('[data-wallet-text="held"]'));
  if (aside) {
    aside.textContent = ` · ${formatCredits(held, "up")} held`;
    aside.hidden = held === 0n;
  }
}
