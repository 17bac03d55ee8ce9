/**
 * Rename, instruct, pin, archive, delete: the menu of one chat.
 *
 * @import { Conversation } from "#lib/shapes.js"
 * @import { Chats } from "#chat/chats.js"
 * @import { Toast } from "#chat/toast.js"
 */
import { api } from "#chat/api.js";
import { driveMenu } from "#chat/menu.js";
import { part } from "#chat/pieces.js";

export class ChatMenu {
  #menu = byId("chat-menu", HTMLElement);
  #renaming = byId("rename", HTMLDialogElement);
  #instructing = byId("instruct", HTMLDialogElement);
  #deleting = byId("confirm-delete", HTMLDialogElement);
  #chats;
  #toast;
  #changed;
  #removed;
  #conversation = /** @type {Conversation | null} */ (null);

  /**
   * @param {Chats} chats
   * @param {Toast} toast
   * @param {(conversation: Conversation) => void} changed
   * @param {(id: string) => void} removed
   */
  constructor(chats, toast, changed, removed) {
    this.#chats = chats;
    this.#toast = toast;
    this.#changed = changed;
    this.#removed = removed;
    driveMenu(this.#menu);
    this.#menu.addEventListener("click", (event) => {
      const item = event.target instanceof Element ? event.target.closest("[data-act]") : null;
      if (item instanceof HTMLElement && this.#conversation) void this.#act(item.dataset.act, this.#conversation);
    });
  }

  /**
   * @param {Conversation} conversation
   * @param {HTMLElement} button beside which it opens
   */
  open(conversation, button) {
    this.#conversation = conversation;
    part(this.#menu, "instruct-words").textContent = conversation.instructions ? "Instructions" : "Add instructions";
    part(this.#menu, "pin-words").textContent = conversation.pinned ? "Unpin" : "Pin";
    part(this.#menu, "archive-words").textContent = conversation.archived ? "Bring back" : "Archive";
    this.#menu.showPopover({ source: button });
  }

  /**
   * @param {string | undefined} act
   * @param {Conversation} conversation
   */
  async #act(act, conversation) {
    const { pinned, archived } = conversation;
    if (act === "pin") await this.#change(conversation, { pinned: !pinned }, "The chat was not pinned.");
    else if (act === "archive") await this.#change(conversation, { archived: !archived }, "The chat was not archived.");
    else if (act === "rename") await this.#rename(conversation);
    else if (act === "instruct") await this.#instruct(conversation);
    else if (act === "delete") await this.#delete(conversation);
  }

  /** @param {Conversation} conversation */
  async #rename(conversation) {
    const input = part(this.#renaming, "title", HTMLInputElement);
    input.value = conversation.title;
    const answer = answerOf(this.#renaming);
    input.select();
    const title = (await answer) === "rename" ? input.value.trim() : "";
    if (title && title !== conversation.title) await this.#change(conversation, { title }, "The chat was not renamed.");
  }

  /** @param {Conversation} conversation */
  async #instruct(conversation) {
    const field = part(this.#instructing, "instructions", HTMLTextAreaElement);
    field.value = conversation.instructions;
    field.dispatchEvent(new Event("input"));
    if ((await answerOf(this.#instructing)) !== "save") return;
    const instructions = field.value.trim();
    if (instructions === conversation.instructions) return;
    await this.#change(conversation, { instructions }, "The instructions were not kept.");
  }

  /** @param {Conversation} conversation */
  async #delete(conversation) {
    part(this.#deleting, "title").textContent = conversation.title || "New chat";
    if ((await answerOf(this.#deleting)) !== "delete") return;
    await this.#toast.unless("The chat was not deleted.", async () => {
      await api.remove(conversation.id);
      this.#chats.remove(conversation.id);
      this.#removed(conversation.id);
    });
  }

  /**
   * @param {Conversation} conversation
   * @param {{ title?: string, instructions?: string, pinned?: boolean, archived?: boolean }} changes
   * @param {string} failure
   */
  async #change(conversation, changes, failure) {
    await this.#toast.unless(failure, async () => {
      const changed = await api.change(conversation.id, changes);
      this.#chats.put(changed);
      this.#changed(changed);
    });
  }
}

/**
 * Shows a dialog and resolves to the value of the button that closed it; "" when it was dismissed.
 * @param {HTMLDialogElement} dialog
 * @returns {Promise<string>}
 */
function answerOf(dialog) {
  dialog.returnValue = "";
  // Not a submit button: Enter in a field would press the first one.
  part(dialog, "cancel").onclick = () => dialog.close("");
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue), { once: true });
  });
}

/**
 * @template {HTMLElement} Type
 * @param {string} id
 * @param {new () => Type} type
 * @returns {Type}
 */
function byId(id, type) {
  const found = document.getElementById(id);
  if (!(found instanceof type)) throw new Error(`no element ${id}`);
  return found;
}
