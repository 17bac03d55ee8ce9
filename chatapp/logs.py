"""One structured line per request, with an id that ties together what it logged."""

import logging
import time
import uuid
from collections.abc import Awaitable, Callable
from enum import Enum
from typing import Any

import structlog
from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest, HttpResponseBase
from redis.exceptions import RedisError
from structlog.typing import EventDict

from billing.away import DATABASE_AWAY

log = structlog.get_logger("chatapp.request")

OURS = {"accounts", "billing", "chatapp"}
CARRY_PROMPTS = {"aiohttp", "anthropic", "httpcore", "httpx", "httpx2", "openai", "stripe"}
QUIET = {"/healthz", "/readyz"}
# Links of mails: whoever reads the key in one could use it.
LINKS_WITH_A_KEY = {"account_confirm_email", "account_reset_password_from_key"}


class RequestLogMiddleware:
    """Logs method, path, status and time to the response's start: never a body, a query string or a header."""

    sync_capable = False
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Awaitable[HttpResponseBase]]) -> None:
        self.get_response = get_response
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    async def __call__(self, request: HttpRequest) -> HttpResponseBase:
        request_id = uuid.uuid4().hex
        began = time.perf_counter()
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            response = await self.get_response(request)
            if request.path not in QUIET and not request.path.startswith("/static/"):
                log.info(
                    "request",
                    method=request.method,
                    path=address(request),
                    status=response.status_code,
                    ms=round((time.perf_counter() - began) * 1000, 1),
                )
        response["X-Request-Id"] = request_id
        return response


def address(request: HttpRequest) -> str:
    """The path of a request as logs may have it."""
    route = request.resolver_match
    if route is not None and route.url_name in LINKS_WITH_A_KEY:
        return request.path.replace(route.kwargs["key"], "…")
    return request.path


def plain_choices(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Have a choice read as what is stored for it: `ignored`, not `StripeEvent.Outcome.IGNORED`."""
    return {name: value.value if isinstance(value, Enum) else value for name, value in event.items()}


class NoSecretPaths(logging.Filter):
    """Django logs the path of each request that fails."""

    def filter(self, record: logging.LogRecord) -> bool:
        request = getattr(record, "request", None)
        if isinstance(request, HttpRequest) and isinstance(record.args, tuple):
            record.args = tuple(address(request) if part == request.path else part for part in record.args)
        return True


class NoPrompts(logging.Filter):
    """LOG_LEVEL=DEBUG is for our own lines: those of libraries begin at INFO, and of what carries prompts at WARNING.

    The SDKs set the levels of their loggers themselves when ANTHROPIC_LOG or OPENAI_LOG asks for it.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        package = record.name.partition(".")[0]
        if package in OURS:
            return True
        return record.levelno >= (logging.WARNING if package in CARRY_PROMPTS else logging.INFO)


class ValkeyAwayInOneLine(logging.Filter):
    """The channel layer logs a traceback a second while Valkey is away: the name of the error says as much."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        # The last two are redis-py's, when its reader drops the connection that is just written to.
        if isinstance(error, RedisError | OSError | AttributeError | RuntimeError):
            record.msg, record.args = f"channel layer away: {type(error).__name__}", None
            record.exc_info = None
            record.levelno, record.levelname = logging.WARNING, "WARNING"
        return True


class DatabaseAwayInOneLine(logging.Filter):
    """Of an answer that had begun when the database went away, and was broken off: a traceback says no more."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, DATABASE_AWAY):
            record.msg, record.args = f"answer broken off, database away: {type(error).__name__}", None
            record.exc_info = None
            record.levelno, record.levelname = logging.WARNING, "WARNING"
        return True
