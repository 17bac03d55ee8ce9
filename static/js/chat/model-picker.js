/**
 * Choosing who answers, with what it costs.
 *
 * Dispatches `change` when the person has chosen.
 *
 * @import { Model } from "#lib/shapes.js"
 */
import { formatCredits, toMicrocredits } from "#lib/credits.js";
import { driveMenu } from "#chat/menu.js";
import { part, piece } from "#chat/pieces.js";

const REMEMBERED = "model";

export class ModelPicker extends EventTarget {
  #button;
  #list;
  #chosen;

  /**
   * @param {HTMLElement} root
   * @param {Model[]} models
   */
  constructor(root, models) {
    super();
    this.#button = part(root, "pick");
    this.#list = part(root, "model-list");
    this.models = models;
    this.#chosen = this.#find(localStorage.getItem(REMEMBERED));
    this.#list.append(...models.map((model) => this.#option(model)));
    driveMenu(part(root, "models"));
    this.#show();
  }

  /** The model that answers next; undefined when none is on sale. */
  get model() {
    return this.#chosen;
  }

  /** @param {string | null} id the conversation's model; null for whichever was chosen last */
  use(id) {
    this.#chosen = this.#find(id ?? localStorage.getItem(REMEMBERED));
    this.#show();
  }

  /** @param {string | null} id */
  #find(id) {
    return this.models.find((model) => model.id === id) ?? this.models.find((model) => model.default) ?? this.models[0];
  }

  /** @param {Model} model */
  #option(model) {
    const option = piece("model-option");
    part(option, "name").textContent = model.name;
    part(option, "about").textContent = model.description;
    part(option, "price").textContent = priceWords(model);
    option.dataset.model = model.id;
    option.addEventListener("click", () => {
      localStorage.setItem(REMEMBERED, model.id);
      this.use(model.id);
      this.dispatchEvent(new Event("change"));
    });
    return option;
  }

  #show() {
    part(this.#button, "model").textContent = this.#chosen?.name ?? "No model";
    for (const option of this.#list.children) {
      const { model } = /** @type {HTMLElement} */ (option).dataset;
      option.setAttribute("aria-selected", String(model === this.#chosen?.id));
    }
  }
}

/** @param {Model} model */
function priceWords({ prices, flat_fee: fee }) {
  // Credits per million tokens, read as microcredits per token, keep all their places.
  const perMillion = (/** @type {string} */ price) => formatCredits(toMicrocredits(price)).replace(/\.00$/, "");
  const each = toMicrocredits(fee) > 0n ? ` · ${formatCredits(toMicrocredits(fee))} a message` : "";
  return `${perMillion(prices.input)} in · ${perMillion(prices.output)} out${each}`;
}
