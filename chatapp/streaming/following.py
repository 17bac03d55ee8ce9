"""A turn's events for one reader, wherever the turn runs: here, in another process, or nowhere any more."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from uuid import UUID

from billing import ledger
from chatapp.conversations.models import Turn
from chatapp.db import in_db
from chatapp.streaming import journal, live, turns
from chatapp.streaming.events import Cursor, Ending, Sent, Text, Thinking

RETRY_SECONDS = 1


async def follow(turn: Turn, after: Cursor | None) -> AsyncGenerator[Sent | None, None]:
    """Every event after `after` (None: from the start) to the one that ends the turn; None for spells of silence."""
    if turn.pk in live.here:
        async with aclosing(live.here[turn.pk].follow(after)) as events:
            async for sent in events:
                yield sent
        return
    if turn.state == Turn.State.RUNNING:
        async with aclosing(_follow_elsewhere(turn, after)) as events:
            async for sent in events:
                yield sent
                if sent is not None:
                    after = Cursor.parse(sent.id)
                    if isinstance(sent.event, Ending):
                        return
    async with aclosing(replay(turn, after)) as events:
        async for sent in events:
            yield sent


async def _follow_elsewhere(turn: Turn, after: Cursor | None) -> AsyncGenerator[Sent | None, None]:
    """The journal's events; returns without an ending when the database has it and the journal does not."""
    while True:
        try:
            async with aclosing(journal.follow(turns.started(turn), after)) as events:
                async for sent in events:
                    yield sent
                    if sent is None:
                        if await in_db(_has_ended, turn.pk):
                            return
                    else:
                        after = Cursor.parse(sent.id)
                        if isinstance(sent.event, Ending):
                            return
        except journal.JournalAway:
            if await in_db(_has_ended, turn.pk):
                return
            await asyncio.sleep(RETRY_SECONDS)


async def replay(turn: Turn, after: Cursor | None) -> AsyncGenerator[Sent | None, None]:
    """An ended turn from the database: what `after` has not seen yet, and how it ended."""
    thinking, text, ending = await in_db(_as_saved, turn.pk)
    at = after or Cursor()
    if after is None:
        yield Sent("0.0", turns.started(turn))
    if thinking[at.thinking :]:
        yield Sent(f"{len(thinking)}.{at.text}", Thinking(thinking[at.thinking :]))
    if text[at.text :]:
        yield Sent(f"{len(thinking)}.{len(text)}", Text(text[at.text :]))
    yield Sent(f"{len(thinking)}.{len(text)}.end", ending)


def _has_ended(turn_id: UUID) -> bool:
    return not Turn.objects.running().filter(pk=turn_id).exists()


def _as_saved(turn_id: UUID) -> tuple[str, str, Ending]:
    turn = Turn.objects.with_retry_wait().select_related("assistant_message").get(pk=turn_id)
    answer = turn.assistant_message
    ending = turns.ending_of(turn, ledger.wallet_holding(turn_id))
    return (answer.thinking, answer.text, ending) if answer else ("", "", ending)
