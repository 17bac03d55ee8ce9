"""Webhooks: events signed and sent, again after failures, and on request with every fault of a network."""

import asyncio
import hashlib
import hmac
import json
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import aiohttp

from chatapp.local.demo_stripe.objects import Json

LONGEST_WAIT_SECONDS = 60.0
MOST_ATTEMPTS = 16


@dataclass(frozen=True)
class Faults:
    """How deliveries go wrong, until told otherwise. Without arguments they do not."""

    types: tuple[str, ...] = ()
    """Only events of these types are treated so; none named: all."""
    repeat: int = 1
    """So many copies at once."""
    delay_seconds: float = 0.0
    drop: bool = False
    hold: bool = False
    """Keep them until `POST /demo/release`."""
    reorder: int = 0
    """Wait for so many, then send them last first."""
    forge: bool = False
    """Sign with a secret that is not the endpoint's."""
    api_version: str | None = None
    timestamp_offset: int = 0
    """Seconds added to the signature's timestamp: negative is old, positive is from the future."""
    retry_seconds: float | None = None
    """Instead of the usual wait before a failed delivery is repeated."""

    def concern(self, event: Json) -> bool:
        return not self.types or event["type"] in self.types


NO_FAULTS = Faults()


def sign(body: bytes, secret: str, timestamp: int) -> str:
    """The `Stripe-Signature` header, written down from Stripe's documentation and not through the SDK: what
    checks it in the product is then compared with something else than itself."""
    mac = hmac.new(secret.encode(), f"{timestamp}.".encode() + body, hashlib.sha256)
    return f"t={timestamp},v1={mac.hexdigest()}"


@dataclass
class Deliveries:
    """Sends events to one endpoint, each in a task of its own, as Stripe does: in no promised order."""

    url: str
    secret: str
    retry_seconds: float
    delivered: Callable[[str], None]
    faults: Faults = NO_FAULTS
    log: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=2000))
    _held: list[Json] = field(default_factory=list)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _http: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        self._http = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=30, sock_connect=5),
            headers={"User-Agent": "Stripe/1.0 (+https://stripe.com/docs/webhooks)"},
        )

    async def reset(self) -> None:
        """As after the start: what was not delivered yet never will be."""
        self.faults = NO_FAULTS
        self._held.clear()
        self.log.clear()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def close(self) -> None:
        await self.reset()
        if self._http:
            await self._http.close()

    def send(self, event: Json) -> None:
        """Deliver an event, with the faults that are on now."""
        faults = self.faults if self.faults.concern(event) else NO_FAULTS
        if faults.drop:
            self._note(event, attempt=0, error="dropped")
            self.delivered(event["id"])
        elif faults.hold or faults.reorder:
            self._held.append(event)
            if faults.reorder and len(self._held) >= faults.reorder:
                self.release(last_first=True)
        else:
            for _ in range(faults.repeat):
                self._start(self._deliver(event, faults))

    def release(self, *, last_first: bool = False) -> int:
        """Send what is held, one after the other in the order asked for; returns how many."""
        events, self._held = self._held, []
        if last_first:
            events.reverse()
        faults = replace(self.faults, hold=False, reorder=0)
        self._start(self._deliver_in_order(events, faults))
        return len(events)

    async def idle(self) -> None:
        """Return once nothing is being sent or waits to be sent again."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _start(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _deliver_in_order(self, events: list[Json], faults: Faults) -> None:
        for event in events:
            await asyncio.gather(*(self._deliver(event, faults) for _ in range(faults.repeat)))

    async def _deliver(self, event: Json, faults: Faults) -> None:
        await asyncio.sleep(faults.delay_seconds)
        wait = self.retry_seconds if faults.retry_seconds is None else faults.retry_seconds
        for attempt in range(1, MOST_ATTEMPTS + 1):
            status = await self._post(event, faults, attempt)
            # Stripe would repeat a refused one (4xx) for days too; here that would only be noise.
            if status is not None and status < 500:
                break
            await asyncio.sleep(wait)
            wait = min(wait * 2, LONGEST_WAIT_SECONDS)
        self.delivered(event["id"])

    async def _post(self, event: Json, faults: Faults, attempt: int) -> int | None:
        sent = {**event, "api_version": faults.api_version} if faults.api_version else event
        body = json.dumps(sent, indent=2).encode()
        secret = "whsec_somebody_elses" if faults.forge else self.secret
        signature = sign(body, secret, int(time.time()) + faults.timestamp_offset)
        headers = {"Content-Type": "application/json; charset=utf-8", "Stripe-Signature": signature}
        if self._http is None:
            raise RuntimeError("deliveries are not open")
        try:
            async with self._http.post(self.url, data=body, headers=headers, allow_redirects=False) as answer:
                text = (await answer.text(errors="replace"))[:500]
                self._note(event, attempt=attempt, status=answer.status, body=text)
                return answer.status
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self._note(event, attempt=attempt, error=f"{type(error).__name__}: {error}")
            return None

    def _note(self, event: Json, *, attempt: int, **facts: Any) -> None:
        self.log.append({"event": event["id"], "type": event["type"], "attempt": attempt, **facts})
