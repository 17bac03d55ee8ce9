// The same relay without Next.js: Node's own HTTP server and the official SDK. `PORT=3000 node bare.js`
import { createServer } from "node:http";
import { json } from "node:stream/consumers";
import Anthropic from "@anthropic-ai/sdk";

const client = new Anthropic();

async function relay(request, response) {
  const { model, max_tokens, messages } = await json(request);
  const events = await client.messages.create({ model, max_tokens, messages, stream: true });
  response.on("close", () => events.controller.abort());
  response.writeHead(200, {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",
  });
  for await (const event of events) {
    if (event.type === "content_block_delta" && event.delta.type === "text_delta") {
      response.write(`data: ${JSON.stringify({ text: event.delta.text })}\n\n`);
    }
  }
  response.end("data: [DONE]\n\n");
}

createServer((request, response) => {
  if (request.method === "POST") {
    relay(request, response).catch((error) => response.destroy(error));
  } else {
    response.end("POST /api/chat\n");
  }
}).listen({ port: Number(process.env.PORT), host: "127.0.0.1", backlog: 4096 });
