/**
 * A Server-Sent Events parser that may be cut anywhere: inside a character, a line ending or a field.
 * Follows the event stream format of the HTML standard.
 *
 * @typedef {{ id: string, event: string, data: string }} ServerSentEvent
 */

const LINE_END = /\r\n|\r|\n/g;

export class EventStreamParser {
  // Keeps the bytes of an unfinished character for the next chunk, and drops a byte order mark at the start.
  #decoder = new TextDecoder();
  #unfinishedLine = "";
  #lineFeedMayFollow = false;
  /** @type {string[]} */
  #data = [];
  #event = "";
  #lastEventId = "";

  /**
   * The events that `chunk` completes. An event that the stream never completes is never returned.
   * @param {Uint8Array} chunk
   * @returns {ServerSentEvent[]}
   */
  push(chunk) {
    let text = this.#decoder.decode(chunk, { stream: true });
    if (this.#lineFeedMayFollow && text !== "") {
      if (text.startsWith("\n")) text = text.slice(1);
      this.#lineFeedMayFollow = false;
    }
    /** @type {ServerSentEvent[]} */
    const events = [];
    let start = 0;
    for (const { 0: ending, index } of text.matchAll(LINE_END)) {
      const line = this.#unfinishedLine + text.slice(start, index);
      this.#unfinishedLine = "";
      start = index + ending.length;
      // A carriage return ends the line at once; should the line feed come with the next chunk, it is no second end.
      this.#lineFeedMayFollow = ending === "\r" && start === text.length;
      this.#readLine(line, events);
    }
    this.#unfinishedLine += text.slice(start);
    return events;
  }

  /**
   * @param {string} line
   * @param {ServerSentEvent[]} events
   */
  #readLine(line, events) {
    if (line === "") return this.#dispatch(events);
    const colon = line.indexOf(":");
    if (colon === 0) return; // a comment
    const field = colon === -1 ? line : line.slice(0, colon);
    const value = colon === -1 ? "" : line.slice(line[colon + 1] === " " ? colon + 2 : colon + 1);
    if (field === "data") this.#data.push(value);
    else if (field === "event") this.#event = value;
    else if (field === "id" && !value.includes("\0")) this.#lastEventId = value;
  }

  /** @param {ServerSentEvent[]} events */
  #dispatch(events) {
    if (this.#data.length > 0) {
      events.push({ id: this.#lastEventId, event: this.#event || "message", data: this.#data.join("\n") });
    }
    this.#data = [];
    this.#event = "";
  }
}
