"""Conversations that outgrow what is sent: cut to half, at a place that stays, and visibly so."""

import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db.models import Sum
from django.test import override_settings

from accounts.models import User
from billing.models import LanguageModel
from chatapp import money
from chatapp.checks import the_house_can_ask_its_models
from chatapp.conversations.models import Conversation, Recap, Turn
from chatapp.money import Filters, Span
from chatapp.streaming import house, recaps
from chatapp.streaming.history import History, Line, Scale, budget
from chatapp.streaming.models import HouseUsage
from chatapp.streaming.tasks import write_recap
from tests.billing.books import CREDIT, give
from tests.conftest import SignIn
from tests.stack import Stack
from tests.streaming.reading import ask, text_of

SMALL = "claude-opus-5"
WRITER = "claude-haiku-5-5"
HISTORY_TOKENS = 2500


def history(*sizes: int, earlier: str = "") -> History:
    """Messages of so many bytes, by each side in turn."""
    return History(
        earlier,
        tuple(
            Line("assistant" if place % 2 else "user", "x" * size, None) for place, size in enumerate(sizes)
        ),
    )


# --- Where it is cut


@pytest.mark.parametrize(
    ("sizes", "most", "left"),
    [
        ((10, 10, 10, 10, 10), 100, (10, 10, 10)),  # at least something goes
        ((10, 10, 10, 10, 10), 30, (10, 10, 10)),
        ((10, 10, 10, 10, 10), 29, (10,)),  # never beginning with an answer
        ((10, 10, 90), 50, (90,)),  # the question stays whatever its size
        ((90,), 50, None),
    ],
)
def test_a_history_is_cut_before_something_that_the_person_said(
    sizes: tuple[int, ...], most: int, left: tuple[int, ...] | None
) -> None:
    cut = history(*sizes).cut_to(most)
    assert (cut and tuple(line.size_bytes for line in cut.lines)) == left


def test_a_history_that_was_too_long_is_tried_ever_shorter_down_to_the_question() -> None:
    tried = history(*[10] * 41, earlier="so far").ever_shorter()
    assert [(len(less.lines), bool(less.earlier)) for less in tried] == [(11, True), (1, True), (1, False)]
    assert list(history(10).ever_shorter()) == []


@pytest.mark.parametrize(
    ("counted", "tokens"),
    [
        (Scale(), 250),
        (Scale.counted(300, 900), 334),
        (Scale.counted(0, 900), 125),
        (Scale.counted(9**9, 7), 1000),
    ],
)
def test_tokens_are_reckoned_by_the_last_count_within_reason(counted: Scale, tokens: int) -> None:
    assert counted.tokens_in(1000) == tokens


@pytest.mark.parametrize(
    ("context", "most"), [(1_000_000, 9_000), (8_192 + 1_024, 8_192 + 1_024 - 1_024 - 460)]
)
def test_the_budget_leaves_room_for_the_answer(context: int, most: int) -> None:
    model = LanguageModel(context_tokens=context, answer_tokens=1_024, history_tokens=9_000)
    assert budget(model) == most


def test_seeded_models_stay_below_the_tier_in_which_prompts_are_dearer(db: None) -> None:
    told = dict(LanguageModel.objects.values_list("id", "history_tokens"))
    assert (told["claude-haiku-5-5"], told["claude-sonnet-5-5"]) == (90_000, 150_000)


# --- Turns


def remembered(stack: Stack) -> list[str]:
    """What the model was given to sum up, oldest first."""
    bodies = [request.body for request in stack.claude.requests() if request.model == WRITER and request.body]
    return [body["messages"][0]["content"] for body in bodies]


@pytest.fixture
def small(stack: Stack) -> Iterator[str]:
    """A model to which little is sent."""
    row = LanguageModel.objects.filter(pk=SMALL)
    before = row.values("on_sale", "history_tokens", "answer_tokens").get()
    row.update(on_sale=True, history_tokens=HISTORY_TOKENS, answer_tokens=512)
    yield SMALL
    row.update(**before)


def sent(stack: Stack) -> list[list[str]]:
    """The texts of each prompt to the model, oldest prompt first."""
    prompts = [request.body for request in stack.claude.requests() if request.model == SMALL and request.body]
    return [[message["content"] for message in prompt["messages"]] for prompt in prompts]


def marks(client: Any, conversation: str) -> dict[str, Any]:
    """The marks in a conversation, by the message that they stand after."""
    items = client.get(f"/api/v1/conversations/{conversation}/messages").json()["items"]
    return {item["id"]: item["mark"] for item in items if item["mark"]}


def test_a_conversation_is_cut_to_half_at_once_and_then_read_from_the_cache(
    stack: Stack, alice: User, charlie: User, sign_in: SignIn, small: str
) -> None:
    give(alice, 1000 * CREDIT)
    client = sign_in(alice)
    stack.claude.script("status 500", times=99, match="<transcript")  # nobody sums up what is cut
    conversation = ask(client, "[[demo: tokens 200]] 1", model=small)[0]["conversation"]
    for number in range(2, 19):
        ask(client, f"[[demo: tokens 200]] {number}", model=small, conversation=conversation)

    turns = list(Turn.objects.filter(conversation=conversation).order_by("created_at"))
    assert all(turn.state == "completed" for turn in turns)
    assert all(turn.usage.prompt_tokens <= HISTORY_TOKENS for turn in turns)
    firsts = [texts[0] for texts in sent(stack)]
    cuts = [place for place in range(1, len(firsts)) if firsts[place] != firsts[place - 1]]
    assert len(cuts) == 1
    (cut,) = cuts
    assert HISTORY_TOKENS // 3 <= turns[cut].usage.prompt_tokens <= HISTORY_TOKENS * 6 // 10
    # After the cut all is read from the cache again, but for the newest.
    assert all(
        turn.cache_read_tokens > turn.input_tokens + turn.cache_write_5m_tokens for turn in turns[cut + 2 :]
    )

    (mark,) = marks(client, conversation).items()
    assert mark == (str(Recap.objects.get(conversation=conversation).through_id), {"kind": "cut", "bytes": 0})
    assert mark[0] in {str(turn.assistant_message_id) for turn in turns}
    assert sign_in(charlie).get(f"/api/v1/conversations/{conversation}/messages").status_code == 404


def test_a_prompt_that_is_too_long_after_all_is_asked_again_with_less(
    stack: Stack, alice: User, sign_in: SignIn, small: str
) -> None:
    client = sign_in(alice)
    conversation = ask(client, "[[demo: tokens 100]] 1", model=small)[0]["conversation"]
    for number in range(2, 6):
        ask(client, f"[[demo: tokens 100]] {number}", model=small, conversation=conversation)
    stack.claude.script("too_long", times=1, match="again")
    events = ask(client, "again", model=small, conversation=conversation)

    assert (events[-1]["type"], events[-1]["status"]) == ("done", "completed")
    assert text_of(events)
    whole, less = sent(stack)[-2:]
    assert len(whole) == 11
    assert 1 < len(less) <= 6
    assert less == whole[-len(less) :]
    turn = Turn.objects.get(pk=events[0]["turn"])
    assert 0 < turn.charged < turn.held
    assert turn.prompt_bytes is not None
    assert turn.prompt_bytes < sum(len(text) for text in whole)
    # Later turns begin there too.
    ask(client, "and now?", model=small, conversation=conversation)
    assert sent(stack)[-1][0] == less[0]
    assert [mark["kind"] for mark in marks(client, conversation).values()] == ["cut"]
    assert stack.manage("ledger_audit").returncode == 0


def test_a_message_that_is_too_long_alone_is_told_so(
    stack: Stack, alice: User, sign_in: SignIn, small: str
) -> None:
    client = sign_in(alice)
    conversation = ask(client, "hello", model=small)[0]["conversation"]
    stack.claude.script("too_long", times=9, match="whole book")
    ending = ask(client, "a whole book", model=small, conversation=conversation)[-1]

    assert (ending["type"], ending["code"], ending["charged"]) == ("error", "context_too_long", "0.000000")
    assert sent(stack)[-1] == ["a whole book"]
    assert Conversation.objects.get(pk=conversation).tip_id is not None


def test_an_answer_that_fills_the_context_is_complete_and_one_without_a_word_is_asked_again(
    stack: Stack, alice: User, sign_in: SignIn, small: str
) -> None:
    client = sign_in(alice)
    stack.claude.script("window after=2")
    first = ask(client, "hello", model=small)
    ending = first[-1]
    assert (ending["status"], ending["stop_reason"]) == ("completed", "model_context_window_exceeded")

    stack.claude.script("window after=0", match="go on")
    events = ask(client, "go on", model=small, conversation=first[0]["conversation"])
    assert events[-1]["status"] == "completed"
    assert text_of(events)


# --- Summaries


def until_due(client: Any, conversation: str) -> None:
    """Go on talking until a summary is due."""
    for number in range(2, 40):
        turn = ask(
            client, f"[[demo: tokens 200]] about whale {number}", model=SMALL, conversation=conversation
        )[0]
        if recaps.may_be_due(Turn.objects.get(pk=turn["turn"])):
            return
    raise AssertionError("the conversation never became long")


def until_summed_up(stack: Stack, client: Any, conversation: str, count: int) -> None:
    """Go on talking until the worker has written so many summaries."""
    due = HouseUsage.objects.filter(conversation_id=conversation)
    kept = Recap.objects.filter(conversation=conversation, kind="summary")
    until_due(client, conversation)
    stack.wait_until(lambda: due.count() >= count and kept.count() >= count, "a summary is written")


def test_a_long_conversation_goes_on_with_a_summary_that_the_house_pays(
    stack: Stack, alice: User, sign_in: SignIn, small: str
) -> None:
    give(alice, 1000 * CREDIT)
    client = sign_in(alice)
    before = client.get("/api/v1/transactions").json()["items"]
    conversation = ask(client, "[[demo: tokens 200]] about whale 1", model=small)[0]["conversation"]
    until_summed_up(stack, client, conversation, 1)

    (first,) = Recap.objects.filter(conversation=conversation)
    assert marks(client, conversation) == {
        str(first.through_id): {"kind": "summary", "bytes": len(first.text.encode())}
    }
    assert len([text for text in remembered(stack) if "about whale 1" in text]) == 1
    assert "cache_control" not in (stack.claude.requests()[-1].body or {})
    ask(client, "and now?", model=small, conversation=conversation)
    summary, *said = sent(stack)[-1]
    assert first.text in summary
    assert said[0].startswith("[[demo: tokens 200]] about whale")
    assert "about whale 1\n" not in "\n".join([*said, ""])
    assert len(said) % 2 == 1

    # The next one is built on it, and reads nothing of the older part again.
    until_summed_up(stack, client, conversation, 2)
    assert first.text in remembered(stack)[-1]
    assert "] about whale 1\n" not in remembered(stack)[-1]

    usage = HouseUsage.objects.filter(conversation_id=conversation)
    assert [(row.purpose, row.model_id, row.user_id) for row in usage] == [("summary", WRITER, alice.pk)] * 2
    assert all(row.cost > 0 and row.output_tokens > 0 for row in usage)
    turns = Turn.objects.filter(conversation=conversation)
    costs = turns.aggregate(Sum("cost"))["cost__sum"], usage.aggregate(Sum("cost"))["cost__sum"]
    today = datetime.now(UTC).date()
    booked = money.table("user", Span(today - timedelta(1), today), Filters(user=alice.pk)).total
    assert (booked.cost, booked.house) == (sum(costs), costs[1])
    charged = [item for item in client.get("/api/v1/transactions?limit=100").json()["items"] if item["turn"]]
    assert len(charged) == turns.count()
    assert len(before) == 2
    assert stack.manage("ledger_audit").returncode == 0

    # Once per place, however often the worker is told.
    latest = turns.latest("created_at")
    write_recap(str(latest.pk))
    assert usage.count() == 2


def test_a_summary_that_cannot_be_written_is_told_in_a_line_and_left(
    stack: Stack, alice: User, sign_in: SignIn, small: str, caplog: pytest.LogCaptureFixture
) -> None:
    give(alice, 1000 * CREDIT)
    client = sign_in(alice)
    stack.claude.script("status 529", times=99, match="<transcript")
    conversation = ask(client, "[[demo: tokens 200]] 1", model=small)[0]["conversation"]
    turn = Turn.objects.get(conversation=conversation)
    while not recaps.may_be_due(turn):
        turn = Turn.objects.get(
            pk=ask(client, "[[demo: tokens 200]] on", model=small, conversation=conversation)[0]["turn"]
        )
    stack.claude.wait_for("rejected")  # by the worker

    def told() -> list[logging.LogRecord]:
        write_recap(str(turn.pk))  # which leaves it to the worker while that is at it
        return [record for record in caplog.records if record.name == recaps.__name__]

    stack.wait_until(lambda: bool(told()), "the refusal is told")
    (line, *_) = told()
    assert (line.levelname, line.exc_info) == ("WARNING", None)
    assert not Recap.objects.filter(conversation=conversation).exists()
    assert not HouseUsage.objects.filter(conversation_id=conversation).exists()


def test_what_a_killed_worker_was_summing_up_the_next_one_does(
    stack: Stack, alice: User, sign_in: SignIn, small: str
) -> None:
    give(alice, 1000 * CREDIT)
    client = sign_in(alice)
    stack.claude.script("tokens 256", "pace 5", match="<transcript")
    conversation = ask(client, "[[demo: tokens 200]] about whale 1", model=small)[0]["conversation"]
    until_due(client, conversation)
    stack.wait_until(lambda: len(remembered(stack)) == 1, "the worker has asked for a summary")
    stack.worker.kill()
    stack.claude.wait_for("client_closed")

    stack.worker.start()
    until_summed_up(stack, client, conversation, 1)

    assert len(remembered(stack)) == 2
    assert HouseUsage.objects.filter(conversation_id=conversation).count() == 1


@pytest.mark.parametrize("named", ["off", "no-such-model", "gpt-5.4"])
def test_a_model_that_cannot_be_asked_is_told_of_unless_it_is_off(db: None, named: str) -> None:
    assert house.writer(named) is None
    with override_settings(SUMMARY_MODEL=named, TITLE_MODEL=named):
        said = [message.id for message in the_house_can_ask_its_models(["default"])]
    assert said == ([] if named == "off" else ["chatapp.W003", "chatapp.W004"])
    assert house.writer(WRITER) is not None
    assert the_house_can_ask_its_models(["default"]) == []
