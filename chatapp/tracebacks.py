"""Tracebacks as logs may have them: where it broke and what kind of error it was, not what people wrote.

The words of an error often quote what it was about: a row that breaks a constraint, a value that is no number, a
provider's complaint about a prompt. The words of errors about code are kept, and so are the system's.
"""

import logging
import traceback
from collections.abc import Iterator, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any

# First lines only: what else PostgreSQL has to say quotes the row.
SPEAK_OF_CODE = (
    AttributeError,
    ImportError,
    NameError,
    NotImplementedError,
    OSError,
    RecursionError,
    TypeError,
)

ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]


def render(exc_info: ExcInfo) -> str:
    """The frames of an error and of what it came from, without their variables; then its kind."""
    return "\n".join(_lines(exc_info[1], seen=set()))


def _lines(error: BaseException, seen: set[int]) -> Iterator[str]:
    seen.add(id(error))
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if before is not None and id(before) not in seen:
        yield from _lines(before, seen)
        yield "It led to:"
    yield "Traceback (most recent call last):"
    yield from (frame.rstrip() for frame in traceback.format_tb(error.__traceback__))
    yield kind(error)
    if isinstance(error, BaseExceptionGroup):
        for part in error.exceptions:
            if id(part) not in seen:
                yield from _lines(part, seen)


def kind(error: BaseException) -> str:
    """What sort of error it was, with its own words where they can quote nobody."""
    name = f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")
    words = str(error).partition("\n")[0]
    return f"{name}: {words}" if words and isinstance(error, SPEAK_OF_CODE) else name


class WithoutWords(logging.Filter):
    """Takes the words of errors out of the messages with which libraries log them."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if error is None or not isinstance(record.msg, str):
            return True
        arguments: Any = record.args
        if isinstance(arguments, Mapping):  # Celery's
            arguments = {**arguments, "exc": kind(error)}
        elif arguments:
            arguments = tuple(kind(part) if isinstance(part, BaseException) else part for part in arguments)
        message = record.msg
        if arguments:
            with suppress(
                TypeError, ValueError
            ):  # a library's own mistake costs it the words, not us the line
                message = record.msg % arguments
        # asyncio goes on with the repr of the task and its error, Celery's beat with the stack.
        record.msg, record.args = message.partition("\n")[0], None
        return True
