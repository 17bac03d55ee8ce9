"""Errors of the API as application/problem+json (RFC 9457), mapped in this one place."""

from typing import Any

import structlog
from django.core.exceptions import RequestDataTooBig, SuspiciousOperation
from django.http import HttpRequest, HttpResponse, JsonResponse
from ninja import NinjaAPI
from ninja.errors import AuthenticationError, HttpError, ValidationError
from psycopg_pool import PoolTimeout

from billing.away import DATABASE_AWAY
from billing.credits import as_string
from billing.errors import InsufficientCredits

log = structlog.get_logger(__name__)

PROBLEM_JSON = "application/problem+json"
UNKNOWN_FIELD = "This call has no such field. Leave it out, or look for a slip in its name."
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
    "rate_limited": "Too many requests",
    "internal": "Something went wrong",
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

    def response(self) -> HttpResponse:
        """This refusal as an answer."""
        return problem_response(
            status=self.status, code=self.code, detail=self.detail, headers=self.headers, **self.extra
        )


def invalid(**fields: str) -> Problem:
    """400 `invalid` with a sentence for each field."""
    detail = " ".join(fields.values())
    return Problem(400, "invalid", detail, fields={name: [sentence] for name, sentence in fields.items()})


def not_found(what: str) -> Problem:
    """404, also for what belongs to somebody else: nobody learns that it exists."""
    return Problem(404, "not_found", f"There is no such {what}.")


def too_large() -> Problem:
    """413 for a whole request; what in it is too long says so itself."""
    return Problem(413, "too_large", "The request is larger than 2 MB.")


def rate_limited(detail: str, *, seconds: int) -> Problem:
    """429: it may be sent again after so many seconds."""
    return Problem(429, "rate_limited", detail, headers={"Retry-After": str(seconds)}, retry_after=seconds)


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
        return error.response()

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
            sentence = UNKNOWN_FIELD if item["type"] == "extra_forbidden" else _sentence(item["msg"])
            fields.setdefault(name, []).append(sentence)
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
        return too_large().response()

    @api.exception_handler(SuspiciousOperation)
    def on_suspicious_operation(request: HttpRequest, error: SuspiciousOperation) -> HttpResponse:
        return problem_response(status=400, code="invalid", detail="The request is not one of this API.")

    @api.exception_handler(HttpError)
    def on_http_error(request: HttpRequest, error: HttpError) -> HttpResponse:
        if isinstance(error.__cause__, Problem):  # ninja wraps what its parser raises
            return on_problem(request, error.__cause__)
        return problem_response(status=400, code="invalid", detail="The request body is not valid JSON.")

    # Away, out of connections, out of disk or read-only: not our mistakes, which stay loud.
    def on_database_away(request: HttpRequest, error: Exception | type[Exception]) -> HttpResponse:
        log.error("database unavailable", error=type(error).__name__)
        return problem_response(
            status=503,
            code="unavailable",
            detail="This cannot be stored right now; nothing was charged. Try again in a moment.",
            headers={"Retry-After": "5"},
        )

    for away in (*DATABASE_AWAY, PoolTimeout):
        api.add_exception_handler(away, on_database_away)

    @api.exception_handler(Exception)
    def on_mistake(request: HttpRequest, error: Exception) -> HttpResponse:
        """Ours: a program gets a problem to read, as with every other error, and the log gets the traceback."""
        log.error("api call broke", path=request.path, exc_info=error)
        return problem_response(
            status=500,
            code="internal",
            detail="This went wrong on our side, and the operator can see it. Try again in a moment.",
        )


def _sentence(message: str) -> str:
    text = message.removeprefix("Value error, ")
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")
