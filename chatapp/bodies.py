"""Bodies of requests, bounded before anybody else sees them.

Twisted would write a body of any size to the disk before the application is asked what it thinks of it.
"""

import asyncio
from io import BytesIO
from typing import Any

import structlog
from daphne.http_protocol import HTTPFactory, WebRequest

log = structlog.get_logger(__name__)

# So long after it was refused, a client may go on sending. Closed at once, its kernel might drop the answer unread.
LINGER_SECONDS = 5.0


class BoundedRequest(WebRequest):
    """Keeps a body of at most `server.largest_body` bytes in memory; a larger one is answered with `server.refusal` as
    soon as its size is known, and what still comes of it is dropped.
    """

    closing: asyncio.TimerHandle | None = None

    def gotLength(self, length: int | None) -> None:
        self.content = BytesIO()
        if length is not None and length > self.server.largest_body:
            self._refuse()

    def handleContentChunk(self, data: bytes) -> None:
        if self.closing is not None:
            return
        if self.content.tell() + len(data) > self.server.largest_body:
            self._refuse()
        else:
            self.content.write(data)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        if self.closing is None:
            super().requestReceived(command, path, version)
        else:
            self.channel.loseConnection()

    def connectionLost(self, reason: Any) -> None:
        if self.closing is not None:
            self.closing.cancel()
        super().connectionLost(reason)

    def handle_exception(self, exception: BaseException) -> None:
        """Break off an answer that has begun, so that its reader knows. Daphne would begin another behind it, stumble
        over that, and look after none of its connections any more.
        """
        if not self._response_started:
            super().handle_exception(exception)
        elif self.channel is not None:
            self.channel.transport.abortConnection()

    def _refuse(self) -> None:
        stripe = self.requestHeaders.hasHeader("Stripe-Signature")
        log.warning("body refused", more_than=self.server.largest_body, is_signed_like_stripes=stripe)
        self.requestHeaders.removeHeader(b"Expect")  # else it is told to go on
        self.content = BytesIO()
        self.channel.write(self.server.refusal)
        abort = self.channel.transport.abortConnection
        self.closing = asyncio.get_running_loop().call_later(LINGER_SECONDS, abort)


class BoundedFactory(HTTPFactory):
    """Daphne's, but for how it reads bodies."""

    def buildProtocol(self, addr: Any) -> Any:
        protocol = super().buildProtocol(addr)
        protocol.requestFactory = BoundedRequest
        return protocol
