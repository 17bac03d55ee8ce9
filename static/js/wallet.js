// Draws a balance into every wallet of the page (templates/parts/wallet.html).

/** @typedef {{available: string, held: string}} Balance Credits as decimal strings with six places. */

const BAR_WIDTH = 84;

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
 * Credits for people: two places, rounded towards less so that a balance never reads higher than it is.
 * @param {string} credits
 */
export function inWords(credits) {
  return (Math.floor(Number(credits) * 100 + 1e-6) / 100).toLocaleString("en", {
    minimumFractionDigits: 2,
    maximumFractionDigits: 2,
  });
}

/**
 * Widths of the two pieces of the bar, each at least visible when there is anything to see.
 * @param {number} available
 * @param {number} held
 * @param {number} full
 */
export function pieces(available, held, full) {
  const share = (/** @type {number} */ part) =>
    part > 0 ? Math.min(Math.max((part / full) * BAR_WIDTH, 2), BAR_WIDTH) : 0;
  const yours = share(available);
  return { available: yours, held: Math.min(share(held), BAR_WIDTH - yours) };
}

/**
 * @param {HTMLElement} wallet
 * @param {Balance} balance
 */
function draw(wallet, balance) {
  const available = Number(balance.available);
  const held = Number(balance.held);
  // A top-up raises what the whole bar stands for; spending does not lower it.
  const full = Math.max(Number(wallet.dataset.full), available + held, 1e-6);
  Object.assign(wallet.dataset, { available: balance.available, held: balance.held, full: String(full) });

  const widths = pieces(available, held, full);
  wallet.querySelector('[data-wallet-bar="available"]')?.setAttribute("width", String(widths.available));
  const hatch = wallet.querySelector('[data-wallet-bar="held"]');
  hatch?.setAttribute("x", String(widths.available));
  hatch?.setAttribute("width", String(widths.held));

  const words = wallet.querySelector('[data-wallet-text="available"]');
  if (words) words.textContent = inWords(balance.available);
  const aside = /** @type {HTMLElement | null} */ (wallet.querySelector('[data-wallet-text="held"]'));
  if (aside) {
    aside.textContent = ` · ${inWords(balance.held)} held`;
    aside.hidden = held === 0;
  }
}
