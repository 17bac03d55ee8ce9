"""The API's OpenAPI schema, with what the calls' types do not say: refusals, the event stream, ids in addresses."""

from http import HTTPStatus
from typing import Any

from ninja import NinjaAPI
from ninja.openapi.schema import REF_TEMPLATE, OpenAPISchema

from chatapp.problems import PROBLEM_JSON, TITLES
from chatapp.streaming.described import event_schemas

PROBLEM = {
    "title": "Problem",
    "description": "A refusal (RFC 9457).",
    "type": "object",
    "required": ["type", "title", "status", "detail", "code"],
    "properties": {
        "type": {"type": "string", "examples": ["urn:chatapp:invalid"]},
        "title": {"type": "string", "enum": list(TITLES.values())},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "A sentence for the person."},
        "code": {"type": "string", "enum": list(TITLES), "description": "Stable: what programs rely on."},
    },
}
# Codes of each status. Which calls can be answered so is told by `_refusals`.
CODES = {
    400: ["invalid"],
    401: ["not_signed_in"],
    402: ["insufficient_credits"],
    403: ["forbidden"],
    404: ["not_found"],
    409: ["turn_running", "turn_conflict"],
    413: ["too_large"],
    429: ["rate_limited"],
    500: ["internal"],
    503: ["unavailable"],
}
MORE: dict[int, dict[str, Any]] = {
    400: {
        "fields": {
            "type": "object",
            "description": "What is wrong with each field that is at fault, in sentences.",
            "additionalProperties": {"type": "array", "items": {"type": "string"}},
        }
    },
    402: {
        "available": {"type": "string", "description": "Credits that can be spent now."},
        "needed": {"type": "string", "description": "Credits that the shortest answer can cost at most."},
    },
    429: {"retry_after": {"type": "integer", "description": "Seconds, as in Retry-After."}},
    503: {"retry_after": {"type": "integer", "description": "Seconds, as in Retry-After."}},
}
RETRY_AFTER = {
    "Retry-After": {"description": "Seconds until it may be tried again.", "schema": {"type": "integer"}}
}
IDS = {
    "conversation_id": "Id of one of the caller's conversations.",
    "turn_id": "Id of one of the caller's turns, as the client gave it or as `start` told it.",
}


class DescribedAPI(NinjaAPI):
    """An API whose schema tells all that a call may be answered with."""

    def get_openapi_schema(self, **where: Any) -> OpenAPISchema:
        schema = super().get_openapi_schema(**where)
        schema["components"]["schemas"] |= {"Problem": PROBLEM} | event_schemas()
        for path, methods in schema["paths"].items():
            for method, call in methods.items():
                for given in call["parameters"]:
                    if given["in"] == "path":
                        given["description"] = IDS[given["name"]]
                call["responses"] |= {status: _refusal(status) for status in _refusals(path, method, call)}
        return schema


def _refusals(path: str, method: str, call: dict[str, Any]) -> list[int]:
    """The statuses with which a call may be refused."""
    opens_a_turn = path.endswith("/turns")
    applies = {
        400: "requestBody" in call or any(given["in"] != "path" for given in call["parameters"]),
        402: opens_a_turn,
        403: method != "get",
        404: opens_a_turn or "{" in path,
        409: opens_a_turn,
        413: "requestBody" in call,
    }
    return [status for status in CODES if applies.get(status, True)]


def _refusal(status: int) -> dict[str, Any]:
    narrowed: dict[str, Any] = {"code": {"enum": CODES[status]}, "status": {"const": status}}
    about = {
        "allOf": [
            {"$ref": REF_TEMPLATE.format(model="Problem")},
            {"properties": narrowed | MORE.get(status, {})},
        ]
    }
    described: dict[str, Any] = {
        "description": f"{HTTPStatus(status).phrase}: " + "; ".join(TITLES[code] for code in CODES[status]),
        "content": {PROBLEM_JSON: {"schema": about}},
    }
    if status in (429, 503):
        described["headers"] = RETRY_AFTER
    return described
