"""A request body, checked as strictly as the API checks it, and measured in tokens."""

import json
import re
from dataclasses import dataclass
from typing import Any, Literal

from . import catalogue, tokens
from .errors import ApiError, invalid

TTL = Literal["5m", "1h"]

# What a request, a message and an image cost beside their text.
REQUEST_TOKENS = 3
MESSAGE_TOKENS = 3
ATTACHMENT_TOKENS = 1_600

CACHE_BREAKPOINTS = 4

_REMOVED = ("temperature", "top_p", "top_k")
_COUNTED = {
    "cache_control",
    "messages",
    "model",
    "output_config",
    "speed",
    "system",
    "thinking",
    "tool_choice",
    "tools",
}
_CREATED = _COUNTED | {
    "container",
    "diagnostics",
    "inference_geo",
    "max_tokens",
    "metadata",
    "service_tier",
    "stop_sequences",
    "stream",
}
_EFFORTS = ("low", "medium", "high", "xhigh", "max")
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")


@dataclass(frozen=True)
class Block:
    """One piece of the prompt, in the order in which it is cached: tools, system, messages.

    `place` and `content` tell it from any other; `ttl` is set where a cache breakpoint follows it.
    """

    place: str
    content: object
    tokens: int
    ttl: TTL | None = None

    def identity(self) -> bytes:
        """What the prompt cache compares."""
        content = self.content
        if not isinstance(content, str):
            content = json.dumps(content, sort_keys=True, ensure_ascii=False)
        return f"{self.place}\0{content}\0".encode(errors="surrogatepass")


@dataclass(frozen=True)
class Thinking:
    """Whether thinking precedes the answer, and whether its text is shown."""

    on: bool = False
    shown: bool = False


@dataclass(frozen=True)
class Prompt:
    """A valid request for an answer."""

    model: catalogue.Model
    model_name: str
    blocks: tuple[Block, ...]
    tokens: int
    max_tokens: int
    stream: bool
    thinking: Thinking
    stop_sequences: tuple[str, ...]
    system_text: str
    user_texts: tuple[str, ...]

    @property
    def last_text(self) -> str:
        """The text of the last user message."""
        return self.user_texts[-1]


def decode(raw: bytes) -> dict[str, Any]:
    """The JSON object in a request's body; ApiError 400 when there is none."""
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise invalid(f"The request body is not valid JSON: {error}") from error
    if not isinstance(body, dict):
        raise invalid("The request body must be a JSON object.")
    return body


def read(body: dict[str, Any], *, counting: bool = False) -> Prompt:
    """The prompt in a request's body; ApiError when the API would refuse it.

    `counting`: as `count_tokens` takes it, without what concerns the answer only.
    """
    model_name = _model_name(body)
    for name in body.keys() & set(_REMOVED):
        raise invalid(f"`{name}` is deprecated for this model.")
    for name in sorted(body.keys() - (_COUNTED if counting else _CREATED)):
        raise invalid(f"{name}: Extra inputs are not permitted")
    model = catalogue.find(model_name)
    if model is None:
        raise ApiError(404, f"model: {model_name}")
    max_tokens = 0 if counting else _max_tokens(body, model)
    stream = body.get("stream", False)
    if not isinstance(stream, bool):
        raise invalid("stream: Input should be a valid boolean")
    _check_metadata(body.get("metadata"))
    _check_effort(body.get("output_config"))
    messages = _messages(body, model)
    blocks = (
        *_tool_blocks(body.get("tools")),
        *_system_blocks(body.get("system")),
        *_message_blocks(messages),
    )
    blocks = _with_breakpoints(blocks, body.get("cache_control"))
    total = REQUEST_TOKENS + sum(block.tokens for block in blocks)
    if total > model.context_tokens and not counting:
        raise prompt_too_long(total, model)
    return Prompt(
        model=model,
        model_name=model_name,
        blocks=blocks,
        tokens=total,
        max_tokens=max_tokens,
        stream=stream,
        thinking=_thinking(body.get("thinking"), model, max_tokens, counting),
        stop_sequences=_stop_sequences(body.get("stop_sequences")),
        system_text=_joined(body.get("system")),
        user_texts=tuple(_joined(m["content"]) for m in messages if m["role"] == "user"),
    )


def prompt_too_long(total: int, model: catalogue.Model) -> ApiError:
    """The 400 for a prompt that does not fit the model's context."""
    return invalid(f"prompt is too long: {total} tokens > {model.context_tokens} maximum")


def _model_name(body: dict[str, Any]) -> str:
    if "model" not in body:
        raise invalid("model: Field required")
    name = body["model"]
    if not isinstance(name, str):
        raise invalid("model: Input should be a valid string")
    if not name:
        raise invalid("model: String should have at least 1 character")
    return name


def _max_tokens(body: dict[str, Any], model: catalogue.Model) -> int:
    if "max_tokens" not in body:
        raise invalid("max_tokens: Field required")
    max_tokens = body["max_tokens"]
    if not isinstance(max_tokens, int) or isinstance(max_tokens, bool):
        raise invalid("max_tokens: Input should be a valid integer")
    if max_tokens < 0:
        raise invalid("max_tokens: must be greater than or equal to 0")
    if max_tokens > model.max_output_tokens:
        raise invalid(
            f"max_tokens: {max_tokens} > {model.max_output_tokens}, which is the maximum allowed number of "
            f"output tokens for {model.id}"
        )
    return max_tokens


def _check_metadata(metadata: object) -> None:
    if metadata is None:
        return
    if not isinstance(metadata, dict) or metadata.keys() - {"user_id"}:
        raise invalid("metadata: Input should be an object with `user_id` only")
    user_id = metadata.get("user_id")
    if user_id is None:
        return
    if not isinstance(user_id, str) or len(user_id) > 256:
        raise invalid("metadata.user_id: String should have at most 256 characters")
    if _EMAIL.search(user_id):
        raise invalid("metadata.user_id: user_id appears to contain an email address")


def _check_effort(output_config: object) -> None:
    if output_config is None:
        return
    if not isinstance(output_config, dict):
        raise invalid("output_config: Input should be an object")
    if output_config.get("effort") not in (None, *_EFFORTS):
        raise invalid(f"output_config.effort: Input should be one of {', '.join(_EFFORTS)}")


def _messages(body: dict[str, Any], model: catalogue.Model) -> list[dict[str, Any]]:
    if "messages" not in body:
        raise invalid("messages: Field required")
    messages = body["messages"]
    if not isinstance(messages, list):
        raise invalid("messages: Input should be a valid list")
    if not messages:
        raise invalid("messages: at least one message is required")
    for index, message in enumerate(messages):
        if not isinstance(message, dict):
            raise invalid(f"messages.{index}: Input should be an object")
        for name in ("role", "content"):
            if name not in message:
                raise invalid(f"messages.{index}.{name}: Field required")
        for name in sorted(message.keys() - {"role", "content"}):
            raise invalid(f"messages.{index}.{name}: Extra inputs are not permitted")
        if message["role"] not in ("user", "assistant", "system"):
            raise invalid(f"messages.{index}.role: Input should be 'user', 'assistant' or 'system'")
        _check_content(index, message["role"], message["content"])
    if messages[0]["role"] != "user":
        raise invalid('messages: first message must use the "user" role')
    if messages[-1]["role"] == "assistant" and not model.accepts_prefill:
        raise invalid(
            "This model does not support assistant message prefill. "
            "The conversation must end with a user message."
        )
    return messages


def _check_content(index: int, role: str, content: object) -> None:
    if isinstance(content, str):
        if not content:
            raise invalid(f"messages.{index}: {role} messages must have non-empty content")
        if not content.strip():
            raise invalid("messages: text content blocks must contain non-whitespace text")
        _check_text(f"messages.{index}.content", content)
        return
    if not isinstance(content, list):
        raise invalid(f"messages.{index}.content: Input should be a valid string or list")
    if not content:
        raise invalid(f"messages.{index}: {role} messages must have non-empty content")
    for position, block in enumerate(content):
        _check_block(f"messages.{index}.content.{position}", block)


def _check_block(where: str, block: object) -> None:
    if not isinstance(block, dict):
        raise invalid(f"{where}: Input should be an object")
    if not isinstance(block.get("type"), str):
        raise invalid(f"{where}.type: Field required")
    if block["type"] == "text":
        text = block.get("text")
        if not isinstance(text, str):
            raise invalid(f"{where}.text: Input should be a valid string")
        if not text:
            raise invalid("messages: text content blocks must be non-empty")
        if not text.strip():
            raise invalid("messages: text content blocks must contain non-whitespace text")
        _check_text(where, text)


def _check_text(where: str, text: str) -> None:
    """Half of a surrogate pair can be written as a JSON escape, and is no text."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise invalid(f"{where}: The request body is not valid JSON: no low surrogate in string") from error


def _tool_blocks(tools: object) -> list[Block]:
    if tools is None:
        return []
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise invalid("tools: Input should be a valid list of objects")
    return [_block("tools", tool) for tool in tools]


def _system_blocks(system: object) -> list[Block]:
    if system is None or system == "":
        return []
    if isinstance(system, str):
        _check_text("system", system)
        return [Block("system", system, tokens.count(system))]
    if not isinstance(system, list):
        raise invalid("system: Input should be a valid string or list")
    for position, block in enumerate(system):
        _check_block(f"system.{position}", block)
        if block["type"] != "text":
            raise invalid(f"system.{position}.type: Input should be 'text'")
    return [_block("system", block) for block in system]


def _message_blocks(messages: list[dict[str, Any]]) -> list[Block]:
    found = []
    for index, message in enumerate(messages):
        # The place tells two messages of one block each from one message of two.
        place, content = f"{message['role']} {index}", message["content"]
        for position, part in enumerate([content] if isinstance(content, str) else content):
            overhead = MESSAGE_TOKENS if position == 0 else 0
            if isinstance(part, str):
                found.append(Block(place, part, overhead + tokens.count(part)))
            else:
                found.append(_block(place, part, overhead))
    return found


def _block(place: str, block: dict[str, Any], overhead: int = 0) -> Block:
    """A block that came as an object; a text is the same block as the bare string would be."""
    kind = block.get("type")
    rest = {key: value for key, value in block.items() if key != "cache_control"}
    if kind == "text" and isinstance(block.get("text"), str):
        content: object = block["text"]
        size = tokens.count(block["text"])
    elif kind in ("image", "document"):
        content, size = rest, ATTACHMENT_TOKENS
    else:
        content, size = rest, tokens.count(json.dumps(rest, ensure_ascii=False))
    return Block(place, content, overhead + size, _ttl(block.get("cache_control")))


def _ttl(cache_control: object) -> TTL | None:
    if cache_control is None:
        return None
    if not isinstance(cache_control, dict) or cache_control.get("type") != "ephemeral":
        raise invalid("cache_control.type: Input should be 'ephemeral'")
    ttl = cache_control.get("ttl", "5m")
    if ttl == "5m":
        return "5m"
    if ttl == "1h":
        return "1h"
    raise invalid("cache_control.ttl: Input should be '5m' or '1h'")


def _with_breakpoints(blocks: tuple[Block, ...], automatic: object) -> tuple[Block, ...]:
    """`blocks` with the breakpoint that top-level `cache_control` sets on the last one."""
    ttl = _ttl(automatic)
    if ttl is not None and blocks[-1].ttl is None:
        last = blocks[-1]
        blocks = (*blocks[:-1], Block(last.place, last.content, last.tokens, ttl))
    ttls = [block.ttl for block in blocks if block.ttl]
    if len(ttls) > CACHE_BREAKPOINTS:
        raise invalid(
            f"A maximum of {CACHE_BREAKPOINTS} blocks with cache_control may be provided. Found {len(ttls)}."
        )
    if ttls != sorted(ttls):  # "1h" sorts before "5m", which is the order that is asked for
        raise invalid("a ttl='1h' cache_control block must not come after a ttl='5m' cache_control block")
    return blocks


def _thinking(config: object, model: catalogue.Model, max_tokens: int, counting: bool) -> Thinking:
    if config is None:
        return Thinking(on=model.always_thinks)
    if not isinstance(config, dict):
        raise invalid("thinking: Input should be an object")
    kind, display = config.get("type"), config.get("display")
    if kind not in ("adaptive", "enabled", "disabled", "between_tools"):
        raise invalid("thinking.type: Input should be 'adaptive', 'between_tools', 'disabled' or 'enabled'")
    if display not in (None, "summarized", "omitted"):
        raise invalid("thinking.display: Input should be 'summarized' or 'omitted'")
    if kind == "disabled" and not model.always_thinks:
        return Thinking()
    if kind == "adaptive" and model.adaptive_thinking:
        return Thinking(on=True, shown=display == "summarized")
    if kind == "enabled" and not model.adaptive_thinking:
        budget = config.get("budget_tokens")
        if not isinstance(budget, int) or budget < 1024:
            raise invalid("thinking.enabled.budget_tokens: Input should be greater than or equal to 1024")
        if budget >= max_tokens and not counting:
            raise invalid("`max_tokens` must be greater than `thinking.budget_tokens`.")
        return Thinking(on=True, shown=display != "omitted")
    raise invalid(f'"thinking.type.{kind}" is not supported for this model.')


def _stop_sequences(sequences: object) -> tuple[str, ...]:
    if sequences is None:
        return ()
    if not isinstance(sequences, list) or not all(isinstance(one, str) and one.strip() for one in sequences):
        raise invalid("stop_sequences: each stop sequence must contain non-whitespace")
    return tuple(sequences)


def _joined(content: object) -> str:
    """The text of a system prompt or a message's content."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(block["text"] for block in content if block.get("type") == "text")
    return ""
