"""The models the demo knows, with the limits and habits that a client can notice."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Model:
    """One model.

    `context_tokens` bounds prompt and answer together, `max_output_tokens` the answer. Prompts are cached
    from `cache_minimum_tokens` on. `always_thinks`: thinking cannot be switched off, and is billed unasked.
    """

    id: str
    name: str
    line: str
    released: str
    context_tokens: int = 1_000_000
    max_output_tokens: int = 128_000
    cache_minimum_tokens: int = 512
    always_thinks: bool = False
    adaptive_thinking: bool = True
    accepts_prefill: bool = False
    aliases: tuple[str, ...] = ()
    deprecated_at: str | None = None
    retires_at: str | None = None

    def info(self) -> dict[str, Any]:
        """The model as `GET /v1/models` tells it."""
        return {
            "type": "model",
            "id": self.id,
            "display_name": self.name,
            "line": self.line,
            "created_at": self.released,
            "lifecycle": "deprecated" if self.deprecated_at else "active",
            "deprecated_at": self.deprecated_at,
            "retires_at": self.retires_at,
            "max_input_tokens": self.context_tokens,
            "max_tokens": self.max_output_tokens,
            "capabilities": self._capabilities(),
        }

    def _capabilities(self) -> dict[str, Any]:
        def supported(yes: bool) -> dict[str, bool]:
            return {"supported": yes}

        return {
            "batch": supported(False),
            "citations": supported(False),
            "code_execution": supported(False),
            "context_management": supported(False),
            "effort": {
                "supported": self.adaptive_thinking,
                **{
                    level: supported(self.adaptive_thinking)
                    for level in ("low", "medium", "high", "xhigh", "max")
                },
            },
            "image_input": supported(True),
            "pdf_input": supported(True),
            "server_tools": {
                "supported": False,
                "web_search": supported(False),
                "code_execution": supported(False),
            },
            "structured_outputs": supported(False),
            "thinking": {
                "supported": True,
                "types": {
                    "adaptive": supported(self.adaptive_thinking),
                    "between_tools": supported(False),
                    "disabled": supported(not self.always_thinks),
                    "enabled": supported(not self.adaptive_thinking),
                },
            },
        }


# The most recently released first, as the API lists them; of the release dates only the order is meant.
MODELS: tuple[Model, ...] = (
    Model("claude-fable-5-2", "Claude Fable 5.2", "fable", "2026-10-28T00:00:00Z", always_thinks=True),
    Model("claude-haiku-5-5", "Claude Haiku 5.5", "haiku", "2026-10-14T00:00:00Z"),
    Model("claude-sonnet-5-5", "Claude Sonnet 5.5", "sonnet", "2026-09-22T00:00:00Z"),
    Model("claude-opus-5-5", "Claude Opus 5.5", "opus", "2026-09-01T00:00:00Z", always_thinks=True),
    Model("claude-opus-5", "Claude Opus 5", "opus", "2026-06-16T00:00:00Z"),
    Model("claude-opus-4-8", "Claude Opus 4.8", "opus", "2026-05-12T00:00:00Z", cache_minimum_tokens=1024),
    Model("claude-opus-4-7", "Claude Opus 4.7", "opus", "2026-04-14T00:00:00Z", cache_minimum_tokens=1024),
    Model("claude-opus-4-6", "Claude Opus 4.6", "opus", "2026-02-05T00:00:00Z", cache_minimum_tokens=1024),
    Model(
        "claude-opus-4-5",
        "Claude Opus 4.5",
        "opus",
        "2025-11-24T00:00:00Z",
        context_tokens=200_000,
        max_output_tokens=64_000,
        cache_minimum_tokens=4096,
        adaptive_thinking=False,
        accepts_prefill=True,
        aliases=("claude-opus-4-5-20251101",),
    ),
    Model(
        "claude-haiku-4-5",
        "Claude Haiku 4.5",
        "haiku",
        "2025-10-15T00:00:00Z",
        context_tokens=200_000,
        max_output_tokens=64_000,
        cache_minimum_tokens=4096,
        adaptive_thinking=False,
        accepts_prefill=True,
        aliases=("claude-haiku-4-5-20251001",),
    ),
    Model(
        "claude-sonnet-4-5",
        "Claude Sonnet 4.5",
        "sonnet",
        "2025-09-29T00:00:00Z",
        context_tokens=200_000,
        max_output_tokens=64_000,
        cache_minimum_tokens=1024,
        adaptive_thinking=False,
        accepts_prefill=True,
        aliases=("claude-sonnet-4-5-20250929",),
        deprecated_at="2026-05-29T00:00:00Z",
        retires_at="2026-11-30T00:00:00Z",
    ),
)

_BY_NAME = {name: model for model in MODELS for name in (model.id, *model.aliases)}


def find(name: str) -> Model | None:
    """The model called `name`, by id or alias."""
    return _BY_NAME.get(name)
