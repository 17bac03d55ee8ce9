"""What billing wants to know of the answers in its books, and who tells it.

A charge settles a hold, and a hold has the id of the turn that it was made for. What a turn was, the chat knows, which
stands above billing and is never imported from here: settings.ANSWER_BOOK names who keeps the book of them.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date
from functools import cache
from typing import Any, Protocol
from uuid import UUID

from django.conf import settings
from django.db.models import QuerySet
from django.utils.module_loading import import_string

from accounts.models import User
from billing.models import Price
from billing.pricing import Usage


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer that was paid for. `conversation` is None when it has been deleted since."""

    model: str
    model_name: str
    conversation: UUID | None
    title: str
    usage: Usage
    price: Price
    estimated: bool

    @property
    def cache_write_tokens(self) -> int:
        return self.usage.cache_write_5m_tokens + self.usage.cache_write_1h_tokens


@dataclass(frozen=True, slots=True)
class DayOfModel:
    """What one model's answers of one day (UTC) used; `charged` in microcredits."""

    day: date
    model: str
    answers: int
    prompt_tokens: int
    output_tokens: int
    charged: int


class AnswerBook(Protocol):
    """Tells of a person's own answers, and of nobody else's."""

    def answers(self, user: User, ids: Collection[UUID]) -> dict[UUID, Answer]:
        """Those of `ids` that are answers to `user`."""

    def ids(self, user: User, *, model: str | None, conversation: UUID | None) -> QuerySet[Any, UUID]:
        """The ids of all answers by a model, or in a conversation, to use in a query."""

    def conversations(self, user: User, *, limit: int) -> list[tuple[UUID, str]]:
        """Ids and titles of the conversations used last."""

    def title(self, user: User, conversation: UUID) -> str | None:
        """The title of a conversation, or None if `user` has no such."""

    def models(self, user: User) -> list[str]:
        """The ids of the models whose answers were charged, in no order."""

    def per_day(self, user: User, first: date, last: date) -> list[DayOfModel]:
        """What was charged on the days from `first` to `last`, both included, in order."""


@cache
def book() -> AnswerBook:
    kept: AnswerBook = import_string(settings.ANSWER_BOOK)()
    return kept
