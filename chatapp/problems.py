"""Errors of the API as application/problem+json (RFC 9457), mapped in this one place."""

from typing import Any

import structlog
from django.core.exceptions import RequestDataTooBig
from django.db.utils import InterfaceError, InternalError, OperationalError
from django.http import HttpRequest, HttpResponse, JsonResponse
from ninja import NinjaAPI
from ninja.errors import AuthenticationError, HttpError, ValidationError
from psycopg_pool import PoolTimeout

from billing.credits import as_string
from billing.errors import InsufficientCredits

log = structlog.get_logger(__name__)

PROBLEM_JSON = "application/problem+json"
TITLES = {
    "invalid": "The request is not valid",
    "not_signed_in": "Not signed in",
    "insufficient_credits": "Not enough credits",
    "forbidden": "Not allowed",
    "not_found": "Not found",
    "method_not_allowed": "Not a call of this address",
    "turn_running": "An answer is being written",
    "turn_conflict": "This id was used for another message",
    "too_large": "Too large",
    "rate_limited": "Too many messages",
    "unavailable": "Not available right now",
}


class Problem(Exception):
    """A refusal that a client can act on: `code` is stable, `detail` a sentence for the person."""

    def __init__(
        self, status: int, code: str, detail: str, *, headers: dict[str, str] | None = None, **extra: Any
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.headers = headers or {}
        self.extra = extra


def invalid(**fields: str) -> Problem:
    """400 `invalid` with a sentence for each field."""
    detail = " ".join(fields.values())
    return Problem(400, "invalid", detail, fields={name: [sentence] for name, sentence in fields.items()})


def not_found(what: str) -> Problem:
    """404, also for what belongs to somebody else: nobody learns that it exists."""
    return Problem(404, "not_found", f"There is no such {what}.")


def problem_response(
    *, status: int, code: str, detail: str, headers: dict[str, str] | None = None, **extra: Any
) -> HttpResponse:
    body = {
        "type": f"urn:chatapp:{code}",
        "title": TITLES[code],
        "status": status,
        "detail": detail,
        "code": code,
    }
    response = JsonResponse(body | extra, status=status, content_type=PROBLEM_JSON)
    for name, value in (headers or {}).items():
        response[name] = value
    return response


def install(api: NinjaAPI) -> None:
    """Answer every error of `api` as a problem."""

    @api.exception_handler(Problem)
    def on_problem(request: HttpRequest, error: Problem) -> HttpResponse:
        return problem_response(
            status=error.status, code=error.code, detail=error.detail, headers=error.headers, **error.extra
        )

    @api.exception_handler(InsufficientCredits)
    def on_insufficient_credits(request: HttpRequest, error: InsufficientCredits) -> HttpResponse:
        return problem_response(
            status=402,
            code="insufficient_credits",
            detail=str(error),
            available=as_string(error.available),
            needed=as_string(error.needed),
        )

    @api.exception_handler(ValidationError)
    def on_validation_error(request: HttpRequest, error: ValidationError) -> HttpResponse:
        fields: dict[str, list[str]] = {}
        for item in error.errors:
            name = ".".join(str(part) for part in item["loc"][1:] if part != "body") or "body"
            fields.setdefault(name, []).append(_sentence(item["msg"]))
        detail = " ".join(f"{name}: {' '.join(sentences)}" for name, sentences in fields.items())
        return problem_response(status=400, code="invalid", detail=detail, fields=fields)

    @api.exception_handler(AuthenticationError)
    def on_authentication_error(request: HttpRequest, error: AuthenticationError) -> HttpResponse:
        return problem_response(
            status=401,
            code="not_signed_in",
            detail="Sign in, or send an active API key as 'Authorization: Bearer <key>'.",
            headers={"WWW-Authenticate": "Bearer"},
        )

    @api.exception_handler(RequestDataTooBig)
    def on_too_large(request: HttpRequest, error: RequestDataTooBig) -> HttpResponse:
        return problem_response(status=413, code="too_large", detail="The request is larger than 1 MB.")

    @api.exception_handler(HttpError)
    def on_http_error(request: HttpRequest, error: HttpError) -> HttpResponse:
        if isinstance(error.__cause__, Problem):  # ninja wraps what its parser raises
            return on_problem(request, error.__cause__)
        return problem_response(status=400, code="invalid", detail="The request body is not valid JSON.")

    # Away, out of connections, out of disk or read-only: not our mistakes, which stay loud.
    @api.exception_handler(OperationalError)
    @api.exception_handler(InterfaceError)
    @api.exception_handler(InternalError)
    @api.exception_handler(PoolTimeout)
    def on_database_away(request: HttpRequest, error: Exception) -> HttpResponse:
        log.error("database unavailable", error=type(error).__name__)
        return problem_response(
            status=503,
            code="unavailable",
            detail="This cannot be stored right now; nothing was charged. Try again in a moment.",
            headers={"Retry-After": "5"},
        )


def _sentence(message: str) -> str:
    text = message.removeprefix("Value error, ")
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")
