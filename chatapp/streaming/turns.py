"""A turn from its first row to its last: open, generate, close.

`open` and `close` are one short transaction each; between them a turn holds no database connection. The call to
the provider belongs to the task that runs `generate` and not to any request. Whoever closes a turn locks the wallet
that pays for it and looks whether it still runs: closing twice is impossible, whoever comes second does nothing.
PostgreSQL changes no turn that has ended.
"""

import asyncio
import hashlib
import json
import math
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import structlog
from django.db import IntegrityError, transaction
from django.utils.text import Truncator

from accounts.models import User
from billing import ledger, offers, pricing, sql
from billing.credits import as_string
from billing.errors import CreditsExpired, InsufficientCredits
from billing.ledger import Settlement
from billing.models import Account, LanguageModel, Price
from billing.pricing import Usage
from billing.sql import Statement
from chatapp.conversations import rows
from chatapp.conversations.models import Conversation, Message, Recap, Turn
from chatapp.conversations.rows import FromNow
from chatapp.failures import FAILURES
from chatapp.problems import Problem, invalid, not_found
from chatapp.streaming import guard, history, limits, prompts
from chatapp.streaming.events import Balance, Done, Ending, Failed, Started
from chatapp.streaming.history import History
from chatapp.streaming.live import PROCESS, LiveTurn
from chatapp.streaming.providers.base import (
    Accepted,
    Asked,
    Delta,
    Fallback,
    Finished,
    Prompt,
    Provider,
    ProviderError,
    Said,
    Thought,
)

log = structlog.get_logger(__name__)

# Below so many tokens an answer is not worth starting.
LEAST_ANSWER_TOKENS = 256
# However it pings, a provider that has not come to its end by then is cut.
LONGEST_TURN_SECONDS = 3600
WORDS = (Said, Thought)


@dataclass(frozen=True, slots=True)
class Ask:
    """What a client asks for. No `parent` goes on at the end of the shown branch; the conversation itself as the
    parent makes a new first message.
    """

    id: uuid.UUID
    text: str
    conversation: uuid.UUID | None = None
    model: str | None = None
    parent: uuid.UUID | None = None
    regenerate: uuid.UUID | None = None

    @property
    def fingerprint(self) -> str:
        """The same for the same request, whenever and however often it is sent."""
        content = [self.conversation, self.text, self.model, self.parent, self.regenerate]
        return hashlib.sha256(json.dumps(content, default=str).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Opened:
    """A turn, and what to ask the provider when it is this call that opened it."""

    turn: Turn
    request: "Request | None" = None


@dataclass(frozen=True, slots=True)
class Request:
    """What to ask; `history` is what of the conversation stands in it, `cut` the place where it was cut for that."""

    prompt: Prompt
    history: History
    cut: Recap | None


# --- Open ------------------------------------------------------------------------------------------------


def open(user: User, ask: Ask, source: limits.Source = limits.ITSELF) -> Opened:
    """Store the message, an empty answer, the turn and its hold in one transaction; or join the turn of this id.

    Problem 400 / 404 / 409 / 429, or InsufficientCredits: then nothing was stored but what the guard found, and no
    provider was called.
    """
    # What is refused now may have been let through when it was sent first.
    if guard.refuses() and (joined := join(user, ask)) is not None:
        return joined
    finding = guard.examine(user, ask.id, ask.text if ask.regenerate is None else "")
    while True:
        try:
            return _open(user, ask, source, finding)
        except CreditsExpired:
            # In the moment between the lock and the hold: what is left may do for a shorter answer. The next lock finds
            # them expired, so this comes to an end. A place among those of its key and its address is taken by now.
            source = limits.ITSELF
        except IntegrityError:
            # Somebody else used this very id in the meantime.
            if (joined := join(user, ask)) is not None:
                return joined
            raise


@transaction.atomic
def _open(user: User, ask: Ask, source: limits.Source, finding: guard.Finding | None) -> Opened:
    # Everything a person opens or closes waits here, so copies of one request come one by one, and what is available
    # below stays so, but for credits that expire.
    wallet, (standing, offer) = ledger.lock_wallet_of(
        user, limits.standing(user, ask.id), offers.price_of(ask.model)
    )
    copy = join(user, ask) if standing.id_is_taken else None
    return copy or _opened(user, ask, wallet, standing, offer, source, finding)


def join(user: User, ask: Ask) -> Opened | None:
    """The turn of this id, if there is one. Problem 404 if it is somebody else's, 409 if it asked for other things."""
    turn = Turn.objects.filter(pk=ask.id).first()
    if turn is None:
        return None
    if turn.user_id != user.pk:
        raise not_found("turn")
    if turn.fingerprint != ask.fingerprint:
        raise Problem(409, "turn_conflict", "This id was used for another message. Send yours with a new id.")
    return Opened(turn)


def _opened(
    user: User,
    ask: Ask,
    wallet: Account,
    standing: limits.Standing,
    offer: Price | None,
    source: limits.Source,
    finding: guard.Finding | None,
) -> Opened:
    conversation = _conversation(user, ask, standing)
    question = _question(conversation, ask)
    price = _price(conversation, ask, offer)
    model = price.model
    fallback_price = _fallback_price(model)
    standing.check()
    system = prompts.system(person=user.instructions, conversation=conversation.instructions)
    whole, scale = history.read(question)
    sent = history.within(whole, history.budget(model), scale, beside_bytes=len(system.encode()))
    prompt = Prompt(
        model=model.id,
        system=system,
        messages=sent.messages,
        max_tokens=model.answer_tokens,
        thinks=model.thinks,
        person=hashlib.sha256(str(user.pk).encode()).hexdigest(),
        provider=model.provider,
        fallback=_fallback(fallback_price),
    )
    # Whoever answers in the end: the dearer of them is held for.
    prices = [price] if fallback_price is None else [price, fallback_price]
    max_tokens = _affordable(wallet, prompt, prices)
    amount = _worst_case(prompt, max_tokens, prices)
    limits.take(source)

    answer = Message(conversation=conversation, parent=question, role=Message.Role.ASSISTANT)
    turn = Turn(
        id=ask.id,
        user=user,
        conversation=conversation,
        user_message=question,
        assistant_message=answer,
        fingerprint=ask.fingerprint,
        model=model,
        price=price,
        fallback_price=fallback_price,
        max_tokens=max_tokens,
        limited_by_balance=max_tokens < prompt.max_tokens,
        held=amount,
        writer=PROCESS,
    )
    guard.keep(finding, user=user, turn_id=turn.pk)
    cut = None if sent is whole else history.keep_cut(sent)
    stored = _rows_of(conversation, question, answer, turn)
    ledger.hold(wallet=wallet, hold_id=ask.id, amount=amount, then=stored)
    return Opened(turn, Request(replace(prompt, max_tokens=max_tokens), sent, cut))


def _conversation(user: User, ask: Ask, standing: limits.Standing) -> Conversation:
    """The conversation asked for, or one that is to be stored with its first message."""
    if ask.conversation is None:
        title = Truncator(" ".join(ask.text.split())).chars(60)
        return Conversation(user=user, title=title)
    conversation = Conversation.objects.of(user).filter(pk=ask.conversation).first()
    if conversation is None:
        raise not_found("conversation")
    if standing.runs_in(conversation.pk):
        raise Problem(
            409,
            "turn_running",
            "An answer is still being written in this conversation. Wait for it, or stop it.",
        )
    return conversation


def _question(conversation: Conversation, ask: Ask) -> Message:
    """The person's message, new or (to regenerate) as it stands."""
    if ask.regenerate is not None:
        asked = Message.objects.filter(
            pk=ask.regenerate, conversation=conversation, role=Message.Role.USER
        ).first()
        if asked is None:
            raise not_found("message")
        return asked
    parent: uuid.UUID | None
    if ask.parent is None:
        parent = conversation.tip_id
    elif ask.parent == conversation.pk:
        parent = None
    else:
        found = Message.objects.filter(pk=ask.parent, conversation=conversation).first()
        if found is None:
            raise not_found("message")
        if found.role != Message.Role.ASSISTANT:
            raise invalid(parent="A message can only follow an answer. To ask again, use regenerate.")
        parent = found.pk
    return Message(conversation=conversation, parent_id=parent, role=Message.Role.USER, text=ask.text)


def _price(conversation: Conversation, ask: Ask, offer: Price | None) -> Price:
    """At what the answer is sold, and so the model that is asked.

    `offer` is that of the model asked for, or else of the first one on sale.
    """
    if ask.model:
        if offer is None:
            raise invalid(model="This model is not on offer. GET /api/v1/models lists those that are.")
        return offer
    if conversation.model_id and (offer is None or offer.model_id != conversation.model_id):
        [of_conversation] = sql.run(offers.price_of(conversation.model_id))
        offer = of_conversation or offer
    if offer is None:
        raise Problem(503, "unavailable", "No model is on sale right now. The operator has to offer one.")
    return offer


def _fallback_price(model: LanguageModel) -> Price | None:
    """At what a model of another provider answers when this one cannot begin; None if there is no such model."""
    if model.standby is None:
        return None
    return Price.objects.select_related("model").in_force().filter(model=model.standby).first()


def _rows_of(
    conversation: Conversation, question: Message, answer: Message, turn: Turn
) -> Iterator[Statement[None]]:
    """What stores the messages, that their branch is the one shown, and the turn. A row may come after what points to
    it: PostgreSQL looks at the end of the transaction.
    """
    if conversation._state.adding:
        conversation.tip, conversation.model = answer, turn.model
        yield rows.insert(conversation)
    else:
        yield rows.update(
            Conversation, conversation.pk, tip_id=answer.pk, model_id=turn.model_id, updated_at=FromNow()
        )
    yield from (rows.insert(message) for message in (question, answer) if message._state.adding)
    yield rows.insert(turn)


def _fallback(price: Price | None) -> Fallback | None:
    return Fallback(price.model_id, price.model.provider, price.model.thinks) if price else None


def _worst_case(prompt: Prompt, max_tokens: int, prices: list[Price]) -> int:
    return max(
        pricing.worst_case(prompt_tokens=prompt.bound_tokens, max_tokens=max_tokens, price=price)
        for price in prices
    )


def _affordable(wallet: Account, prompt: Prompt, prices: list[Price]) -> int:
    """How many tokens of answer the wallet affords at each of `prices`, up to what we ask for."""
    least = min(LEAST_ANSWER_TOKENS, prompt.max_tokens)
    tokens = min(
        pricing.affordable_tokens(available=wallet.available, prompt_tokens=prompt.bound_tokens, price=price)
        for price in prices
    )
    if tokens < least:
        raise InsufficientCredits(available=wallet.available, needed=_worst_case(prompt, least, prices))
    return min(tokens, prompt.max_tokens)


def started(turn: Turn) -> Started:
    return Started(
        turn=turn.pk,
        conversation=turn.conversation_id,
        user_message=turn.user_message_id,
        assistant_message=turn.assistant_message_id,
        model=turn.model_id,
        held=as_string(turn.held),
    )


# --- Generate --------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Outcome:
    """What came of asking; filled while the answer arrives. `model` and `provider` are those who were asked last."""

    model: str = ""
    provider: str = ""
    prompt_bytes: int = 0
    usage: Usage | None = None
    request_id: str = ""
    stop_reason: str = ""
    first_token_ms: int | None = None
    finished: bool = False
    counted: bool = False
    error: ProviderError | None = None
    began: float = field(default_factory=time.monotonic)

    def mark_first_token(self) -> None:
        if self.first_token_ms is None:
            self.first_token_ms = round((time.monotonic() - self.began) * 1000)


async def generate(
    live: LiveTurn,
    request: Request,
    provider: Provider,
    keep_cut: Callable[[History], Awaitable[None]],
) -> Outcome:
    """Ask `provider` and pass on what it says, until its end, its failure, or nobody wants it any more.

    If the prompt is too long for it, less of the history is sent, and `keep_cut` told how much.
    """
    outcome = Outcome(model=request.prompt.model, provider=request.prompt.provider)

    async def read() -> None:
        asked, shorter = request.prompt, request.history.ever_shorter()
        while True:
            outcome.prompt_bytes = asked.size_bytes
            try:
                return await provider.stream(asked, hear)
            except ProviderError as error:
                too_long = error.code == "context_too_long" and outcome.first_token_ms is None
                less = next(shorter, None) if too_long else None
                if less is None:
                    raise
                log.warning("asking again with less", turn=str(live.id), messages=len(less.lines))
            await keep_cut(less)
            asked = replace(asked, messages=less.messages)

    def hear(delta: Delta) -> None:
        if isinstance(delta, WORDS):  # as nearly all are: to match the cases takes longer than all else here
            if delta.text:
                outcome.mark_first_token()
                say = live.say if isinstance(delta, Said) else live.think
                say(delta.text)
            return
        match delta:
            case Asked(model, asked):
                outcome.model, outcome.provider = model, asked
                # Whoever was asked before has not said anything, and is not paid for it.
                outcome.usage, outcome.request_id = None, ""
            case Accepted(usage, request_id):
                outcome.usage, outcome.request_id = usage, request_id
            case Finished("model_context_window_exceeded") if outcome.first_token_ms is None:
                # The prompt left no room for a single word.
                raise ProviderError("context_too_long", reported="no room for an answer")
            case Finished(stop_reason, usage, counted):
                outcome.stop_reason, outcome.usage = stop_reason, usage
                outcome.finished, outcome.counted = True, counted

    try:
        async with asyncio.timeout(LONGEST_TURN_SECONDS):
            await live.while_wanted(read)
    except ProviderError as error:
        outcome.error = error
    except TimeoutError:
        outcome.error = ProviderError("provider_cut", reported="longer than any answer takes")
    except Exception:
        # Our own mistake must not leave a hold behind: the turn ends as interrupted, and the log says why.
        log.exception("turn broke", turn=str(live.id))
        outcome.error = ProviderError("interrupted")
    if live.leaving == "interrupted" and not outcome.finished:
        outcome.error = ProviderError("interrupted", reported="this process is being replaced")
    elif outcome.stop_reason == "refusal":
        outcome.error = ProviderError("refused")
    if outcome.error is not None:
        log.warning("turn failed", turn=str(live.id), code=outcome.error.code, reported=str(outcome.error))
    return outcome


# --- Close -----------------------------------------------------------------------------------------------


def close(turn: Turn, live: LiveTurn, outcome: Outcome) -> Ending:
    """Store the answer of `turn`, as it was opened, and settle its hold in one transaction; say how it ended.

    If somebody else closed the turn before (a sweep that thought us dead), nothing is changed and their ending is
    told.
    """
    error = outcome.error
    thinking, text = live.thinking.whole(), live.text.whole()
    with transaction.atomic():
        wallet, [runs] = ledger.lock_wallet_holding(live.id, _runs(turn.pk))
        if not runs:
            return ending_of(_saved(turn.pk), wallet)
        state = _verdict(live, outcome)
        usage = _used(outcome, thinking + text, turn.max_tokens)
        price = turn.price_of(outcome.model)
        columns = {
            "first_token_ms": outcome.first_token_ms,
            "provider": outcome.provider,
            "provider_request": outcome.request_id[:100],
            "stop_reason": outcome.stop_reason[:40] or (live.leaving or ""),
            "estimated": usage is not None and state in CHARGED and not outcome.counted,
            "cost": pricing.cost(usage, price) if usage else 0,
            "prompt_bytes": outcome.prompt_bytes if usage else None,
            "served_by_id": outcome.model,
            "error_code": error.code if error else "",
            "error_message": str(error)[:300] if error else "",
            **Turn.usage_columns(usage or Usage()),
        }
        end = End(state, thinking, text, error.retry_after if error else None, columns)
        settlement = ledger.settle(
            wallet=wallet,
            hold_id=turn.pk,
            held=turn.held,
            price=pricing.charge(usage, price) if usage and state in CHARGED else 0,
            then=lambda settlement: end.rows(turn, settlement),
        )
    live.is_stored = True
    end.note(turn, settlement)
    return ending_of(turn, wallet)


def interrupt(
    turn_id: uuid.UUID, *, thinking: str, text: str, heartbeat: datetime | None = None
) -> Ending | None:
    """Close a turn that its process left behind: keep what text is known, release the hold, charge nothing.

    None if it was closed in the meantime, or its process told since this `heartbeat` that it lives.
    """
    with transaction.atomic():
        wallet, [runs] = ledger.lock_wallet_holding(turn_id, _runs(turn_id, heartbeat))
        if not runs:
            return None
        turn = Turn.objects.get(pk=turn_id)
        end = End(Turn.State.INTERRUPTED, thinking, text, None, {"error_code": "interrupted"})
        settlement = ledger.settle(
            wallet=wallet,
            hold_id=turn_id,
            held=turn.held,
            price=0,
            then=lambda settlement: end.rows(turn, settlement),
        )
    end.note(turn, settlement)
    return ending_of(turn, wallet)


CHARGED = {Turn.State.COMPLETED, Turn.State.STOPPED, Turn.State.ABANDONED}


def ending_of(turn: Turn, wallet: Account) -> Ending:
    """The last event of an ended turn, with the balance of the moment; its `retry_wait` must be known."""
    balance = Balance(available=as_string(wallet.available), held=as_string(wallet.held))
    if turn.state in (Turn.State.FAILED, Turn.State.INTERRUPTED):
        code = turn.error_code or "interrupted"
        failure = FAILURES[code]
        return Failed(
            code=code,
            message=failure.message,
            retryable=failure.retryable,
            retry_after=turn.retry_after,
            charged=as_string(turn.charged),
            balance=balance,
            first_token_ms=turn.first_token_ms,
        )
    return Done(
        status="completed" if turn.state == Turn.State.COMPLETED else "stopped",
        stop_reason=turn.stop_reason,
        usage=turn.usage_told,
        charged=as_string(turn.charged),
        balance=balance,
        limited_by_balance=turn.limited_by_balance,
        estimated=turn.estimated,
        served_by=turn.served_by_id or turn.model_id,
        first_token_ms=turn.first_token_ms,
    )


def saved_ending(turn_id: uuid.UUID) -> Ending:
    """How a turn that has ended did, as it is saved."""
    return ending_of(_saved(turn_id), ledger.wallet_holding(turn_id))


def lost_ending() -> Failed:
    """What readers are told when the answer could not be stored; the sweep then releases its hold."""
    failure = FAILURES["interrupted"]
    return Failed("interrupted", failure.message, failure.retryable, None, as_string(0), balance=None)


def _saved(turn_id: uuid.UUID) -> Turn:
    return Turn.objects.with_retry_wait().get(pk=turn_id)


def _verdict(live: LiveTurn, outcome: Outcome) -> Turn.State:
    if outcome.error is not None:
        return Turn.State.INTERRUPTED if outcome.error.code == "interrupted" else Turn.State.FAILED
    # An answer that had come to its end is complete, also when a stop crossed it.
    if outcome.finished or live.leaving is None:
        return Turn.State.COMPLETED
    return Turn.State(live.leaving)


RUNS = """
    SELECT 1 FROM conversations_turn
    WHERE id = %(turn)s AND state = 'running' AND heartbeat_at = COALESCE(%(heartbeat)s, heartbeat_at)
"""


def _runs(turn_id: uuid.UUID, heartbeat: datetime | None = None) -> Statement[bool]:
    """Whether nobody has closed this turn. Whoever closes one has locked its wallet, so the answer stays true."""
    return Statement(RUNS, {"turn": turn_id, "heartbeat": heartbeat}, bool)


@dataclass(frozen=True, slots=True)
class End:
    """How a running turn ends. `columns` are those of its row that tell what came of it."""

    state: Turn.State
    thinking: str
    text: str
    retry_after: float | None
    columns: dict[str, Any]

    def rows(self, turn: Turn, settlement: Settlement) -> Iterator[Statement[None]]:
        """What writes it into the rows of `turn`.

        The answer is stored if its conversation still stands: it may have been deleted meanwhile.
        """
        yield rows.update(
            Turn,
            turn.pk,
            state=self.state.value,
            ended_at=FromNow(),
            retry_at=None if self.retry_after is None else FromNow(self.retry_after),
            charged=settlement.charged,
            overrun=settlement.overrun,
            **self.columns,
        )
        if turn.assistant_message_id is not None:
            yield rows.update(Message, turn.assistant_message_id, text=self.text, thinking=self.thinking)
        if turn.conversation_id is not None:
            yield rows.update(Conversation, turn.conversation_id, updated_at=FromNow())

    def note(self, turn: Turn, settlement: Settlement) -> None:
        """Have `turn` tell it."""
        turn.state = self.state
        turn.retry_wait = None if self.retry_after is None else timedelta(seconds=self.retry_after)
        turn.charged, turn.overrun = settlement.charged, settlement.overrun
        for name, value in self.columns.items():
            setattr(turn, name, value)


def _used(outcome: Outcome, sent: str, max_tokens: int) -> Usage | None:
    """The provider's count; where it never told the output, that is counted from what was sent.

    None when the provider had not accepted the request: then it costs nobody anything.
    """
    if outcome.usage is None or outcome.counted:
        return outcome.usage
    return replace(outcome.usage, output_tokens=min(max_tokens, tokens_in(sent)))


def tokens_in(text: str) -> int:
    """About how many tokens `text` is: four bytes of UTF-8 each, rounded up."""
    return math.ceil(len(text.encode()) / 4)
