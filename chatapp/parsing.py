"""What comes in at the door of the API: bodies and queries."""

import json
from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.utils.datastructures import MultiValueDict
from ninja.parser import Parser

from chatapp.problems import Problem, invalid, too_large


class StorableInput(Parser):
    """Parses JSON objects and queries, and refuses text that neither UTF-8 nor PostgreSQL can carry.

    These are NUL and halves of surrogate pairs; JSON can spell both with escapes, and no later layer expects them.
    """

    def parse_body(self, request: HttpRequest) -> dict[str, Any]:
        if len(request.body) > settings.DATA_UPLOAD_MAX_MEMORY_SIZE:  # it came in chunks, without its length
            raise too_large()
        try:
            body = json.loads(request.body)
        except (ValueError, RecursionError) as error:
            raise Problem(400, "invalid", "The request body is not valid JSON.", fields={}) from error
        if not isinstance(body, dict):
            raise Problem(400, "invalid", "The request body must be a JSON object.", fields={})
        return _checked(body)

    def parse_querydict(
        self, data: MultiValueDict[str, str], list_fields: list[str], request: HttpRequest
    ) -> dict[str, Any]:
        return _checked(super().parse_querydict(data, list_fields, request))


def _checked(given: dict[str, Any]) -> dict[str, Any]:
    for name, value in given.items():
        if isinstance(value, str) and not storable(value):
            raise invalid(
                **{name: "This holds a NUL character or half of a surrogate pair. Remove it and send again."}
            )
    return given


def storable(text: str) -> bool:
    """Whether UTF-8 and PostgreSQL can carry `text`."""
    return "\x00" not in text and (text.isascii() or text == text.encode("utf-8", "ignore").decode())
