/**
 * What happens in other tabs and on other devices, brought to this page.
 *
 * @import { Notice } from "#lib/shapes.js"
 * @import { Chats } from "#chat/chats.js"
 * @import { Shown } from "#chat/shown.js"
 * @import { Toast } from "#chat/toast.js"
 * @import { Turns } from "#chat/turns.js"
 * @import { Wallet } from "#chat/wallet.js"
 */
import { api, Refusal } from "#chat/api.js";

export class Elsewhere {
  #on;

  /** @param {{ chats: Chats, shown: Shown, toast: Toast, turns: Turns, wallet: Wallet }} on */
  constructor(on) {
    this.#on = on;
  }

  /** @param {Notice} notice */
  hear(notice) {
    const { chats, shown, wallet } = this.#on;
    if (notice.type === "balance") wallet.show(notice);
    else if (notice.type === "turn") this.#turn(notice.turn, notice.conversation, notice.state === "running");
    else if (notice.type === "mark") shown.mark(notice.conversation, notice.message, notice.mark);
    else if (notice.type === "conversation" && notice.deleted) {
      chats.remove(notice.conversation);
      if (shown.id === notice.conversation) shown.lose();
    } else if (notice.type === "conversation") this.#learn(notice.conversation);
  }

  /** After a gap in which anything may have happened. */
  async catchUp() {
    const { chats, shown, toast } = this.#on;
    await toast.unless("The chats are not up to date.", async () => {
      const { query, archived } = chats;
      await Promise.all([chats.list({ query, archived }), shown.live ? undefined : shown.refresh()]);
    });
  }

  /**
   * @param {string} turn
   * @param {string} conversation
   * @param {boolean} running
   */
  #turn(turn, conversation, running) {
    const { chats, shown, toast, turns } = this.#on;
    if (turns.get(turn)) return; // this page reads it itself
    chats.setRunning(conversation, running);
    if (running) this.#learn(conversation);
    if (shown.id !== conversation || shown.live) return;
    const known = shown.messages.find((message) => message.turn?.id === turn)?.turn?.state;
    if (running ? known === undefined : known === undefined || known === "running") {
      void toast.unless("The conversation is not up to date.", () => shown.refresh());
    }
  }

  /** @param {string} id a conversation that is new or has changed */
  async #learn(id) {
    const { chats, shown } = this.#on;
    try {
      const conversation = await api.conversation(id);
      chats.put(conversation);
      if (shown.id === id) shown.know(conversation);
    } catch (error) {
      // It may have been deleted meanwhile; without a network, `catchUp` comes later.
      if (error instanceof Refusal && error.status !== 404) throw error;
    }
  }
}
