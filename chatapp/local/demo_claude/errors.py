"""Errors as the Messages API answers them."""

import json
from dataclasses import dataclass

# The type that goes with each status, and what the API says when it gives no better reason.
KINDS: dict[int, tuple[str, str]] = {
    400: ("invalid_request_error", "The request is invalid."),
    401: ("authentication_error", "invalid x-api-key"),
    402: ("billing_error", "Your credit balance is too low to access the Anthropic API."),
    403: ("permission_error", "Your API key does not have permission to use the specified resource."),
    404: ("not_found_error", "Not found"),
    405: ("invalid_request_error", "Method Not Allowed"),
    409: ("conflict_error", "The resource was changed by another request."),
    413: ("request_too_large", "Request exceeds the maximum size"),
    429: (
        "rate_limit_error",
        "This request would exceed your organization's rate limit. Please try again later.",
    ),
    500: ("api_error", "Internal server error"),
    503: ("api_error", "Service unavailable"),
    504: ("timeout_error", "The request timed out while processing."),
    529: ("overloaded_error", "Overloaded"),
}


@dataclass(eq=False)
class ApiError(Exception):
    """A request that is answered with an error status instead of a message.

    `kind` and `message` default to what the API says for that status; `retry_after` is in seconds.
    """

    status: int
    message: str = ""
    kind: str = ""
    retry_after: float | None = None

    def __post_init__(self) -> None:
        default_kind, default_message = KINDS.get(
            self.status,
            ("invalid_request_error" if self.status < 500 else "api_error", f"Error {self.status}"),
        )
        self.kind = self.kind or default_kind
        self.message = self.message or default_message

    def body(self, request_id: str) -> bytes:
        """The JSON body of the answer."""
        return error_json(self.kind, self.message, request_id).encode()


def invalid(message: str) -> ApiError:
    """The 400 for a request that breaks a rule of the API."""
    return ApiError(400, message)


def error_json(kind: str, message: str, request_id: str) -> str:
    """An error as the API spells it, in a body as well as in an `error` event."""
    return json.dumps(
        {"type": "error", "error": {"type": kind, "message": message}, "request_id": request_id},
        ensure_ascii=False,
        separators=(",", ":"),
    )
