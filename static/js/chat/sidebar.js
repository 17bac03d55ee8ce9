/**
 * The list of chats: drawn in groups, searched, paged as one scrolls, walked with the arrow keys.
 *
 * @import { Conversation } from "#lib/shapes.js"
 * @import { Chats } from "#chat/chats.js"
 * @import { Toast } from "#chat/toast.js"
 */
import { groupConversations } from "#lib/grouping.js";
import { moveFocus } from "#chat/menu.js";
import { whileNear } from "#chat/near.js";
import { part, piece, showText } from "#chat/pieces.js";

const TYPING_MS = 220;

export class Sidebar {
  #root;
  #chats;
  #toast;
  #openMenu;
  #chatAddress;
  /** @type {Map<string, HTMLElement>} */
  #rows = new Map();
  #shown = /** @type {string | null} */ (null);
  #typing = /** @type {ReturnType<typeof setTimeout> | undefined} */ (undefined);

  /**
   * @param {HTMLElement} root
   * @param {Chats} chats
   * @param {Toast} toast
   * @param {(id: string, button: HTMLElement) => void} openMenu
   * @param {(id: string) => string} chatAddress
   */
  constructor(root, chats, toast, openMenu, chatAddress) {
    this.#root = root;
    this.#chats = chats;
    this.#toast = toast;
    this.#openMenu = openMenu;
    this.#chatAddress = chatAddress;
    chats.addEventListener("change", () => this.#draw());
    this.#listenToSearch();
    this.#loadAsScrolled();
    part(root, "archive").addEventListener("click", () => this.#list({ archived: !chats.archived }));
    root.addEventListener("keydown", (event) => this.#walk(event));
    this.#draw();
  }

  /** @param {string | null} id the conversation that the page shows */
  mark(id) {
    this.#shown = id;
    this.#draw();
  }

  focusSearch() {
    const query = part(this.#root, "query", HTMLInputElement);
    query.focus();
    query.select();
  }

  #listenToSearch() {
    const query = part(this.#root, "query", HTMLInputElement);
    query.addEventListener("input", () => {
      clearTimeout(this.#typing);
      this.#typing = setTimeout(() => this.#list({ query: query.value, archived: this.#chats.archived }), TYPING_MS);
    });
    query.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || query.value === "") return;
      event.preventDefault();
      event.stopPropagation();
      query.value = "";
      this.#list({ archived: this.#chats.archived });
    });
  }

  #loadAsScrolled() {
    whileNear(part(this.#root, "end"), part(this.#root, "history"), () =>
      this.#toast.unless("More chats could not be loaded.", () => this.#chats.more()),
    );
  }

  /** @param {{ query?: string, archived?: boolean }} which */
  #list(which) {
    if (!which.query) part(this.#root, "query", HTMLInputElement).value = "";
    void this.#toast.unless("The chats could not be listed.", () => this.#chats.list(which));
  }

  /** @param {KeyboardEvent} event */
  #walk(event) {
    const inList = event.target instanceof Element && event.target.closest(".chat-row, [data-part=query]");
    const links = [...this.#root.querySelectorAll(".chat-link")].filter((link) => link instanceof HTMLElement);
    if (inList) moveFocus(event, links);
  }

  #draw() {
    const focused = document.activeElement;
    const groups = groupConversations(this.#chats.items, new Date());
    const listed = new Set(groups.flatMap(({ conversations }) => conversations.map(({ id }) => id)));
    for (const id of this.#rows.keys()) if (!listed.has(id)) this.#rows.delete(id);
    part(this.#root, "groups").replaceChildren(...groups.map((group) => this.#group(group.name, group.conversations)));
    // Moving a row takes the focus from it.
    const moved = focused !== document.activeElement && this.#root.contains(focused);
    if (moved && focused instanceof HTMLElement) focused.focus();

    const { archived, query, hasMore } = this.#chats;
    part(this.#root, "end").hidden = !hasMore;
    part(this.#root, "archive-words").textContent = archived ? "Back to all chats" : "Archived chats";
    const none = query
      ? `No chat has “${query}” in it.`
      : archived
        ? "Nothing is archived."
        : "Your chats will be listed here.";
    showText(part(this.#root, "note"), listed.size > 0 || hasMore ? "" : none);
  }

  /**
   * @param {string} name
   * @param {Conversation[]} conversations
   */
  #group(name, conversations) {
    const section = document.createElement("section");
    const heading = document.createElement("h2");
    heading.className = "day";
    heading.textContent = name;
    const list = document.createElement("ul");
    list.className = "chat-list";
    list.append(...conversations.map((conversation) => this.#row(conversation)));
    section.append(heading, list);
    return section;
  }

  /** @param {Conversation} conversation */
  #row({ id, title }) {
    const row = this.#rows.get(id) ?? this.#newRow(id);
    const words = title || "New chat";
    const link = part(row, "link");
    part(row, "title").textContent = words;
    part(row, "live").hidden = !this.#chats.isRunning(id);
    part(row, "more").ariaLabel = `More about ${words}`;
    link.title = words;
    if (id === this.#shown) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
    return row;
  }

  /** @param {string} id */
  #newRow(id) {
    const row = piece("chat-row");
    const more = part(row, "more");
    part(row, "link", HTMLAnchorElement).href = this.#chatAddress(id);
    more.addEventListener("click", () => this.#openMenu(id, more));
    this.#rows.set(id, row);
    return row;
  }
}
