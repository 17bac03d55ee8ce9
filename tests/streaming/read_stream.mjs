// Reads a turn with eventsource-parser to its end, and drops its own connection every few events.
// Arguments: the address of the turn's events, and an API key. Says what it read, as JSON.
import { EventSourceParserStream } from "eventsource-parser/stream";

const [address, key] = process.argv.slice(2);
const EVENTS_PER_CONNECTION = 4;
const read = { text: "", types: [] };
let lastId = "";

while (!["done", "error"].includes(read.types.at(-1))) {
  const leave = new AbortController();
  try {
    const response = await fetch(address, {
      headers: { Authorization: `Bearer ${key}`, ...(lastId && { "Last-Event-ID": lastId }) },
      signal: leave.signal,
    });
    if (!response.ok) throw new Error(`${response.status} ${await response.text()}`);
    let left = EVENTS_PER_CONNECTION;
    const events = response.body.pipeThrough(new TextDecoderStream()).pipeThrough(new EventSourceParserStream());
    for await (const { id, event, data } of events) {
      lastId = id;
      read.types.push(event);
      if (event === "text") read.text += JSON.parse(data).text;
      if (--left === 0) break;
    }
  } catch (error) {
    if (!(error instanceof TypeError)) throw error; // the network's; anything else is a refusal
    await new Promise((resolve) => setTimeout(resolve, 100));
  } finally {
    leave.abort();
  }
}
console.log(JSON.stringify(read));
