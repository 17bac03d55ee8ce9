"""A circuit breaker: what keeps failing is left alone for a while, and then tried again by one at a time."""

import time
from collections.abc import Callable

# So many failures in a row, and nobody asks any more ...
FAILURES = 3
# ... for so long; then one turn tries.
REST_SECONDS = 30.0
# Whatever it asks for, so long after it is tried again.
LONGEST_REST_SECONDS = 300.0


class Breaker:
    """Whether a provider is worth asking now; every process finds out for itself."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures = 0
        self._rests_until = 0.0

    def lets_through(self) -> bool:
        """Whether to ask. While it rests nobody does; after that one does, and the others wait for how that goes."""
        if self._failures < FAILURES:
            return True
        if self._clock() < self._rests_until:
            return False
        self._rests_until = self._clock() + REST_SECONDS
        return True

    def succeeded(self) -> None:
        """It has shown that it works."""
        self._failures = 0

    def failed(self, retry_after: float | None = None) -> None:
        """It could not say a word. A provider that says how long it wants to be left alone is left so long,
        within LONGEST_REST_SECONDS.
        """
        self._failures += 1
        if self._failures >= FAILURES:
            rest = min(max(REST_SECONDS, retry_after or 0.0), LONGEST_REST_SECONDS)
            self._rests_until = self._clock() + rest
