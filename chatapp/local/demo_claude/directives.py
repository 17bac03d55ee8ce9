"""Directives: how a reply is told what to do, by a test, by a benchmark or by a person.

Each directive is a function below: its name, its arguments with their defaults, and what its docstring
promises. All are understood

- in the last user message: `[[demo: cut after=20]]`, as many as needed;
- on the command line and in the environment, one per `--directive` or per line of
  `DEMO_CLAUDE_DIRECTIVES`: `pace 9`;
- as JSON, where arguments keep their types: `{"deltas": ["Hel", "lo"], "cut": {"after": 1}}`.
"""

import inspect
import json
import math
import re
import shlex
from collections.abc import Callable, Mapping
from typing import Any

from .script import (
    Changes,
    CleanEnd,
    Cut,
    Drop,
    ErrorEvent,
    Garbage,
    Hang,
    Stall,
    Status,
    TooLong,
    Unknown,
)

FOREVER = math.inf

_IN_PROMPT = re.compile(r"\[\[demo:(.*?)\]\](?!\])", re.DOTALL)
_NAME_AND_REST = re.compile(r"\s*(\w*)\s?(.*)", re.DOTALL)


class DirectiveError(ValueError):
    """A directive that does not exist, or an argument it does not take."""


# --- what is said


def say(text: str) -> Changes:
    """Answers with this text, word for word."""
    return {"say": text}


def deltas(texts: list[str]) -> Changes:
    """Answers with exactly these deltas, a JSON list."""
    return {"deltas": tuple(texts)}


def tokens(count: int) -> Changes:
    """Answers with exactly this many tokens of Markdown."""
    return {"filler_tokens": count}


def empty() -> Changes:
    """Answers without any content."""
    return {"empty": True}


def thinking(text: str) -> Changes:
    """Thinks this text; nothing or `off` means no thinking."""
    return {"thinking": "" if text == "off" else text}


def chunk(tokens: int) -> Changes:
    """Sends this many tokens per delta; 0 sends the whole text as one."""
    return {"tokens_per_delta": tokens}


def stop(reason: str, after: int | None = None) -> Changes:
    """Ends with this `stop_reason`, at the end or after so many tokens."""
    return {"stop_reason": reason, "stop_after": after}


def refusal(after: int = 0) -> Changes:
    """Refuses, after so many tokens of text."""
    return {"stop_reason": "refusal", "stop_after": after}


def window(after: int = 20) -> Changes:
    """Ends with `model_context_window_exceeded` after so many tokens."""
    return {"stop_reason": "model_context_window_exceeded", "stop_after": after}


def usage(
    input_tokens: int | None = None,
    output_tokens: int | None = None,
    cache_read_input_tokens: int | None = None,
    ephemeral_5m_input_tokens: int | None = None,
    ephemeral_1h_input_tokens: int | None = None,
    only: str = "",
) -> Changes:
    """Reports these numbers instead of the true ones; `only=start` or `only=delta`: in that event only."""
    if only not in ("", "start", "delta"):
        raise DirectiveError("usage: only= takes start or delta")
    numbers = {
        "input_tokens": input_tokens,
        "output_tokens": output_tokens,
        "cache_read_input_tokens": cache_read_input_tokens,
        "ephemeral_5m_input_tokens": ephemeral_5m_input_tokens,
        "ephemeral_1h_input_tokens": ephemeral_1h_input_tokens,
    }
    return {"usage": {name: n for name, n in numbers.items() if n is not None}, "usage_only": only}


# --- pace


def pace(tokens_per_second: float, first: float | None = None) -> Changes:
    """Sends so many tokens per second, 0 for no limit; `first`: seconds before the first one."""
    changes: dict[str, Any] = {"tokens_per_second": tokens_per_second}
    if first is not None or not tokens_per_second:
        changes["first_token_seconds"] = first or 0.0
    return changes


def first(seconds: float) -> Changes:
    """Sends the first token so many seconds after `message_start`."""
    return {"first_token_seconds": seconds}


def wait(seconds: float) -> Changes:
    """Sends not even the status line for so many seconds."""
    return {"wait_seconds": seconds}


def ping(seconds: float) -> Changes:
    """Sends a ping every so many seconds; 0 for none."""
    return {"ping_seconds": seconds}


def drip(bytes: int = 7, seconds: float = 0.001) -> Changes:
    """Sends so many bytes at a time, wherever that cuts an event or a character."""
    return {"drip_bytes": bytes, "drip_seconds": seconds}


# --- faults


def status(code: int, message: str = "", type: str = "", retry_after: float | None = None) -> Changes:
    """Answers with this error status; `retry_after` in seconds."""
    return {"before": Status(code, message, type, retry_after)}


def too_long() -> Changes:
    """Says that the prompt is too long."""
    return {"before": TooLong()}


def hang() -> Changes:
    """Accepts the request and never answers."""
    return {"before": Hang()}


def drop() -> Changes:
    """Resets the connection instead of answering."""
    return {"before": Drop()}


def cut(after: int = 5, reset: bool = False) -> Changes:
    """Closes the connection in the middle of a chunk; `reset=true` with a TCP reset."""
    return {"faults": (Cut(after, reset),)}


def stall(after: int = 5, seconds: float = FOREVER) -> Changes:
    """Falls silent, without pings: for good, or for so many seconds."""
    return {"faults": (Stall(after, seconds),)}


def error(type: str = "overloaded_error", message: str = "Overloaded", after: int = 5) -> Changes:
    """Ends the stream with an `error` event."""
    return {"faults": (ErrorEvent(after, type, message),)}


def end(after: int | None = None, before: str = "message_delta") -> Changes:
    """Ends the stream cleanly, after so many tokens or `before=` `message_delta` or `message_stop`."""
    if after is not None:
        return {"faults": (CleanEnd(after),)}
    if before not in ("message_delta", "message_stop"):
        raise DirectiveError("end: before= takes message_delta or message_stop")
    return {"last_event": before}


def garbage(after: int = 5, data: str = '{"type":"content_block_delta","index":0,"del') -> Changes:
    """Sends a delta whose data is not JSON."""
    return {"faults": (Garbage(after, data),)}


def unknown(after: int = 5) -> Changes:
    """Sends an event, a delta and a field of types that do not exist yet."""
    return {"faults": (Unknown(after),)}


def help() -> Changes:
    """Answers with this table."""
    return {"wants_help": True}


DIRECTIVES: dict[str, Callable[..., Changes]] = {
    directive.__name__: directive
    for directive in (
        say,
        deltas,
        tokens,
        empty,
        thinking,
        chunk,
        stop,
        refusal,
        window,
        usage,
        pace,
        first,
        wait,
        ping,
        drip,
        status,
        too_long,
        hang,
        drop,
        cut,
        stall,
        error,
        end,
        garbage,
        unknown,
        help,
    )
}

# These take the rest of the directive as it stands.
_VERBATIM = {"say", "thinking", "deltas"}


# --- reading them


def from_prompt(text: str) -> list[Changes]:
    """The changes that the directives in a user message ask for; DirectiveError for one that is wrong."""
    return [from_line(match.group(1)) for match in _IN_PROMPT.finditer(text)]


def without_directives(text: str) -> str:
    """A user message without its directives."""
    return _IN_PROMPT.sub("", text).strip()


def from_line(line: str) -> Changes:
    """The changes of one written directive: `cut after=20`."""
    name, rest = _NAME_AND_REST.fullmatch(line).groups()  # type: ignore[union-attr]  # it matches any text
    positional: list[object] = []
    named: dict[str, object] = {}
    try:
        if name == "deltas":
            positional = [json.loads(rest)]
        elif name in _VERBATIM:
            positional = [rest]
        else:
            for word in shlex.split(rest):
                key, equals, value = word.partition("=")
                if equals:
                    named[key] = value
                else:
                    positional.append(word)
    except ValueError as unreadable:
        raise DirectiveError(f"{name}: {unreadable}") from unreadable
    return _call(name, positional, named)


def from_json(value: object) -> list[Changes]:
    """The changes of a script in JSON: a line, an object of directives, or a list of either."""
    if isinstance(value, str):
        return [from_line(line) for line in value.splitlines() if line.strip()]
    if isinstance(value, list):
        return [changes for item in value for changes in from_json(item)]
    if isinstance(value, Mapping):
        return [_from_item(name, arguments) for name, arguments in value.items()]
    raise DirectiveError("a script is a line, an object of directives, or a list of either")


def manual() -> str:
    """All directives as a Markdown table."""
    rows = ["| directive | what it does |", "|---|---|"]
    for name, directive in DIRECTIVES.items():
        signature = " ".join(
            _spelled(parameter) for parameter in inspect.signature(directive).parameters.values()
        )
        rows.append(f"| `{f'{name} {signature}'.strip()}` | {inspect.getdoc(directive)} |")
    return "\n".join(
        [
            "Write a directive anywhere in your message: `[[demo: cut after=20]]`. Several work together.",
            "",
            *rows,
            "",
            "`after` counts tokens of text.",
        ]
    )


def _from_item(name: str, arguments: object) -> Changes:
    if isinstance(arguments, Mapping):
        return _call(name, [], dict(arguments))
    if isinstance(arguments, list) and name != "deltas":
        return _call(name, arguments, {})
    if arguments is True or arguments is None:
        return _call(name, [], {})
    return _call(name, [arguments], {})


def _call(name: str, positional: list[Any], named: dict[str, Any]) -> Changes:
    directive = DIRECTIVES.get(name)
    if directive is None:
        raise DirectiveError(f"there is no directive {name!r}; there are {', '.join(DIRECTIVES)}")
    signature = inspect.signature(directive)
    try:
        bound = signature.bind(*positional, **named)
    except TypeError as mismatch:
        raise DirectiveError(f"{name}: {mismatch}") from mismatch
    for key, value in bound.arguments.items():
        converted = _converted(f"{name}: {key}", value, signature.parameters[key].annotation)
        # Usage may be reported as absurd as can be; no count and no time can be negative, or NaN.
        if directive is not usage and isinstance(converted, int | float) and not converted >= 0:
            raise DirectiveError(f"{name}: {key}: {value!r} does not fit")
        bound.arguments[key] = converted
    return directive(*bound.args, **bound.kwargs)


def _converted(where: str, value: Any, annotation: Any) -> Any:
    """`value` as the type that a directive's argument is declared with."""
    if value is None and annotation in (int | None, float | None):
        return None
    try:
        if annotation is bool:
            return value if isinstance(value, bool) else {"true": True, "false": False}[str(value).lower()]
        if annotation in (int, int | None):
            return int(value)
        if annotation in (float, float | None):
            return float(value)
        if annotation == list[str]:
            if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
                raise ValueError("not a list of strings")
            return value
        return str(value)
    except (ValueError, KeyError, TypeError) as wrong:
        raise DirectiveError(f"{where}: {value!r} does not fit") from wrong


def _spelled(parameter: inspect.Parameter) -> str:
    if parameter.default is inspect.Parameter.empty:
        return parameter.name.upper()
    if parameter.default in (None, "") or parameter.default == FOREVER:
        return f"{parameter.name}="
    default = (
        str(parameter.default).lower() if isinstance(parameter.default, bool) else str(parameter.default)
    )
    return f"{parameter.name}={shlex.quote(default)}"
