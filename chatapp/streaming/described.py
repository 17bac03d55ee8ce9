"""The stream of a turn's events in the words of OpenAPI."""

from typing import Any

from ninja.openapi.schema import REF_TEMPLATE
from pydantic import TypeAdapter

from chatapp.failures import FAILURES
from chatapp.streaming.events import Done, Event, Failed, Started, Text, Thinking

EVENTS: dict[type[Event], str] = {
    Started: "The first event of a stream that is read from its start.",
    Thinking: "More of what the model thinks before it answers.",
    Text: "More of the answer. All of them joined are the saved answer, byte for byte.",
    Done: "The last event of an answer that was completed or stopped.",
    Failed: "The last event of an answer that failed.",
}
# What OpenAPI cannot read from the types.
WORDS: dict[str, dict[str, Any]] = {
    "held": {"description": "Credits set aside until the end: the most that this can cost."},
    "status": {"enum": ["completed", "stopped"]},
    "code": {"enum": list(FAILURES)},
    "message": {"description": "A sentence for the person."},
    "retryable": {"description": "Whether asking again may help."},
    "retry_after": {"description": "Seconds for which the provider wants no other request."},
    "charged": {"description": "Credits that it cost."},
    "estimated": {"description": "Whether output was counted from the text instead of by the provider."},
    "limited_by_balance": {"description": "Whether the balance afforded less than a full answer."},
    "served_by": {"description": "The model that gave the answer."},
    "first_token_ms": {"description": "Milliseconds from asking the model to its first word."},
}
# The answer of a call that streams.
STREAM = {
    "description": "Server-Sent Events. Each has an `id` (where to go on after it), an `event` (its name) and a "
    "`data`: one line of JSON whose `type` is that name. Every 15 s of silence a comment keeps the connection open. "
    "Exactly one `done` or `error` is the last.",
    "content": {"text/event-stream": {"schema": {"$ref": REF_TEMPLATE.format(model="TurnEvent")}}},
}


def event_schemas() -> dict[str, dict[str, Any]]:
    """`TurnEvent`, one event of the stream, and the schema of each event's data, by the name of its class."""
    schemas: dict[str, dict[str, Any]] = {}
    for event, description in EVENTS.items():
        schema = TypeAdapter(event).json_schema(ref_template=REF_TEMPLATE)
        schemas |= schema.pop("$defs", {})
        told = {name: about | WORDS.get(name, {}) for name, about in schema["properties"].items()}
        schema["properties"] = {"type": {"const": event.type}, **told}
        schema["required"] = ["type", *schema["required"]]
        schemas[event.__name__] = schema | {"description": description}
    schemas["TurnEvent"] = {
        "description": STREAM["description"],
        "oneOf": [
            {
                "title": event.type,
                "description": description,
                "type": "object",
                "required": ["id", "event", "data"],
                "properties": {
                    "id": {"type": "string"},
                    "event": {"const": event.type},
                    "data": {"$ref": REF_TEMPLATE.format(model=event.__name__)},
                },
            }
            for event, description in EVENTS.items()
        ],
    }
    return schemas
