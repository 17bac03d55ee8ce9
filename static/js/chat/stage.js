/**
 * What stands around the messages: the title, the welcome, what is shown while a chat loads or when there is none.
 *
 * @import { Shown } from "#chat/shown.js"
 * @import { Remedies } from "#chat/explanation.js"
 */
import { explanationView } from "#chat/explanation.js";
import { whileNear } from "#chat/near.js";
import { part, piece } from "#chat/pieces.js";

/** Loading that takes less is not worth a flicker. */
const PATIENCE_MS = 150;

export class Stage {
  #root;
  #shown;
  #remedies;
  #skeletons = piece("skeletons");
  #loading = /** @type {ReturnType<typeof setTimeout> | undefined} */ (undefined);
  #state = "";

  /**
   * @param {HTMLElement} root
   * @param {Shown} shown
   * @param {Remedies} remedies
   * @param {string} name of the person, perhaps empty
   */
  constructor(root, shown, remedies, name) {
    this.#root = root;
    this.#shown = shown;
    this.#remedies = remedies;
    part(root, "greeting").textContent = greeting(new Date(), name);
    shown.addEventListener("change", () => this.#draw());
    this.#watchTop();
  }

  #draw() {
    const { conversation, messages, state } = this.#shown;
    const title = conversation?.title || "New chat";
    part(this.#root, "title").textContent = title;
    document.title = `${title} · Chatapp`;
    part(this.#root, "title-more").hidden = conversation === null;
    part(this.#root, "instructed").hidden = !conversation?.instructions;
    part(this.#root, "welcome").hidden = messages.length > 0 || state !== "ready" || conversation !== null;
    part(this.#root, "older").hidden = this.#shown.complete;
    if (state !== this.#state) this.#become(state);
  }

  /** @param {Shown["state"]} state */
  #become(state) {
    this.#state = state;
    document.body.classList.toggle("without-chat", state === "missing" || state === "failed");
    clearTimeout(this.#loading);
    this.#skeletons.remove();
    const column = part(this.#root, "column");
    column.querySelector(":scope > .explanation")?.remove();
    if (state === "loading") this.#loading = setTimeout(() => column.append(this.#skeletons), PATIENCE_MS);
    else if (state === "missing") {
      const text = "It may have been deleted, or belong to another account.";
      column.append(
        explanationView({ title: "There is no such chat", text, remedy: "new_chat", tone: "plain" }, this.#remedies),
      );
    } else if (state === "failed") {
      const text = "The server could not be reached.";
      column.append(
        explanationView({ title: "This chat could not be loaded", text, remedy: "retry", tone: "bad" }, this.#remedies),
      );
    }
  }

  /** Reading back loads what is above before it is reached. */
  #watchTop() {
    const older = part(this.#root, "older");
    older.append(this.#skeletons.cloneNode(true));
    whileNear(older, part(this.#root, "thread"), () => this.#readBack());
  }

  async #readBack() {
    const older = part(this.#root, "older");
    try {
      await this.#shown.readBack();
      return true;
    } catch {
      // Offered again as a button where the reader looks for it.
      const title = "Earlier messages could not be loaded";
      const retry = () => {
        older.replaceChildren(this.#skeletons.cloneNode(true));
        void this.#readBack();
      };
      older.replaceChildren(
        explanationView({ title, text: "", remedy: "retry", tone: "bad" }, { ...this.#remedies, retry }),
      );
      return false;
    }
  }
}

/**
 * @param {Date} now
 * @param {string} name
 */
function greeting(now, name) {
  const hour = now.getHours();
  const words = hour >= 5 && hour < 12 ? "Good morning" : hour >= 12 && hour < 18 ? "Good afternoon" : "Good evening";
  const first = name.trim().split(/\s+/)[0];
  return first ? `${words}, ${first}` : words;
}
