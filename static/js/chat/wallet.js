/**
 * The balance in the header. When an answer ends, the held piece is seen to shrink to the real price before it goes.
 *
 * @import { Amount, Balance } from "#lib/shapes.js"
 */
import { formatTaken, toMicrocredits } from "#lib/credits.js";
import { showWallet } from "#wallet.js";

const PRICE_SHOWN_MS = 1800;

export class Wallet extends EventTarget {
  #element;
  #balance;
  #settling = /** @type {ReturnType<typeof setTimeout> | undefined} */ (undefined);

  /**
   * @param {HTMLElement} element
   * @param {Balance} balance
   */
  constructor(element, balance) {
    super();
    this.#element = element;
    this.#balance = balance;
    this.show(balance);
  }

  /** Microcredits that can be spent. */
  get available() {
    return toMicrocredits(this.#balance.available);
  }

  /** Microcredits of answers that are being written. */
  get held() {
    return toMicrocredits(this.#balance.held);
  }

  /** @param {Balance} balance */
  show(balance) {
    this.#balance = { available: balance.available, held: balance.held };
    if (this.#settling === undefined) showWallet(this.#balance);
    this.dispatchEvent(new Event("change"));
  }

  /**
   * @param {Amount} charged
   * @param {Balance} balance
   */
  settle(charged, balance) {
    clearTimeout(this.#settling);
    const price = toMicrocredits(charged);
    showWallet({ available: balance.available, held: price > 0n ? charged : balance.held });
    const words = this.#element.querySelector('[data-wallet-text="held"]');
    const paid = formatTaken(price, toMicrocredits(balance.available));
    if (words && price > 0n) words.textContent = ` · ${paid} paid`;
    this.#element.classList.toggle("paid", price > 0n);
    this.#settling = setTimeout(() => {
      this.#settling = undefined;
      this.#element.classList.remove("paid");
      showWallet(this.#balance);
    }, PRICE_SHOWN_MS);
    this.show(balance);
  }
}
