"""A stand-in for OpenAI's chat completions, on a port of its own: what it is told to do, and what it was asked."""

import asyncio
import json
import threading
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from aiohttp import web


@dataclass
class Reply:
    """How the next request is answered: with these pieces, after which the connection may be cut.

    Its end, and then its count, may be followed by the marker of the end, by a cut, or by nothing.
    """

    pieces: tuple[str, ...] = ("Hel", "lo")
    status: int = 200
    error: dict[str, Any] | None = None
    headers: dict[str, str] = field(default_factory=dict)
    finish_reason: str | None = "stop"
    usage: dict[str, Any] | None = field(
        default_factory=lambda: {
            "prompt_tokens": 100,
            "completion_tokens": 7,
            "total_tokens": 107,
            "prompt_tokens_details": {"cached_tokens": 64},
        }
    )
    cut: bool = False
    garbage: bool = False
    then: Literal["[DONE]", "a cut", "nothing"] = "[DONE]"


class DemoOpenAI:
    """Runs in a thread while it is entered; `reply` answers from then on, `asked` is what came."""

    def __init__(self) -> None:
        self.reply = Reply()
        self.asked: list[dict[str, Any]] = []
        self.url = ""
        self._loop = asyncio.new_event_loop()

    def __enter__(self) -> Self:
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(ready,), daemon=True)
        self._thread.start()
        assert ready.wait(10)
        return self

    def __exit__(self, *_exception: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _run(self, ready: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._listen())
        ready.set()
        self._loop.run_forever()
        self._loop.run_until_complete(self._runner.cleanup())
        self._loop.close()

    async def _listen(self) -> None:
        application = web.Application()
        application.router.add_post("/v1/chat/completions", self._answer)
        self._runner = web.AppRunner(application, handler_cancellation=True)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        port = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{port}/v1"

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append({**await request.json(), "key": request.headers.get("Authorization")})
        reply = self.reply
        if reply.status != 200:
            return web.json_response({"error": reply.error}, status=reply.status, headers=reply.headers)
        response = web.StreamResponse(
            headers={"Content-Type": "text/event-stream", "x-request-id": "req_openai", **reply.headers}
        )
        await response.prepare(request)
        for piece in reply.pieces:
            await self._send(response, self._chunk({"content": piece}))
        if reply.garbage:
            await response.write(b"data: {not json\n\n")
        if reply.error is not None:
            await self._send(response, {"error": reply.error})
        if reply.cut:
            return self._cut(request, response)
        if reply.finish_reason:
            await self._send(response, self._chunk({}, finish_reason=reply.finish_reason))
        if reply.usage is not None:
            await self._send(response, {**self._chunk({}), "choices": [], "usage": reply.usage})
        if reply.then == "a cut":
            return self._cut(request, response)
        if reply.then == "nothing":
            await asyncio.Event().wait()  # until the client leaves
        await response.write(b"data: [DONE]\n\n")
        return response

    def _cut(self, request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return response

    def _chunk(self, delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
        return {
            "id": "chatcmpl-1",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": self.asked[-1]["model"],
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}],
            "usage": None,
        }

    async def _send(self, response: web.StreamResponse, data: dict[str, Any]) -> None:
        await response.write(f"data: {json.dumps(data)}\n\n".encode())
