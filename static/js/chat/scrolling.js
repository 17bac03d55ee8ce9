/** Where the reader is: the page follows a growing answer only from its very end, and never moves what is read. */

const AT_END_PX = 24;
const FAR_PX = 160;

export class Scrolling {
  #thread;
  #column;
  #jump;
  #following = true;
  #lastTop = 0;
  #lastReach = 0;

  /**
   * @param {HTMLElement} thread scrolls
   * @param {HTMLElement} column grows
   * @param {HTMLElement} jump leads back to the end
   */
  constructor(thread, column, jump) {
    this.#thread = thread;
    this.#column = column;
    this.#jump = jump;
    const sizes = new ResizeObserver(() => this.keep());
    sizes.observe(column);
    sizes.observe(thread);
    thread.addEventListener("scroll", () => this.#look(), { passive: true });
    // Whoever opens something wants to see it where it is.
    column.addEventListener("click", (event) => {
      if (event.target instanceof Element && event.target.closest("summary, button")) this.#following = false;
    });
    jump.addEventListener("click", () => {
      this.toEnd();
      thread.focus({ preventScroll: true });
    });
  }

  /** Goes to the end and stays there while it moves. */
  toEnd() {
    this.#following = true;
    this.keep();
  }

  /** Something has got another size: whoever was at the end still is. */
  keep() {
    if (this.#following) {
      this.#thread.scrollTop = this.#thread.scrollHeight;
      this.#lastTop = this.#thread.scrollTop;
    }
    this.#lastReach = this.#reach();
    this.#showJump();
  }

  /**
   * Runs `change`, which adds or removes something above, without moving what is on the screen.
   * @param {() => void} change
   */
  keepingPlace(change) {
    const box = this.#thread.getBoundingClientRect();
    const anchor = [...this.#column.querySelectorAll("article")].find(
      (article) => article.getBoundingClientRect().bottom > box.top,
    );
    const before = anchor?.getBoundingClientRect().top ?? 0;
    change();
    if (anchor?.isConnected) this.#thread.scrollTop += anchor.getBoundingClientRect().top - before;
    this.#lastTop = this.#thread.scrollTop;
  }

  #look() {
    const top = this.#thread.scrollTop;
    // The way up is a reader's, unless there is less to scroll: the answer got shorter, or its frame taller. The way
    // down may be ours, and ends the reading only at the end.
    const shrunk = this.#reach() < this.#lastReach;
    if (top < this.#lastTop - 1 && !shrunk) this.#following = false;
    if (this.#distance() < AT_END_PX && top >= this.#lastTop) this.#following = true;
    this.#lastTop = top;
    this.#lastReach = this.#reach();
    this.#showJump();
  }

  #showJump() {
    this.#jump.hidden = this.#following || this.#distance() < FAR_PX;
  }

  #distance() {
    return this.#reach() - this.#thread.scrollTop;
  }

  /** How far down it can be scrolled. */
  #reach() {
    return this.#thread.scrollHeight - this.#thread.clientHeight;
  }
}
