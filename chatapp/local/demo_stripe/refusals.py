"""What the API answers instead of an object, in Stripe's own form."""

from typing import Any


class Refusal(Exception):
    """An error answer: `{"error": {type, code, message, param}}` with its HTTP status.

    `about` are further fields of the error, such as the payment that was refused.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        type: str = "invalid_request_error",
        code: str | None = None,
        param: str | None = None,
        about: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.error = {"type": type, "code": code, "message": message, "param": param, **(about or {})}

    def body(self, request_id: str) -> dict[str, Any]:
        error = {name: value for name, value in self.error.items() if value is not None}
        return {"error": {**error, "request_log_url": f"https://dashboard.stripe.com/test/logs/{request_id}"}}


def missing(param: str) -> Refusal:
    return Refusal(400, f"Missing required param: {param}.", code="parameter_missing", param=param)


def unknown(param: str) -> Refusal:
    return Refusal(400, f"Received unknown parameter: {param}", code="parameter_unknown", param=param)


def invalid(param: str, why: str) -> Refusal:
    return Refusal(400, why, code="parameter_invalid", param=param)


def no_such(kind: str, id: str, *, param: str = "id") -> Refusal:
    return Refusal(404, f"No such {kind}: '{id}'", code="resource_missing", param=param)
