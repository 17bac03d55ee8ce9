/** On a narrow page the sidebar is a drawer: opened by a button, closed by Escape, a tap beside it, or a choice. */
import { part } from "#chat/pieces.js";

export class Drawer {
  #sidebar;
  #stage;
  #burger;
  #narrow = matchMedia("(max-width: 760px)");
  #open = false;

  /**
   * @param {HTMLElement} sidebar
   * @param {HTMLElement} stage everything else
   */
  constructor(sidebar, stage) {
    this.#sidebar = sidebar;
    this.#stage = stage;
    this.#burger = part(stage, "burger");
    this.#burger.addEventListener("click", () => this.open());
    part(sidebar, "close").addEventListener("click", () => this.close());
    sidebar.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && !event.defaultPrevented) this.close();
    });
    sidebar.addEventListener("click", (event) => {
      if (event.target instanceof Element && event.target.closest(".chat-link, [data-go]")) this.close();
    });
    document.addEventListener("pointerdown", (event) => {
      const beside = event.target instanceof Node && !sidebar.contains(event.target);
      // A menu or a dialog that the drawer opened stands in front of it.
      if (this.#open && beside && !(event.target instanceof Element && event.target.closest("[popover], dialog"))) {
        event.preventDefault();
        this.close();
      }
    });
    this.#narrow.addEventListener("change", () => this.#apply(false));
    this.#apply(false);
  }

  open() {
    if (!this.#narrow.matches) return;
    this.#apply(true);
    part(this.#sidebar, "close").focus();
  }

  close() {
    if (!this.#open) return;
    this.#apply(false);
    this.#burger.focus();
  }

  /**
   * What cannot be seen cannot be reached either: that is the whole focus trap.
   * @param {boolean} open
   */
  #apply(open) {
    this.#open = open;
    document.body.classList.toggle("drawer-open", open);
    this.#burger.setAttribute("aria-expanded", String(open));
    this.#sidebar.inert = this.#narrow.matches && !open;
    this.#stage.inert = open;
  }
}
