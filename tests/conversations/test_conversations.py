"""/api/v1/conversations: listed, searched, made, changed and deleted, by the person whose they are."""

import base64
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from itertools import chain
from typing import Any

import pytest
from django.db import connection, transaction

from accounts.models import User
from billing import ledger
from billing.models import Transfer
from chatapp.conversations import search
from chatapp.conversations.models import Conversation, Message, Turn
from chatapp.streaming import turns
from chatapp.streaming.models import UsageRecord
from tests.admin.desk import ended_turn
from tests.billing.books import somebody_waits
from tests.calling import Caller
from tests.conftest import SignIn
from tests.conversations.talk import BEGAN, conversation, dialogue, said
from tests.servers import wait_until
from tests.stack import Stack
from tests.streaming.reading import ask_until, follow, hearing_of_stops, text_of

CONVERSATIONS = "conversations"


def path(of: Conversation | str) -> str:
    return f"{CONVERSATIONS}/{of.pk if isinstance(of, Conversation) else of}"


def titles(page: dict[str, Any]) -> list[str]:
    return [item["title"] for item in page["items"]]


# --- The whole of it


def test_a_conversation_lives_from_its_making_to_its_end(either: Caller) -> None:
    made = either.post(CONVERSATIONS, title="  Bread  ", model="claude-haiku-5-5")
    assert made["created_at"].endswith("Z")
    assert made == {
        "id": made["id"],
        "title": "Bread",
        "pinned": False,
        "archived": False,
        "model": "claude-haiku-5-5",
        "instructions": "",
        "created_at": made["created_at"],
        "updated_at": made["created_at"],
        "running_turn": None,
    }
    assert either.get(path(made["id"])) == made
    assert either.get(CONVERSATIONS) == {"items": [made], "next": None}
    assert either.get(f"{path(made['id'])}/messages") == {"items": [], "next": None}

    changed = either.patch(
        path(made["id"]), title=" Rye ", pinned=True, archived=True, model="claude-opus-5-5"
    )
    assert changed == {**made, "title": "Rye", "pinned": True, "archived": True, "model": "claude-opus-5-5"}
    assert either.get(path(made["id"])) == changed

    either.delete(path(made["id"]))
    assert either.refusal("GET", path(made["id"]))[0] == 404
    assert either.get(CONVERSATIONS, archived=True)["items"] == []


def test_a_conversation_needs_no_title_and_no_model(api: Caller) -> None:
    made = api.post(CONVERSATIONS)
    assert (made["title"], made["model"]) == ("", None)


def test_a_change_leaves_the_rest_as_it_is(api: Caller, alice: User) -> None:
    """Also what somebody else changed since it was read: only what was asked for is written."""
    made = conversation(alice, "Bread", pinned=True)
    assert api.patch(path(made))["title"] == "Bread"
    assert api.patch(path(made), title="Rye")["pinned"] is True
    assert api.patch(path(made), archived=True)["title"] == "Rye"
    assert api.patch(path(made), title=None, pinned=None, archived=None)["archived"] is True


def test_instructions_are_given_and_taken_away(api: Caller, alice: User) -> None:
    made = conversation(alice)
    assert api.patch(path(made), instructions="  In French.\n")["instructions"] == "In French."
    assert api.patch(path(made), title="Rye")["instructions"] == "In French."
    for words in ("x" * 4001, "a\0b"):
        status, problem = api.refusal("PATCH", path(made), {"instructions": words})
        assert (status, problem["code"], list(problem["fields"])) == (400, "invalid", ["instructions"])
    assert api.patch(path(made), instructions="é" * 4000 + " ")["instructions"] == "é" * 4000
    assert api.patch(path(made), instructions=" ")["instructions"] == ""


def test_changing_it_does_not_make_it_newer(api: Caller, alice: User) -> None:
    old = conversation(alice, "old", updated_at=BEGAN)
    conversation(alice, "new")
    api.patch(path(old), title="renamed")
    assert titles(api.get(CONVERSATIONS)) == ["new", "renamed"]


# --- The list


def test_pinned_come_first_and_then_the_newest(api: Caller, alice: User) -> None:
    for minute, (title, pinned) in enumerate(
        [("oldest, pinned", True), ("older", False), ("newer, pinned", True), ("newest", False)]
    ):
        conversation(alice, title, pinned=pinned, updated_at=BEGAN + timedelta(minutes=minute))
    conversation(alice, "away", archived=True)

    assert titles(api.get(CONVERSATIONS)) == ["newer, pinned", "oldest, pinned", "newest", "older"]
    assert titles(api.get(CONVERSATIONS, archived=True)) == ["away"]


def pages(api: Caller, *, between: Callable[[], object] = lambda: None, **query: Any) -> list[list[str]]:
    """The ids of each page of the list, to the last."""
    found: list[list[str]] = []
    cursor: dict[str, str] = {}
    while True:
        page = api.get(CONVERSATIONS, **query, **cursor)
        found.append([item["id"] for item in page["items"]])
        if page["next"] is None:
            return found
        cursor = {"cursor": page["next"]}
        between()


@pytest.fixture
def sixty_five(committed_db: None, alice: User) -> list[str]:
    """Ids in their order; many share their time, and some of those a pin."""
    rows = [
        Conversation(
            id=uuid.uuid4(),
            user=alice,
            title=f"number {number}",
            pinned=number % 13 in (0, 1),
            updated_at=BEGAN + timedelta(microseconds=number // 11),
        )
        for number in range(65)
    ]
    Conversation.objects.bulk_create(rows)
    rows.sort(key=lambda row: (row.pinned, row.updated_at, row.pk), reverse=True)
    return [str(row.pk) for row in rows]


@pytest.mark.parametrize("limit", [1, 5, 13, 30, 65])
def test_paging_shows_each_once(api: Caller, sixty_five: list[str], limit: int) -> None:
    found = pages(api, limit=limit)

    assert list(chain(*found)) == sixty_five
    assert {len(page) for page in found[:-1]} <= {limit}


def test_paging_is_undisturbed_by_what_arrives_meanwhile(
    api: Caller, alice: User, sixty_five: list[str]
) -> None:
    found = pages(api, between=lambda: conversation(alice, "just begun"), limit=20)

    assert list(chain(*found)) == sixty_five


def test_a_page_has_thirty_unless_asked_otherwise(api: Caller, sixty_five: list[str]) -> None:
    assert [len(page) for page in pages(api)] == [30, 30, 5]


AN_ID = "b98481f9-00d4-441c-8d20-5b5ab18b118d"


def encoded(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    "cursor",
    [
        *("", "x", "é", "AAAA", "=", "%00", "1", encoded("")),
        *(encoded("[1, 2, 3]"), encoded("[" * 5000), encoded('[true, "2026-11-01T00:00:00+00:00", 5]')),
        *(encoded("1 2026-11-01T00:00:00+00:00 5"), encoded(f"1 yesterday {AN_ID}")),
        encoded(f"1 2026-11-01T00:00:00 {AN_ID}"),
        encoded(f"1 9999-12-31T23:59:59-23:59 {AN_ID}"),
        encoded(f"2 2026-11-01T00:00:00+00:00 {AN_ID}"),
    ],
)
def test_a_cursor_that_we_did_not_give_is_refused(api: Caller, cursor: str) -> None:
    status, problem = api.refusal("GET", CONVERSATIONS, cursor=cursor)

    assert (status, problem["code"], list(problem["fields"])) == (400, "invalid", ["cursor"])


# --- Search


def test_search_finds_titles_and_what_was_said(api: Caller, alice: User, bob: User) -> None:
    baking = conversation(alice, "Sourdough", updated_at=BEGAN)
    question = said(conversation(alice, "Kitchen", updated_at=BEGAN - timedelta(1)), "how warm an oven?")
    said(question.conversation, "As warm as for SOURDOUGH bread.", after=question)
    conversation(alice, "Bicycle")
    said(conversation(bob, "Bob's sourdough"), "sourdough")

    assert titles(api.get(CONVERSATIONS, q="sourdough")) == ["Sourdough", "Kitchen"]
    assert titles(api.get(CONVERSATIONS, q=" OVEN ")) == ["Kitchen"]
    assert titles(api.get(CONVERSATIONS, q="bob")) == []

    api.patch(path(baking), archived=True)
    assert titles(api.get(CONVERSATIONS, q="sourdough")) == ["Kitchen"]
    assert titles(api.get(CONVERSATIONS, q="sourdough", archived=True)) == ["Sourdough"]


@pytest.mark.parametrize("text", ["%", "_", "\\", "100%", "a_b", "'", '5"', "ß", "日本"])
def test_search_takes_every_character_as_itself(api: Caller, alice: User, text: str) -> None:
    conversation(alice, "axb 100 percent")
    conversation(alice, f"with {text} in it")
    said(conversation(alice, "said"), f"I said {text} to it")

    assert titles(api.get(CONVERSATIONS, q=text)) == ["said", f"with {text} in it"]


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("my résumé", "RESUME"),
        ("my resume", "résumé"),
        ("my re\u0301sume\u0301", "my résumé"),
        ("ZÜRICH", "zurich"),
        ("tiếng Việt", "tieng viet"),
        ("Ещё раз", "еще"),
        ("각하", "각하"),
        ("प\u095dना", "प\u095dना"),
        ("λόγος", "ΛΟΓΟΣ"),
        ("ısparta", "ISPARTA"),
        ("GROẞ", "groß"),
        ("5 µm", "5 μm"),
    ],
)
def test_search_looks_past_accents_and_case(api: Caller, alice: User, text: str, query: str) -> None:
    said(conversation(alice, "said"), f"so: {text}.")
    conversation(alice, text)
    assert titles(api.get(CONVERSATIONS, q=query)) == [text, "said"]


def test_search_keeps_letters_apart_that_are_no_accents(api: Caller, alice: User) -> None:
    conversation(alice, "かき ≠ 각")
    for other in ("かぎ", "가", "=", "s\u0301"):
        assert titles(api.get(CONVERSATIONS, q=other)) == []
    assert titles(api.get(CONVERSATIONS, q="o" * 200)) == []


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("reversal ledger", ["Kitchen", "Ledger and reversal"]),
        ("LEDGER révers and", ["Ledger and reversal"]),
        ("ledger oven", []),
        ('"ledger and"', ["Ledger and reversal"]),
        ('"and ledger"', []),
        ('reversal "ledger a', ["Ledger and reversal"]),
        ("“of a ledger” the", ["Kitchen"]),
        ("„of a ledger“", ["Kitchen"]),
        ("«ledger and» reversal", ["Ledger and reversal"]),
        ("»and ledger«", []),
        ('ledger "', ["Kitchen", "Ledger and reversal"]),
        ('"" ledger and „', ["Ledger and reversal"]),
        ("% ledger", []),
        ("l e d g r a v s f h t w i", ["Kitchen"]),
    ],
)
def test_words_are_found_in_any_order(api: Caller, alice: User, query: str, found: list[str]) -> None:
    conversation(alice, "Ledger and reversal")
    kitchen = conversation(alice, "Kitchen")
    oven = said(kitchen, "How warm is the oven?")
    said(kitchen, "What is the reversal of a ledger?", after=oven)
    assert titles(api.get(CONVERSATIONS, q=query)) == found


def test_of_very_many_words_the_longest_count() -> None:
    words = [chr(ord("a") + n) * (n + 1) for n in range(26)]
    assert search.patterns(" ".join(words + words)) == [search.pattern(word) for word in words[:-17:-1]]


@pytest.mark.parametrize("nothing", ["  ", '" "', '"', '""', "„ “", "«»"])
def test_a_search_for_nothing_lists_all(api: Caller, alice: User, nothing: str) -> None:
    conversation(alice, "one")
    assert titles(api.get(CONVERSATIONS, q=nothing)) == ["one"]


def test_a_search_is_paged_like_the_list(api: Caller, alice: User, sixty_five: list[str]) -> None:
    conversation(alice, "another")
    assert list(chain(*pages(api, q="number", limit=20))) == sixty_five


# --- Deleting


def test_deleting_takes_the_messages_and_leaves_the_books(api: Caller, alice: User) -> None:
    doomed = conversation(alice)
    question, answer = dialogue(doomed, 2)
    turn = ended_turn(
        alice, price=700_000, conversation=doomed, user_message=question, assistant_message=answer
    )
    spared = said(conversation(alice, "another"), "hello")

    api.delete(path(doomed))

    assert not Message.objects.filter(pk__in=[question.pk, answer.pk]).exists()
    assert Message.objects.filter(pk=spared.pk).exists()
    turn = Turn.objects.get(pk=turn.pk)
    assert (turn.charged, turn.conversation, turn.user_message, turn.assistant_message) == (
        700_000,
        None,
        None,
        None,
    )
    assert UsageRecord.objects.get(pk=turn.pk).charged == 700_000
    assert Transfer.objects.get(hold=turn.pk).amount == 700_000
    assert api.get(f"turns/{turn.pk}")["charged"] == "0.700000"


def test_a_conversation_of_thousands_of_messages_is_deleted(api: Caller, alice: User) -> None:
    long = conversation(alice)
    dialogue(long, 3000)

    api.delete(path(long))

    assert not Message.objects.filter(conversation=long.pk).exists()


def test_an_answer_being_written_is_stopped_at_once_and_paid_when_its_conversation_is_deleted(
    stack: Stack, alice: User, sign_in: SignIn
) -> None:
    client, other = sign_in(alice), sign_in(alice, url=stack.start_web().url)
    deleted: list[int] = []

    def delete(seen: list[dict[str, Any]]) -> bool:
        if len(text_of(seen)) > 20 and not deleted:
            with hearing_of_stops() as next_stop:
                address = f"/api/v1/conversations/{seen[0]['conversation']}"
                deleted.append(other.delete(address).status_code)
                assert next_stop() == seen[0]["turn"]
            stack.claude.wait_for("client_closed")
        return False

    events = ask_until(client, delete, "[[demo: tokens 4000]] [[demo: pace 100]] go on")

    assert deleted == [204]
    turn = Turn.objects.get(pk=events[0]["turn"])
    assert (events[-1]["type"], events[-1]["status"]) == ("done", "stopped") == ("done", turn.state)
    assert turn.conversation is None
    assert turn.charged > 0
    wallet = ledger.wallet_of(alice)
    assert (wallet.balance, wallet.held) == (100_000_000 - turn.charged, 0)
    assert follow(client, str(turn.pk))[-1]["charged"] == events[-1]["charged"]


def test_a_turn_that_is_being_opened_and_a_deletion_wait_for_each_other(api: Caller, alice: User) -> None:
    """Else the new turn would point to a conversation that is gone, and one of the two would fail."""
    doomed = conversation(alice)

    with ThreadPoolExecutor() as pool:
        with transaction.atomic():
            ledger.locked_wallet_of(alice)
            deletion = pool.submit(deleted_in_a_thread, api, path(doomed))
            wait_until(somebody_waits, "the deletion waits for the wallet", 20)
            opened = turns.open(alice, turns.Ask(id=uuid.uuid4(), text="hi", conversation=doomed.pk))
        assert deletion.result() == 204
    turns.interrupt(opened.turn.pk, thinking="", text="")
    assert Turn.objects.get(pk=opened.turn.pk).conversation is None


def deleted_in_a_thread(api: Caller, path: str) -> int:
    try:
        return api.call("DELETE", path).status_code
    finally:
        connection.close()


# --- What is refused


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"title": "x" * 201}, "title"),
        ({"title": 5}, "title"),
        ({"title": "a\x00b"}, "title"),
        ({"model": "gpt-1"}, "model"),
        ({"model": "claude-haiku-4-5"}, "model"),  # known, and not on sale
        ({"model": "a\x00b"}, "model"),
    ],
)
def test_what_cannot_be_made_is_refused_with_the_field_at_fault(
    api: Caller, alice: User, body: dict[str, Any], field: str
) -> None:
    status, problem = api.refusal("POST", CONVERSATIONS, body)

    assert (status, problem["code"], list(problem["fields"])) == (400, "invalid", [field])
    assert problem["detail"].endswith(".")
    assert not Conversation.objects.of(alice).exists()


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"title": ""}, "title"),
        ({"title": " \n"}, "title"),
        ({"title": "x" * 201}, "title"),
        ({"title": {"a": 1}}, "title"),
        ({"pinned": "maybe"}, "pinned"),
        ({"archived": 7}, "archived"),
        ({"model": "gpt-1"}, "model"),
        ({"branch": "not-a-uuid"}, "branch"),
    ],
)
def test_what_cannot_be_changed_is_refused_with_the_field_at_fault(
    api: Caller, alice: User, body: dict[str, Any], field: str
) -> None:
    made = conversation(alice)
    before = api.get(path(made))

    status, problem = api.refusal("PATCH", path(made), body)

    assert (status, problem["code"], list(problem["fields"])) == (400, "invalid", [field])
    assert api.get(path(made)) == before


def test_a_change_is_made_whole_or_not_at_all(api: Caller, alice: User) -> None:
    made = conversation(alice)
    dialogue(made, 2)
    other = said(made, "asked otherwise", minute=9)
    shown = api.get(f"{path(made)}/messages")

    refused = api.refusal("PATCH", path(made), {"branch": str(other.pk), "title": "x", "model": "gpt-1"})

    assert refused[0] == 400
    assert api.get(f"{path(made)}/messages") == shown
    assert api.get(path(made))["title"] == "Spare keys"


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": 101}, "limit"),
        ({"limit": "many"}, "limit"),
        ({"archived": "perhaps"}, "archived"),
        ({"q": "x" * 201}, "q"),
        ({"q": "a\x00b"}, "q"),
    ],
)
def test_a_list_that_cannot_be_given_is_refused_with_the_field_at_fault(
    api: Caller, query: dict[str, Any], field: str
) -> None:
    status, problem = api.refusal("GET", CONVERSATIONS, **query)

    assert (status, problem["code"], list(problem["fields"])) == (400, "invalid", [field])


def test_the_outsider_finds_nothing(api: Caller, alice: User, outsider: Caller) -> None:
    hers = conversation(alice, "Diary")
    message = dialogue(hers, 2)[0]
    before = api.get(path(hers))

    for refused in (
        outsider.refusal("GET", path(hers)),
        outsider.refusal("PATCH", path(hers), {"title": "mine"}),
        outsider.refusal("PATCH", path(hers), {"branch": str(message.pk)}),
        outsider.refusal("DELETE", path(hers)),
        outsider.refusal("GET", f"{path(hers)}/messages"),
        outsider.refusal("GET", f"{path(hers)}/messages", before=message.pk),
        # It is the same as what does not exist.
        outsider.refusal("GET", path(str(uuid.uuid4()))),
    ):
        assert (refused[0], refused[1]["code"]) == (404, "not_found")
        assert refused[1]["detail"] == "There is no such conversation."
    assert outsider.get(CONVERSATIONS) == {"items": [], "next": None}
    assert outsider.get(CONVERSATIONS, q="Diary")["items"] == []
    assert outsider.get(CONVERSATIONS, q="message")["items"] == []
    assert api.get(path(hers)) == before
