"""A memory of servers that are away, so that not everybody who comes has to find out."""

import threading
import time

PRESENT = 0.0


class Absence:
    """Whether a server is there, as far as this process knows; from any thread."""

    def __init__(self, retry_seconds: float) -> None:
        """While it is away, one attempt is made in so many seconds."""
        self.retry_seconds = retry_seconds
        self.until = PRESENT
        self._lock = threading.Lock()

    def lets_try(self) -> bool:
        """Whether to ask the server: always while it is there, else for one caller every `retry_seconds`."""
        if self.until == PRESENT:
            return True
        with self._lock:
            now = time.monotonic()
            if now < self.until:
                return False
            self.until = now + self.retry_seconds
            return True

    def begins(self) -> None:
        """It did not answer."""
        self.until = time.monotonic() + self.retry_seconds

    def ends(self) -> None:
        """It answered."""
        self.until = PRESENT
