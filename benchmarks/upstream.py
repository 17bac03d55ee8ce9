"""The stand-in for Claude that a thousand paced streams do not tire: `python -m benchmarks.upstream --port 9000`.

A question says how it wants to be answered: `events=200 every=0.05` asks for 200 deltas, one each 50 ms. The text of
each is the moment at which it was written, on the machine's monotonic clock, and the first one begins with the moment
at which the question was there: so whoever reads them, at the end of whatever relay, knows what the relay added.

The shapes of the events are Claude's. What is in them beside the text was made beforehand, and nothing is checked: a
stand-in that behaves like Claude is chatapp.local.demo_claude. From that one comes the prompt cache, by which the
prompt of a question with the word `counted` is counted.
"""

import argparse
import asyncio
import json
import re
import signal
import time
from typing import Any, cast

import uvloop

from chatapp.local.demo_claude import prompt
from chatapp.local.demo_claude.prompt_cache import InputUsage, PromptCache

ASKED = re.compile(rb"events=(\d+) every=([\d.]+)( counted)?")
LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
BACKLOG = 4096

# Nanoseconds, wide enough for any clock: pieces of text are found again by their shape.
RECEIVED = b"#%019d "
SENT = b"@%019d "


def question(*, events: int, every: float, counted: bool = False) -> str:
    """What to ask for so many deltas, `every` so many seconds."""
    return f"events={events} every={every:g}" + (" counted" if counted else "")


def chunk(content: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(content), content)


def event(**data: Any) -> bytes:
    return f"event: {data['type']}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n".encode()


HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nCache-Control: no-cache\r\n"
    b"request-id: req_of_the_benchmarks\r\nTransfer-Encoding: chunked\r\n\r\n"
)


def begin(used: InputUsage) -> bytes:
    """All that comes before the first delta."""
    usage = {
        "input_tokens": used.uncached,
        "output_tokens": 1,
        "cache_read_input_tokens": used.read,
        "cache_creation_input_tokens": used.written,
        "cache_creation": {
            "ephemeral_5m_input_tokens": used.written_5m,
            "ephemeral_1h_input_tokens": used.written_1h,
        },
    }
    message: dict[str, Any] = {
        "id": "msg_of_the_benchmarks",
        "type": "message",
        "role": "assistant",
        "model": "claude",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": usage,
    }
    return chunk(
        event(type="message_start", message=message)
        + event(type="content_block_start", index=0, content_block={"type": "text", "text": ""})
        + event(type="ping")
    )


BEGIN = begin(InputUsage(uncached=25))
DELTA_BEGIN, DELTA_END = event(
    type="content_block_delta", index=0, delta={"type": "text_delta", "text": "?"}
).split(b"?")
# Every delta but the first is equally long.
CHUNK_SIZE = b"%x\r\n" % (len(DELTA_BEGIN) + len(SENT % 0) + len(DELTA_END))
NEXT_BEGIN, NEXT_END = CHUNK_SIZE + DELTA_BEGIN, DELTA_END + b"\r\n"
NOT_A_QUESTION = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


def end(tokens: int) -> bytes:
    return (
        chunk(
            event(type="content_block_stop", index=0)
            + event(
                type="message_delta",
                delta={"stop_reason": "end_turn", "stop_sequence": None},
                usage={"output_tokens": tokens},
            )
            + event(type="message_stop")
        )
        + b"0\r\n\r\n"
    )


class Answering(asyncio.Protocol):
    """One connection: one answer after the other."""

    cache = PromptCache()

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._received = b""
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, _error: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        length = LENGTH.search(head)
        if not found or len(body) < (int(length[1]) if length else 0):
            return
        self._received = b""
        # The question is what stands last; before it stands what was said until then.
        asked = ASKED.findall(body)
        if not asked:
            self._transport.write(NOT_A_QUESTION)
            return
        events, every, counted = asked[-1]
        received = time.monotonic_ns()
        self._transport.write(HEAD + (begin(self._counted(body)) if counted else BEGIN))
        self._events, self._every, self._sent, self._began = int(events), float(every), 1, self._loop.time()
        first = RECEIVED % received + SENT % time.monotonic_ns()
        self._transport.write(chunk(DELTA_BEGIN + first + DELTA_END))
        self._wait()

    def _counted(self, body: bytes) -> InputUsage:
        return self.cache.use(prompt.read(json.loads(body)), api_key="")

    def _wait(self) -> None:
        if self._sent < self._events:
            self._timer = self._loop.call_at(self._began + self._sent * self._every, self._send)
        else:
            self._transport.write(end(self._events))

    def _send(self) -> None:
        self._transport.write(NEXT_BEGIN + SENT % time.monotonic_ns() + NEXT_END)
        self._sent += 1
        self._wait()


async def serve(port: int) -> None:
    """Until SIGTERM."""
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stopped.set)
    server = await loop.create_server(Answering, "127.0.0.1", port, backlog=BACKLOG)
    await stopped.wait()
    server.close()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.upstream", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    uvloop.run(serve(parser.parse_args().port))


if __name__ == "__main__":
    main()
