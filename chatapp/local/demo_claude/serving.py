"""Serving the demo until told to stop, from a process of its own or from a thread of a test's."""

import asyncio
import logging
import resource
from collections.abc import Callable

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from .server import Demo

# A thousand clients may connect at once. What does not fit is dropped, and tried again a second later.
BACKLOG = 4096

# Answers that are being sent when the demo is stopped are cut off at once.
SHUTDOWN_SECONDS = 0.05


async def serve(
    demo: Demo, host: str, port: int, stopped: asyncio.Event, listening: Callable[[str], None]
) -> None:
    """Serves `demo` until `stopped` is set; `listening` gets the URL. Port 0 takes a free one.

    OSError when it cannot listen there.
    """
    runner = web.AppRunner(
        demo.application(),
        access_log=None,
        logger=_logger(),
        # A client that goes away ends its handler at once: that is how an aborted call is noticed.
        handler_cancellation=True,
        shutdown_timeout=SHUTDOWN_SECONDS,
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port, backlog=BACKLOG).start()
        bound_host, bound_port = runner.addresses[0][:2]
        shown_host = f"[{bound_host}]" if ":" in bound_host else bound_host
        listening(f"http://{shown_host}:{bound_port}")
        await stopped.wait()
    finally:
        await runner.cleanup()


def _logger() -> logging.Logger:
    """aiohttp's logger, without a traceback for each client that speaks no HTTP: that one gets a 400."""
    logger = logging.getLogger(__name__)
    logger.addFilter(_is_our_fault)
    return logger


def _is_our_fault(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, HttpProcessingError | web.RequestPayloadError)


def allow_many_connections() -> None:
    """Raises the soft limit of open files to the hard one: each stream is a file."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
