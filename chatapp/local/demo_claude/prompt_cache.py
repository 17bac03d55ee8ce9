"""Prompt caching as a client sees it: the tokens of a prompt that are read, written, or neither."""

import hashlib
import time
from dataclasses import dataclass, field

from .prompt import TTL, Prompt

LIFETIME_SECONDS: dict[TTL, float] = {"5m": 300.0, "1h": 3600.0}

# How many blocks back from a breakpoint an earlier write is looked for.
LOOK_BACK_BLOCKS = 20

MAX_ENTRIES = 50_000


@dataclass(frozen=True)
class InputUsage:
    """A prompt's tokens, each counted once: `uncached` + `read` + `written_5m` + `written_1h` is its size."""

    uncached: int
    read: int = 0
    written_5m: int = 0
    written_1h: int = 0

    @property
    def written(self) -> int:
        """Tokens written to the cache, whatever their lifetime."""
        return self.written_5m + self.written_1h


@dataclass
class _Entry:
    ttl: TTL
    expires_at: float


@dataclass
class PromptCache:
    """What was cached, by the hash of each prefix, per API key and model."""

    _entries: dict[bytes, _Entry] = field(default_factory=dict)
    _ahead_seconds: float = 0.0

    def clear(self) -> None:
        """Forget every prefix, and set the clock right."""
        self._entries.clear()
        self._ahead_seconds = 0.0

    def advance(self, seconds: float) -> None:
        """Put the cache's clock forward, so that lifetimes can be seen to end."""
        self._ahead_seconds += seconds

    def use(self, prompt: Prompt, api_key: str) -> InputUsage:
        """Answers `prompt` from the cache as far as it goes, and writes what its breakpoints ask for."""
        breakpoints = [index for index, block in enumerate(prompt.blocks) if block.ttl]
        if not breakpoints:
            return InputUsage(uncached=prompt.tokens)
        now = time.monotonic() + self._ahead_seconds
        prefixes, sizes = _prefixes(prompt, api_key)
        hit = self._longest_hit(breakpoints, prefixes, now)
        counted = read = sizes[hit] if hit is not None else 0
        written: dict[TTL, int] = {"5m": 0, "1h": 0}
        for index in breakpoints:
            ttl = prompt.blocks[index].ttl
            if ttl is None or sizes[index] < prompt.model.cache_minimum_tokens or sizes[index] <= read:
                continue
            written[ttl] += sizes[index] - counted
            counted = sizes[index]
            self._entries[prefixes[index]] = _Entry(ttl, now + LIFETIME_SECONDS[ttl])
        self._prune(now)
        return InputUsage(prompt.tokens - counted, read, written["5m"], written["1h"])

    def _longest_hit(self, breakpoints: list[int], prefixes: list[bytes], now: float) -> int | None:
        """The last block up to which the prompt is cached; what is read starts its lifetime anew."""
        looked_at = {
            index - back for index in breakpoints for back in range(LOOK_BACK_BLOCKS) if index - back >= 0
        }
        hit = None
        for index in sorted(looked_at):
            entry = self._entries.get(prefixes[index])
            if entry is not None and entry.expires_at > now:
                entry.expires_at = now + LIFETIME_SECONDS[entry.ttl]
                hit = index
        return hit

    def _prune(self, now: float) -> None:
        if len(self._entries) <= MAX_ENTRIES:
            return
        live = {key: entry for key, entry in self._entries.items() if entry.expires_at > now}
        self._entries = dict(list(live.items())[-MAX_ENTRIES // 2 :])


def _prefixes(prompt: Prompt, api_key: str) -> tuple[list[bytes], list[int]]:
    """For each block, the hash of everything up to and with it, and the tokens of the same."""
    digest = hashlib.blake2b(f"{prompt.model.id}\0{api_key}\0".encode(), digest_size=16)
    prefixes, sizes, size = [], [], 0
    for block in prompt.blocks:
        digest.update(block.identity())
        size += block.tokens
        prefixes.append(digest.digest())
        sizes.append(size)
    return prefixes, sizes
