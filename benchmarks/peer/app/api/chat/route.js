import Anthropic from "@anthropic-ai/sdk";

export const dynamic = "force-dynamic";

// Reads ANTHROPIC_API_KEY and ANTHROPIC_BASE_URL.
const client = new Anthropic();

/** Relays Claude's answer as Server-Sent Events. */
export async function POST(request) {
  const { model, max_tokens, messages } = await request.json();
  const events = await client.messages.create({ model, max_tokens, messages, stream: true });
  const encoder = new TextEncoder();
  const body = new ReadableStream({
    async start(controller) {
      for await (const event of events) {
        if (event.type === "content_block_delta" && event.delta.type === "text_delta") {
          const data = JSON.stringify({ text: event.delta.text });
          controller.enqueue(encoder.encode(`data: ${data}\n\n`));
        }
      }
      controller.enqueue(encoder.encode("data: [DONE]\n\n"));
      controller.close();
    },
    cancel() {
      events.controller.abort();
    },
  });
  return new Response(body, {
    headers: {
      "Content-Type": "text/event-stream",
      "Cache-Control": "no-cache, no-transform",
      "X-Accel-Buffering": "no",
    },
  });
}
