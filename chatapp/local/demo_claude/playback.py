"""A reply performed over HTTP: in the API's order of events, with the script's pace and faults."""

import asyncio
import math
import socket
import struct
from typing import Any

from aiohttp import HttpVersion11, web

from . import events
from .errors import error_json
from .journal import Entry
from .reply import Delta, Reply
from .script import CleanEnd, Cut, ErrorEvent, Fault, Garbage, Script, Stall, Unknown

# Without a pace, other requests get a turn after this many events.
UNPACED_BURST = 64

# uvloop's timers round to a millisecond: less than that is not worth waiting for, and would spin.
CLOCK_TICK_SECONDS = 0.001

# Stands for the proof that a thinking block is the model's own. Only its shape is meant.
SIGNATURE = "ZGVtby1jbGF1ZGUtdGhpbmtpbmctc2lnbmF0dXJl" * 4


class BrokenOff(Exception):
    """The script ends the answer here; what had to be sent for it has been sent."""


class Wire:
    """One streamed response.

    Events go to the transport as finished HTTP chunks: a quarter cheaper than `StreamResponse.write`, and a
    chunk can be left unfinished. Waiting for the next event is where pings come from.
    """

    def __init__(self, request: web.Request, script: Script) -> None:
        self._request = request
        self._chunked = request.version >= HttpVersion11
        self._loop = asyncio.get_running_loop()
        self._seconds_per_token = 1 / script.tokens_per_second if script.tokens_per_second else 0.0
        self._drip_bytes, self._drip_seconds = script.drip_bytes, script.drip_seconds
        self._ping_seconds = script.ping_seconds or math.inf
        self._due = self._loop.time()
        self._next_ping = self._due + self._ping_seconds
        self._burst = 0

    async def send(self, event: bytes) -> None:
        """Sends one event; waits while the reader does not keep up."""
        transport = self._transport()
        data = b"%x\r\n%b\r\n" % (len(event), event) if self._chunked else event
        if self._drip_bytes:
            await self._drip(transport, data)
        else:
            transport.write(data)
        if self._request.protocol.writing_paused:
            await self._request.writer.drain()

    async def pace(self, tokens: int) -> None:
        """Waits until so many more tokens may be sent."""
        if self._seconds_per_token:
            await self.wait(tokens * self._seconds_per_token)
            return
        self._burst += 1
        if self._burst >= UNPACED_BURST:
            self._burst = 0
            await asyncio.sleep(0)

    async def wait(self, seconds: float) -> None:
        """Lets time go by from when the last wait was over, with pings when they are due."""
        self._due += seconds
        while (left := self._due - (now := self._loop.time())) > CLOCK_TICK_SECONDS:
            if now >= self._next_ping:
                await self.ping()
            await silence(min(left, self._next_ping - now))

    async def ping(self) -> None:
        """Sends a ping."""
        self._next_ping = self._loop.time() + self._ping_seconds
        await self.send(events.PING)

    async def fall_silent(self, seconds: float) -> None:
        """Sends nothing at all for so long, and goes on at the usual pace."""
        await silence(seconds)
        self._due = self._loop.time()

    def cut(self, event: bytes, *, reset: bool) -> None:
        """Closes the connection in the middle of `event`."""
        half = event[: len(event) // 2]
        self._transport().write(b"%x\r\n%b" % (len(event), half) if self._chunked else half)
        close(self._request.transport, reset=reset)

    def _transport(self) -> asyncio.Transport:
        transport = self._request.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client is gone")
        return transport

    async def _drip(self, transport: asyncio.Transport, data: bytes) -> None:
        for start in range(0, len(data), self._drip_bytes):
            transport.write(data[start : start + self._drip_bytes])
            await asyncio.sleep(self._drip_seconds)


async def silence(seconds: float) -> None:
    """Waits so long; infinity is until the client gives up."""
    if math.isinf(seconds):
        await asyncio.get_running_loop().create_future()
    await asyncio.sleep(seconds)


def close(transport: asyncio.Transport | None, *, reset: bool) -> None:
    """Ends a connection without ending the response: in order, or with a TCP reset."""
    if transport is None:
        return
    if reset:
        # A socket that does not linger answers its own closing with RST.
        transport.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )
        transport.abort()
    else:
        transport.close()


class Performance:
    """Plays one reply to the end, and notes in the journal how far it came."""

    def __init__(
        self, wire: Wire, reply: Reply, script: Script, entry: Entry, message: dict[str, Any]
    ) -> None:
        self._wire = wire
        self._reply = reply
        self._script = script
        self._entry = entry
        self._message = message
        self._faults = list(reply.faults)
        self._index = 0

    async def play(self) -> None:
        """Sends every event; raises BrokenOff where the script ends it early."""
        await self._wire.send(events.event({"type": "message_start", "message": self._message}))
        if self._reply.thinking:
            await self._think()
        elif self._reply.text is None:
            await self._wire.wait(self._script.first_token_seconds)
        if self._reply.text is not None:
            await self._speak(self._reply.text)
        else:
            await self._fail_up_to(math.inf)
        await self._finish()

    async def _think(self) -> None:
        wire, thinking = self._wire, self._reply.thinking
        await wire.send(
            events.block_start(self._index, {"type": "thinking", "thinking": "", "signature": ""})
        )
        await wire.ping()
        await wire.wait(self._script.first_token_seconds)
        encode = events.thinking_deltas(self._index)
        for delta in thinking:
            if self._reply.shows_thinking:
                await wire.send(encode(delta.text))
            self._entry.thinking_tokens_sent += delta.tokens
            await wire.pace(delta.tokens)
        await wire.send(events.signature_deltas(self._index)(SIGNATURE))
        await wire.send(events.block_stop(self._index))
        self._index += 1

    async def _speak(self, text: tuple[Delta, ...]) -> None:
        wire, entry = self._wire, self._entry
        await wire.send(events.block_start(self._index, {"type": "text", "text": ""}))
        if not self._index:
            await wire.ping()
            await wire.wait(self._script.first_token_seconds)
        encode = events.text_deltas(self._index)
        for delta in text:
            if self._faults:
                await self._fail_up_to(entry.text_tokens_sent)
            await wire.send(encode(delta.text))
            entry.text_tokens_sent += delta.tokens
            entry.deltas_sent += 1
            await wire.pace(delta.tokens)
        await self._fail_up_to(math.inf)
        await wire.send(events.block_stop(self._index))

    async def _finish(self) -> None:
        if self._script.last_event == "message_delta":
            raise BrokenOff
        reply = self._reply
        ending: dict[str, Any] = {
            "type": "message_delta",
            "delta": {
                "stop_reason": reply.stop_reason,
                "stop_sequence": reply.stop_sequence,
                "stop_details": reply.stop_details,
            },
        }
        usage = reply.final_usage()
        if usage is not None:
            ending["usage"] = usage
        await self._wire.send(events.event(ending))
        if self._script.last_event == "message_stop":
            raise BrokenOff
        await self._wire.send(events.MESSAGE_STOP)

    async def _fail_up_to(self, tokens_sent: float) -> None:
        """Lets happen every fault whose time has come."""
        while self._faults and self._faults[0].after <= tokens_sent:
            await self._fail(self._faults.pop(0))

    async def _fail(self, fault: Fault) -> None:
        wire = self._wire
        match fault:
            case Cut(reset=reset):
                wire.cut(events.text_deltas(self._index)(" never to be read"), reset=reset)
                raise BrokenOff
            case Stall(seconds=seconds):
                await wire.fall_silent(seconds)
            case ErrorEvent(kind=kind, message=message):
                await wire.send(events.named("error", error_json(kind, message, self._entry.request_id)))
                raise BrokenOff
            case CleanEnd():
                raise BrokenOff
            case Garbage(data=data):
                await wire.send(events.named("content_block_delta", data))
            case Unknown():
                await wire.send(events.UNKNOWN_EVENT)
                await wire.send(events.unknown_delta(self._index))
