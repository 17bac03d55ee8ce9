"""The ledger in plain Python: what each step is answered, and what there is after it.

It shares no code with the ledger and knows no SQL, so where both agree, both would have to be wrong in the same way.
Steps are data. `Books.after(step)` foretells the reply and gives the books that follow; books that a step refuses
stay as they are. Time is counted in days and passes only when it is told to.
"""

from copy import deepcopy
from dataclasses import dataclass, field
from typing import Literal

Reversal = Literal["refund", "dispute"]

# --- What can be asked -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Open:
    """Hold credits for a turn."""

    wallet: int
    hold: int
    amount: int


@dataclass(frozen=True)
class Close:
    """Settle a hold at a price, or release it for nothing."""

    hold: int
    price: int


@dataclass(frozen=True)
class Pay:
    """An order is paid; `credits` are not those of the order only where somebody has meddled with it."""

    order: int
    credits: int


@dataclass(frozen=True)
class Grant:
    """`expires` is a day, or None for credits that stay."""

    wallet: int
    key: int
    amount: int
    expires: float | None


@dataclass(frozen=True)
class Adjust:
    wallet: int
    key: int
    amount: int


@dataclass(frozen=True)
class TakeBack:
    order: int
    key: int
    kind: Reversal
    amount: int


@dataclass(frozen=True)
class GiveBack:
    order: int
    key: int
    kind: Reversal
    amount: int


@dataclass(frozen=True)
class Expire:
    wallet: int


Step = Open | Close | Pay | Grant | Adjust | TakeBack | GiveBack | Expire

# --- What is answered ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Held:
    amount: int


@dataclass(frozen=True)
class Settled:
    charged: int
    overrun: int


@dataclass(frozen=True)
class Moved:
    """A transfer: the same one again for a key that is repeated."""

    key: str
    change: int
    balance: int


@dataclass(frozen=True)
class Expired:
    amounts: tuple[int, ...]


@dataclass(frozen=True)
class Refused:
    """By which error of ours, or by which rule of PostgreSQL's."""

    because: str
    available: int | None = None
    needed: int | None = None


Reply = Held | Settled | Moved | Expired | Refused


class _Refusal(Exception):
    def __init__(self, because: str, available: int | None = None, needed: int | None = None) -> None:
        super().__init__(because)
        self.reply = Refused(because, available, needed)


# --- The books -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Order:
    wallet: int
    credits: int
    expires: float | None


@dataclass(frozen=True)
class Transfer:
    """`change` is to the wallet: 0 for what moves within the house."""

    key: str
    kind: str
    wallet: int
    change: int
    balance: int | None
    amount: int
    order: int | None = None
    expires: float | None = None
    source: str | None = None

    def says_the_same_as(self, other: "Transfer") -> bool:
        """Whether it was asked for in the same words; its balance is an answer."""
        return (self.kind, self.wallet, self.change, self.order, self.expires, self.source) == (
            *(other.kind, other.wallet, other.change, other.order, other.expires, other.source),
        )


@dataclass
class Hold:
    wallet: int
    amount: int
    since: float
    state: str = "pending"


@dataclass
class Lot:
    """Credits that expire; `key` is of the transfer that brought them."""

    key: str
    wallet: int
    remaining: int
    expires: float


@dataclass
class Books:
    """Everything there is. Lists stand in the order in which it came to be."""

    orders: dict[int, Order]
    balances: list[int]
    today: float = 0.0
    transfers: list[Transfer] = field(default_factory=list)
    holds: dict[int, Hold] = field(default_factory=dict)
    lots: list[Lot] = field(default_factory=list)
    uses: list[tuple[str, str, int]] = field(default_factory=list)

    def after(self, step: Step) -> tuple[Reply, "Books"]:
        """What `step` is answered, and the books that follow: these here if it is refused."""
        following = deepcopy(self)
        try:
            return following._take(step), following
        except _Refusal as refusal:
            return refusal.reply, self

    def held(self, wallet: int) -> int:
        return sum(hold.amount for hold in self._pending(wallet))

    def available(self, wallet: int) -> int:
        return self.balances[wallet] - self.held(wallet)

    # --- The steps

    def _take(self, step: Step) -> Reply:
        match step:
            case Open(wallet, hold, amount):
                return self._open(wallet, hold, amount)
            case Close(hold, price):
                return self._close(hold, price)
            case Expire(wallet):
                return Expired(tuple(self._expire(wallet)))
            case Pay(order, credits):
                return self._pay(order, credits)
            case Grant(wallet, key, amount, expires):
                self._expire(wallet)
                return self._move(f"grant:{key}", "grant", wallet, amount, amount, expires=expires)
            case Adjust(wallet, key, amount):
                self._expire(wallet)
                return self._move(f"adjustment:{key}", "adjustment", wallet, amount, abs(amount))
            case TakeBack(order, key, kind, amount):
                return self._reverse(order, key, kind, -amount, amount)
            case GiveBack(order, key, kind, amount):
                return self._reverse(order, key, kind, amount, amount)

    def _open(self, wallet: int, hold: int, amount: int) -> Reply:
        self._expire(wallet)
        if amount > self.available(wallet):
            raise _Refusal("InsufficientCredits", self.available(wallet), amount)
        if amount <= 0:
            raise _Refusal("hold_amount_is_positive")
        if hold in self.holds:
            raise _Refusal("billing_hold_pkey")
        self.holds[hold] = Hold(wallet, amount, self.today)
        return Held(amount)

    def _close(self, hold: int, price: int) -> Reply:
        held = self.holds.get(hold)
        if held is None:
            raise _Refusal("DoesNotExist")
        if held.state != "pending":
            raise _Refusal("HoldEnded")
        held.state = "settled" if price else "released"
        charged = min(price, held.amount)
        if charged:
            self._move(f"charge:{hold}", "charge", held.wallet, -charged, charged, since=held.since)
        if price > charged:
            overrun = price - charged
            self.transfers.append(
                Transfer(f"overrun:{hold}", "overrun", held.wallet, change=0, balance=None, amount=overrun)
            )
        return Settled(charged, price - charged)

    def _pay(self, number: int, credits: int) -> Reply:
        order = self.orders[number]
        self._expire(order.wallet)
        reply = self._move(
            *(f"purchase:{number}", "purchase", order.wallet, credits, credits),
            order=number,
            expires=order.expires,
        )
        if credits != order.credits:
            raise _Refusal("a purchase credits what its order says to who ordered it")
        return reply

    def _reverse(self, number: int, key: int, kind: Reversal, change: int, amount: int) -> Reply:
        order = self.orders[number]
        self._expire(order.wallet)
        reply = self._move(f"{kind}:{key}", kind, order.wallet, change, amount, order=number)
        left = sum(transfer.change for transfer in self.transfers if transfer.order == number)
        # What has expired of it is not there to be taken.
        expired = sum(made.amount for made in self.transfers if made.source == f"purchase:{number}")
        least = expired if change < 0 else 0
        if not self._is_paid(number) or not least <= left <= order.credits:
            raise _Refusal("a reversal takes back, or gives back, a part of a purchase of this wallet")
        return reply

    # --- What they are made of

    def _move(
        self,
        key: str,
        kind: str,
        wallet: int,
        change: int,
        amount: int,
        *,
        order: int | None = None,
        expires: float | None = None,
        source: str | None = None,
        since: float | None = None,
    ) -> Moved:
        asked = Transfer(
            *(key, kind, wallet, change, self.balances[wallet] + change, amount),
            order=order,
            expires=expires,
            source=source,
        )
        for before in self.transfers:
            if before.key == key:
                if not asked.says_the_same_as(before) or before.balance is None:
                    raise _Refusal("KeyReused")
                return Moved(key, before.change, before.balance)
        if kind == "adjustment" and change <= 0 and amount > self.available(wallet):
            raise _Refusal("InsufficientCredits", self.available(wallet), amount)
        if amount <= 0:
            raise _Refusal("transfer_amount_is_positive")
        self.balances[wallet] += change
        self.transfers.append(asked)
        if expires is not None:
            self.lots.append(Lot(key, wallet, amount, expires))
            # What was below zero before is repaid first.
            self._use(self.lots[-1], key, min(amount, max(0, amount - self.balances[wallet])))
        if change < 0:
            self._use_lots(asked, self.today if since is None else since)
        return Moved(key, change, self.balances[wallet])

    def _use_lots(self, transfer: Transfer, since: float) -> None:
        wanted = transfer.amount
        for lot in sorted(self.lots, key=lambda lot: lot.expires):
            match transfer.kind:
                case "expiry":
                    may = lot.key == transfer.source
                case "refund" | "dispute":
                    may = lot.key == f"purchase:{transfer.order}"
                case _:
                    may = lot.wallet == transfer.wallet and lot.expires > since
            used = min(wanted, lot.remaining) if may else 0
            self._use(lot, transfer.key, used)
            wanted -= used
        # No more can expire than there is.
        lots = [lot for lot in self.lots if lot.wallet == transfer.wallet]
        beyond = sum(lot.remaining for lot in lots) - max(0, self.balances[transfer.wallet])
        for lot in sorted(lots, key=lambda lot: lot.expires):
            used = min(max(0, beyond), lot.remaining)
            self._use(lot, transfer.key, used)
            beyond -= used

    def _use(self, lot: Lot, transfer: str, amount: int) -> None:
        if amount:
            lot.remaining -= amount
            self.uses.append((lot.key, transfer, amount))

    def _expire(self, wallet: int) -> list[int]:
        """Each pending hold first reserves what it may still use, soonest expiry first; the rest has expired."""
        needs = [(hold.since, hold.amount) for hold in self._pending(wallet)]
        booked = []
        for lot in sorted(self.lots, key=lambda lot: lot.expires):
            if lot.wallet != wallet or lot.expires > self.today:
                continue
            spare = lot.remaining
            for number, (since, need) in enumerate(needs):
                if since < lot.expires:
                    reserved = min(spare, need)
                    needs[number] = (since, need - reserved)
                    spare -= reserved
            if spare:
                key = f"expiry:{lot.key}:{lot.remaining}"
                self._move(key, "expiry", wallet, -spare, spare, source=lot.key)
                booked.append(spare)
        return booked

    def _pending(self, wallet: int) -> list[Hold]:
        return [hold for hold in self.holds.values() if hold.wallet == wallet and hold.state == "pending"]

    def _is_paid(self, order: int) -> bool:
        return any(transfer.key == f"purchase:{order}" for transfer in self.transfers)
