"""A reply before it is performed: its exact deltas, their tokens, why it stops, and the usage it reports."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from . import answers, directives, tokens
from .prompt import Prompt
from .prompt_cache import InputUsage
from .script import Fault, Script

# What `message_start` says of the output before there is any. Adding it to the final number is a client's
# bug, and with this number one that shows.
OUTPUT_PLACEHOLDER = 3

_REFUSED = {
    "type": "refusal",
    "category": "general_harms",
    "explanation": "This request was declined because it may lead to harm.",
}

_TITLE_ASKED = re.compile(
    r"\btitle\b.{0,80}\b(conversation|chat|exchange|discussion|messages?)\b"
    r"|\b(conversation|chat|exchange|discussion|messages?)\b.{0,80}\btitle\b",
    re.IGNORECASE | re.DOTALL,
)
_SUMMARY_ASKED = re.compile(
    r"\bsummary\b.{0,400}\btranscript\b|\btranscript\b.{0,400}\bsummary\b", re.I | re.S
)
_SPEAKER = re.compile(r"^\W*(user|human|person)\b\W*", re.IGNORECASE)

# Somebody who sends nothing but directives wants to see them work on a text worth looking at.
_WHEN_NOTHING_IS_ASKED = "Explain double entry."


class Delta(NamedTuple):
    """A piece of text and the output tokens it counts for."""

    text: str
    tokens: int


@dataclass(frozen=True)
class Reply:
    """Everything that will be said, before any of it is sent.

    `thinking` is billed whether or not `shows_thinking`, and empty when there was none; `text` is None when
    the answer has no text block at all.
    """

    thinking: tuple[Delta, ...]
    shows_thinking: bool
    text: tuple[Delta, ...] | None
    faults: tuple[Fault, ...]
    stop_reason: str
    stop_sequence: str | None
    input_usage: InputUsage
    usage_overrides: Mapping[str, int]
    usage_only: str

    @property
    def thinking_tokens(self) -> int:
        """Output tokens spent on thinking."""
        return _size(self.thinking)

    @property
    def output_tokens(self) -> int:
        """Output tokens of thinking and text together."""
        return self.thinking_tokens + _size(self.text or ())

    @property
    def stop_details(self) -> dict[str, str] | None:
        """What the API adds to a refusal."""
        return _REFUSED if self.stop_reason == "refusal" else None

    def start_usage(self) -> dict[str, Any]:
        """`usage` as `message_start` tells it: exact input, and a placeholder for the output."""
        numbers = self._input()
        if self.usage_only == "delta":
            numbers = {**dict.fromkeys(numbers, 0), "cache_creation": None}
        return {**numbers, "output_tokens": OUTPUT_PLACEHOLDER, "service_tier": "standard"}

    def final_usage(self) -> dict[str, Any] | None:
        """`usage` as `message_delta` tells it: cumulative, without the split by lifetime."""
        if self.usage_only == "start":
            return None
        numbers = self._input()
        del numbers["cache_creation"]
        return {**numbers, **self._output()}

    def whole_usage(self) -> dict[str, Any]:
        """`usage` of an answer that is not streamed."""
        return {**self._input(), **self._output(), "service_tier": "standard"}

    def _input(self) -> dict[str, Any]:
        def number(name: str, true_value: int) -> int:
            return self.usage_overrides.get(name, true_value)

        written_5m = number("ephemeral_5m_input_tokens", self.input_usage.written_5m)
        written_1h = number("ephemeral_1h_input_tokens", self.input_usage.written_1h)
        return {
            "input_tokens": number("input_tokens", self.input_usage.uncached),
            "cache_creation_input_tokens": written_5m + written_1h,
            "cache_read_input_tokens": number("cache_read_input_tokens", self.input_usage.read),
            "cache_creation": {
                "ephemeral_5m_input_tokens": written_5m,
                "ephemeral_1h_input_tokens": written_1h,
            },
        }

    def _output(self) -> dict[str, Any]:
        return {
            "output_tokens": self.usage_overrides.get("output_tokens", self.output_tokens),
            "output_tokens_details": {"thinking_tokens": self.thinking_tokens},
        }


def compose(prompt: Prompt, script: Script, input_usage: InputUsage, asked_before: int) -> Reply:
    """The reply to `prompt` under `script`; `asked_before` counts earlier requests with the same question.

    Thinking and text together never exceed `max_tokens`, nor what the context has left.
    """
    room = min(prompt.max_tokens, prompt.model.context_tokens - prompt.tokens)
    stop_reason, stop_sequence = "end_turn", None

    thinking, _ = _limited(_thinking(prompt, script), room)
    left = room - _size(thinking)
    text: tuple[Delta, ...] = ()
    if not script.empty:
        text, stop_sequence = _text(prompt, script, asked_before)
        if stop_sequence is not None:
            stop_reason = "stop_sequence"
        if script.stop_after is not None:
            text, _ = _limited(text, script.stop_after)
        if script.stop_reason is not None:
            stop_reason = script.stop_reason
    text, cut_short = _limited(text, left)
    if cut_short or not room:
        stop_reason = "max_tokens" if room == prompt.max_tokens else "model_context_window_exceeded"
    if stop_reason != "stop_sequence":
        stop_sequence = None
    faults = tuple(sorted(script.faults, key=lambda fault: fault.after))
    for fault in faults:
        text = _split_at(text, fault.after)
    return Reply(
        thinking=thinking,
        shows_thinking=prompt.thinking.shown,
        text=None if script.empty or left <= 0 else text,
        faults=faults,
        stop_reason=stop_reason,
        stop_sequence=stop_sequence,
        input_usage=input_usage,
        usage_overrides=script.usage,
        usage_only=script.usage_only,
    )


def quotes_a_conversation(prompt: Prompt) -> bool:
    """Whether it is asked about a conversation that stands in the prompt, not to go on with one."""
    return asks_for_summary(prompt) or asks_for_title(prompt)


def asks_for_summary(prompt: Prompt) -> bool:
    """Whether a transcript is to be summed up."""
    return bool(_SUMMARY_ASKED.search(prompt.system_text))


def asks_for_title(prompt: Prompt) -> bool:
    """Whether the conversation is to be named, not continued."""
    return any(_TITLE_ASKED.search(text) for text in (prompt.system_text, prompt.last_text))


def question_of(prompt: Prompt) -> str:
    """What the last user message asks, without directives."""
    return directives.without_directives(prompt.last_text) or _WHEN_NOTHING_IS_ASKED


def _thinking(prompt: Prompt, script: Script) -> tuple[Delta, ...]:
    if not prompt.thinking.on:
        return ()
    thoughts = answers.thoughts(question_of(prompt)) if script.thinking is None else script.thinking
    return _in_deltas(tokens.split(thoughts), script)


def _text(prompt: Prompt, script: Script, asked_before: int) -> tuple[tuple[Delta, ...], str | None]:
    """The deltas of the answer, and the stop sequence that ended it."""
    if script.deltas is not None:
        return tuple(Delta(text, tokens.count(text)) for text in script.deltas), None
    if script.filler_tokens is not None:
        # One more than may be sent is enough to be cut off.
        wanted = min(script.filler_tokens, prompt.max_tokens + 1)
        return _in_deltas(tokens.split(answers.filler(wanted))[:wanted], script), None
    text, stop_sequence = _until_stop(_words(prompt, script, asked_before), prompt.stop_sequences)
    return _in_deltas(tokens.split(text), script), stop_sequence


def _words(prompt: Prompt, script: Script, asked_before: int) -> str:
    if script.say is not None:
        return script.say
    if script.wants_help:
        return directives.manual()
    if asks_for_summary(prompt):
        return answers.summary(directives.without_directives(prompt.last_text))
    if asks_for_title(prompt):
        return answers.title(_to_be_named(prompt))
    return answers.answer(question_of(prompt), asked_before)


def _to_be_named(prompt: Prompt) -> str:
    """The first thing the person said, without the request for a title around it."""
    text = directives.without_directives(prompt.user_texts[0])
    if quoted := answers.first_asked(text):
        return quoted
    lines = text.splitlines()
    kept = " ".join(line for line in lines if not _TITLE_ASKED.search(line) and line.strip())
    return _SPEAKER.sub("", kept)


def _until_stop(text: str, sequences: tuple[str, ...]) -> tuple[str, str | None]:
    """`text` up to the first of the stop sequences, and which one that was."""
    found = min(((text.find(one), one) for one in sequences if one in text), default=None)
    return (text, None) if found is None else (text[: found[0]], found[1])


def _in_deltas(pieces: list[str], script: Script) -> tuple[Delta, ...]:
    size = script.tokens_per_delta or len(pieces) or 1
    if size == 1:
        return tuple(Delta(piece, 1) for piece in pieces)
    groups = (pieces[start : start + size] for start in range(0, len(pieces), size))
    return tuple(Delta("".join(group), len(group)) for group in groups)


def _size(deltas: tuple[Delta, ...]) -> int:
    return sum(delta.tokens for delta in deltas)


def _limited(deltas: tuple[Delta, ...], limit: int) -> tuple[tuple[Delta, ...], bool]:
    """The first `limit` tokens of `deltas`, and whether that left anything out."""
    if _size(deltas) <= limit:
        return deltas, False
    kept: list[Delta] = []
    for delta in _split_at(deltas, limit):
        if delta.tokens > limit:
            break
        limit -= delta.tokens
        kept.append(delta)
    return tuple(kept), True


def _split_at(deltas: tuple[Delta, ...], after: int) -> tuple[Delta, ...]:
    """`deltas` with a seam exactly `after` tokens from the beginning."""
    seen = 0
    for index, delta in enumerate(deltas):
        if seen < after < seen + delta.tokens:
            pieces = tokens.split(delta.text)
            left, right = pieces[: after - seen], pieces[after - seen :]
            halves = (Delta("".join(left), len(left)), Delta("".join(right), len(right)))
            return (*deltas[:index], *halves, *deltas[index + 1 :])
        seen += delta.tokens
        if seen >= after:
            break
    return deltas
