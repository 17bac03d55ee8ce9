"""What belongs to no conversation: who I am, models, the statement, usage; and calls that there are not."""

import json
import re
import uuid
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest
from django.utils import timezone

from accounts.models import User
from billing.api import models_offered
from billing.models import LanguageModel, Price
from chatapp import problems
from chatapp.conversations import api as conversations
from chatapp.failures import FAILURES
from chatapp.streaming.models import UsageRecord
from tests.admin.desk import ended_turn
from tests.billing.books import close_turn, give, open_turn, order, pay
from tests.calling import Caller, answered, in_browser, refused, visitor, with_key
from tests.conversations.talk import conversation

CREDIT = 1_000_000


@pytest.fixture
def api(committed_db: None, alice: User) -> Caller:
    return in_browser(alice)


@pytest.fixture(params=[in_browser, with_key])
def either(committed_db: None, alice: User, request: pytest.FixtureRequest) -> Caller:
    """Alice's page, and then a program with her key."""
    caller: Caller = request.param(alice)
    return caller


# --- Calls that there are not


@pytest.mark.parametrize(
    "path",
    ["", "nothing", "me/", "conversations/5", "conversations/me/messages", "turns/x/stop", "%00", "me%0a"],
)
def test_at_an_unknown_address_there_is_nothing(api: Caller, path: str) -> None:
    for method in ("GET", "POST", "PATCH", "DELETE"):
        status, problem = api.refusal(method, path, {})

        assert (status, problem["code"], problem["title"]) == (404, "not_found", "Not found")
        assert problem["detail"] == "There is nothing at this address."
        assert problem["type"] == "urn:chatapp:not_found"


@pytest.mark.parametrize("path", ["/api/", "/api/v2/me", "/api/v1/nothing"])
def test_nor_is_there_for_strangers(db: None, path: str) -> None:
    for response in (visitor().get(path), visitor().post(path, {"no": "token"})):
        assert refused(response)[1]["code"] == "not_found"


def test_a_wrong_method_is_told_the_right_ones(api: Caller) -> None:
    for method, path, allowed in [
        ("DELETE", "conversations", "GET, POST"),
        ("PUT", f"conversations/{uuid.uuid4()}", "DELETE, GET, PATCH"),
        ("POST", "me", "GET"),
        ("GET", "turns", "POST"),
        ("GET", f"turns/{uuid.uuid4()}/stop", "POST"),
    ]:
        response = api.call(method, path, {})
        status, problem = refused(response)
        assert (status, problem["code"], response["Allow"]) == (405, "method_not_allowed", allowed)
        assert allowed in problem["detail"]


def test_other_pages_that_there_are_not_stay_pages(db: None) -> None:
    response = visitor().get("/nothing/")
    assert response.status_code == 404
    assert response["Content-Type"].startswith("text/html")


def test_garbage_in_a_body_is_refused(api: Caller) -> None:
    for body in (
        *([], "text", 5, None, b"", b"{", b"\xff\xfe", b'{"title": "x"', b"[" * 100_000),
        *(b'{"title": ' + b"9" * 5000 + b"}", b'{"title": "\\ud800"}', b'{"title": "\\u0000"}'),
    ):
        status, problem = api.refusal("POST", "conversations", body)
        assert (status, problem["code"]) == (400, "invalid"), body
    assert api.get("conversations")["items"] == []


def test_text_of_every_script_is_taken(api: Caller) -> None:
    title = "Grüße, 你好, 👋🏽, e\u0301, \u202e"
    assert api.post("conversations", title=title)["title"] == title


def test_a_page_needs_its_token_and_a_key_does_not(api: Caller, alice: User) -> None:
    without = Caller(api._client, {})
    for method, path in [("POST", "conversations"), ("PATCH", f"conversations/{uuid.uuid4()}")]:
        status, problem = without.refusal(method, path, {})
        assert (status, problem["code"]) == (403, "forbidden")
    # What changes nothing needs none.
    assert without.get("me")["email"] == alice.email


def test_a_deactivated_person_is_nobody(either: Caller, alice: User) -> None:
    User.objects.filter(pk=alice.pk).update(is_active=False)
    status, problem = either.refusal("GET", "me")
    assert (status, problem["code"]) == (401, "not_signed_in")


def test_too_many_parameters_are_a_problem(api: Caller) -> None:
    status, problem = api.refusal("GET", "conversations", **{f"q{number}": "x" for number in range(1001)})
    assert (status, problem["code"]) == (400, "invalid")


def test_our_own_mistake_is_a_problem_and_one_traceback_without_what_was_said(
    api: Caller, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(user: User, listing: Any) -> None:
        raise ValueError(f"no listing is {listing.q}")

    monkeypatch.setattr(conversations, "conversations_page", broken)
    status, problem = api.refusal("GET", "conversations", q="my secret")

    assert (status, problem["code"]) == (500, "internal")
    assert "my secret" not in str(problem)
    assert len([record for record in caplog.records if "Traceback" in record.getMessage()]) == 1
    assert "in broken" in caplog.text
    assert "my secret" not in caplog.text


def test_the_schema_names_every_code_of_an_error(api: Caller) -> None:
    described = api.get("openapi.json")["info"]["description"]
    assert {code for code in problems.TITLES if f"`{code}`" not in described} == set()


# --- me


def test_me_is_who_calls_and_what_they_have(either: Caller, alice: User) -> None:
    assert either.get("me") == {
        "email": alice.email,
        "name": "Alice",
        "balance": {"available": "100.000000", "held": "0.000000"},
    }
    turn = open_turn(alice, 1_500_001)
    assert either.get("me")["balance"] == {"available": "98.499999", "held": "1.500001"}
    close_turn(turn, price=1)
    assert either.get("me")["balance"] == {"available": "99.999999", "held": "0.000000"}


# --- models


def test_a_model_is_told_with_its_prices_and_limits(either: Caller) -> None:
    models = {model["id"]: model for model in either.get("models")["items"]}

    assert list(models) == ["claude-sonnet-5-5", "claude-haiku-5-5", "claude-opus-5-5", "claude-fable-5-2"]
    # US$ 0.10 per million tokens are 10 credits.
    assert models["claude-haiku-5-5"] == {
        "id": "claude-haiku-5-5",
        "name": "Haiku 5.5",
        "description": "The quickest and cheapest",
        "default": False,
        "context_tokens": 1_000_000,
        "max_output_tokens": 128_000,
        "answer_tokens": 8192,
        "thinks": False,
        "prices": {
            "input": "10.000000",
            "output": "50.000000",
            "cache_write_5m": "12.500000",
            "cache_write_1h": "20.000000",
            "cache_read": "1.000000",
        },
        "tier": {
            "above_tokens": 100_000,
            "prices": {
                "input": "50.000000",
                "output": "250.000000",
                "cache_write_5m": "62.500000",
                "cache_write_1h": "100.000000",
                "cache_read": "5.000000",
            },
        },
        "flat_fee": "0.000000",
        "fallback": None,
    }
    assert models["claude-sonnet-5-5"]["default"] is True
    assert models["claude-sonnet-5-5"]["tier"] is None


def test_models_are_those_on_sale_in_the_operators_order_and_the_first_is_the_default(db: None) -> None:
    LanguageModel.objects.filter(pk="claude-sonnet-5-5").update(position=99)
    LanguageModel.objects.filter(pk="claude-haiku-5-5").update(retires_on=timezone.now().date())
    LanguageModel.objects.filter(pk="claude-haiku-4-5").update(on_sale=True, position=2)
    LanguageModel.objects.create(
        id="claude-unpriced", name="New", context_tokens=9999, max_output_tokens=9999, position=0
    )

    assert [(model.id, model.default) for model in models_offered()] == [
        ("claude-haiku-4-5", True),
        ("claude-opus-5-5", False),
        ("claude-fable-5-2", False),
        ("claude-sonnet-5-5", False),
    ]


def test_prices_are_those_of_now_with_the_markup(db: None) -> None:
    former = Price.objects.now_for("claude-sonnet-5-5")
    for days, markup, fee in [(0, "1.2345", "0.25"), (1, "9", "9")]:
        Price.objects.create(
            model_id=former.model_id,
            effective_from=timezone.now() + timedelta(days=days),
            input_usd=Decimal("2.000001"),
            output_usd=former.output_usd,
            cache_write_5m_usd=former.cache_write_5m_usd,
            cache_write_1h_usd=former.cache_write_1h_usd,
            cache_read_usd=former.cache_read_usd,
            markup=Decimal(markup),
            flat_fee=Decimal(fee),
        )

    sonnet = models_offered()[0]
    assert sonnet.prices.input == "246.900124"  # 2.000001 × 100 × 1.2345 = 246.90012345
    assert sonnet.prices.output == "1234.500000"
    assert sonnet.flat_fee == "0.250000"


# --- transactions


def test_the_statement_tells_every_movement_with_its_sign_and_the_balance_after_it(
    either: Caller, alice: User
) -> None:
    bought = order(alice, 500 * CREDIT)
    pay(bought)
    give(alice, -50 * CREDIT)
    turn = open_turn(alice, CREDIT)
    close_turn(turn, price=CREDIT + 7)  # what goes beyond the hold is the house's, and no movement of hers

    page = either.get("transactions")

    assert page["next"] is None
    names = ["kind", "description", "amount", "balance_after", "turn", "order"]
    told = [{name: item[name] for name in names} for item in page["items"]]
    assert told == [
        {
            "kind": "charge",
            "description": "Answer: Haiku 5.5 in a chat deleted since",
            "amount": "-1.000000",
            "balance_after": "549.000000",
            "turn": str(turn),
            "order": None,
        },
        {
            "kind": "adjustment",
            "description": "Adjustment: for a test",
            "amount": "-50.000000",
            "balance_after": "550.000000",
            "turn": None,
            "order": None,
        },
        {
            "kind": "purchase",
            "description": "Credits bought: Paid $1 through Stripe",
            "amount": "500.000000",
            "balance_after": "600.000000",
            "turn": None,
            "order": str(bought.pk),
        },
        {
            "kind": "signup",
            "description": "Welcome credits: A gift to begin with",
            "amount": "100.000000",
            "balance_after": "100.000000",
            "turn": None,
            "order": None,
        },
    ]
    times = [datetime.fromisoformat(item["at"]) for item in page["items"]]
    assert times == sorted(times, reverse=True)
    assert {at.utcoffset() for at in times} == {timedelta(0)}


def test_the_statement_is_read_page_by_page(api: Caller, alice: User, bob: User) -> None:
    for amount in range(1, 12):
        give(alice, amount)
        give(bob, amount)

    pages: list[list[dict[str, Any]]] = []
    cursor: dict[str, str] = {}
    while not pages or cursor["cursor"] is not None:
        page = api.get("transactions", limit=5, **cursor)
        pages.append(page["items"])
        cursor = {"cursor": page["next"]}
        give(alice, 1000)  # what arrives meanwhile is not for these pages

    assert [len(page) for page in pages] == [5, 5, 2]
    items = [item for page in pages for item in page]
    assert [Decimal(item["amount"]) * CREDIT for item in items] == [*range(11, 0, -1), 100 * CREDIT]
    for newer, older in pairwise(items):
        assert Decimal(newer["balance_after"]) == Decimal(older["balance_after"]) + Decimal(newer["amount"])


def test_a_statement_that_cannot_be_given_is_refused_with_the_field_at_fault(api: Caller) -> None:
    for query, field in [
        ({"cursor": "x"}, "cursor"),
        ({"cursor": 0}, "cursor"),
        ({"cursor": "9" * 5000}, "cursor"),
        ({"limit": 0}, "limit"),
        ({"limit": 201}, "limit"),
    ]:
        status, problem = api.refusal("GET", "transactions", **query)
        assert (status, problem["code"], list(problem["fields"])) == (400, "invalid", [field])
    assert len(api.get("transactions", cursor=10**30)["items"]) == 1  # beyond all ids is the beginning


# --- usage

JANUARY = datetime(2027, 1, 1, tzinfo=UTC)


def used(user: User, *, at: datetime, charged: int = CREDIT, **columns: Any) -> UsageRecord:
    turn = ended_turn(user, ended_at=at, price=charged, **columns)
    return UsageRecord.objects.get(turn=turn)


def test_usage_is_added_up_by_day_model_and_conversation(either: Caller, alice: User, bob: User) -> None:
    first, second = sorted((conversation(alice), conversation(alice)), key=lambda made: made.pk)
    tokens = {"input_tokens": 100, "output_tokens": 20, "cache_read_tokens": 3}
    written = {"cache_write_5m_tokens": 4, "cache_write_1h_tokens": 5}
    used(alice, at=JANUARY, conversation=first, **tokens, **written)
    used(alice, at=JANUARY + timedelta(hours=23), conversation=second, charged=2, **tokens)
    used(alice, at=JANUARY + timedelta(days=1), model="claude-haiku-5-5", conversation=second, **tokens)
    used(alice, at=JANUARY + timedelta(days=2), charged=0, state="failed", error_code="overloaded")
    used(bob, at=JANUARY, **tokens)

    def usage(group: str) -> list[dict[str, Any]]:
        span = {"from": "2027-01-01", "to": "2027-01-03"}
        answer = either.get("usage", group=group, **span)
        items: list[dict[str, Any]] = answer.pop("items")
        assert answer == {**span, "group": group, "next": None}
        return items

    by_day = usage("day")
    assert by_day[0] == {
        "day": "2027-01-01",
        "turns": 2,
        "input_tokens": 200,
        "output_tokens": 40,
        "cache_read_input_tokens": 6,
        "cache_creation_input_tokens": 9,
        "charged": "1.000002",
    }
    assert [(item["day"], item["turns"], item["charged"]) for item in by_day[1:]] == [
        ("2027-01-02", 1, "1.000000"),
        ("2027-01-03", 1, "0.000000"),
    ]
    assert [(item["model"], item["turns"], item["charged"]) for item in usage("model")] == [
        ("claude-haiku-5-5", 1, "1.000000"),
        ("claude-sonnet-5-5", 3, "1.000002"),
    ]
    assert [(item["conversation"], item["turns"], item["charged"]) for item in usage("conversation")] == [
        (str(first.pk), 1, "1.000000"),
        (str(second.pk), 2, "1.000002"),
        (None, 1, "0.000000"),
    ]


def test_both_ends_of_a_span_are_whole_days(api: Caller, alice: User) -> None:
    microsecond = timedelta(microseconds=1)
    for charged, at in enumerate(
        [
            JANUARY - microsecond,
            JANUARY,
            JANUARY + timedelta(days=2) - microsecond,
            JANUARY + timedelta(days=2),
        ],
        start=1,
    ):
        used(alice, at=at, charged=charged)

    items = api.get("usage", **{"from": "2027-01-01", "to": "2027-01-02"})["items"]

    assert [(item["day"], item["charged"]) for item in items] == [
        ("2027-01-01", "0.000002"),
        ("2027-01-02", "0.000003"),
    ]


def test_usage_is_by_day_of_the_last_thirty_unless_asked_otherwise(api: Caller, alice: User) -> None:
    now = timezone.now()
    for days in (0, 29, 30):
        used(alice, at=now - timedelta(days=days))

    usage = api.get("usage")

    assert usage["group"] == "day"
    assert date.fromisoformat(usage["to"]) - date.fromisoformat(usage["from"]) == timedelta(days=29)
    assert [item["turns"] for item in usage["items"]] == [1, 1]
    assert api.get("usage", to="2027-01-31")["from"] == "2027-01-02"


def test_a_span_that_there_is_not_is_refused_with_the_field_at_fault(api: Caller) -> None:
    for query, field in [
        ({"from": "yesterday"}, "from"),
        ({"from": "2027-02-29"}, "from"),
        ({"from": "0001-01-01"}, "from"),
        ({"to": "0001-01-01"}, "to"),
        ({"to": "10000-01-01"}, "to"),
        ({"from": "2027-01-02", "to": "2027-01-01"}, "from"),
        ({"group": "hour"}, "group"),
        ({"group": ""}, "group"),
    ]:
        status, problem = api.refusal("GET", "usage", **query)
        assert (status, problem["code"], list(problem["fields"])) == (400, "invalid", [field]), query
        assert problem["detail"].endswith(".")
    assert api.get("usage", **{"from": "2000-01-01", "to": "9999-12-31"})["items"] == []


# --- The schema

CALLS = {
    "get me": {401, 429, 500, 503},
    "get models": {401, 429, 500, 503},
    "get conversations": {400, 401, 429, 500, 503},
    "post conversations": {400, 401, 403, 413, 429, 500, 503},
    "get conversations/{conversation_id}": {401, 404, 429, 500, 503},
    "patch conversations/{conversation_id}": {400, 401, 403, 404, 413, 429, 500, 503},
    "delete conversations/{conversation_id}": {401, 403, 404, 429, 500, 503},
    "get conversations/{conversation_id}/messages": {400, 401, 404, 429, 500, 503},
    "post turns": {400, 401, 402, 403, 404, 409, 413, 429, 500, 503},
    "get turns/{turn_id}": {401, 404, 429, 500, 503},
    "get turns/{turn_id}/events": {400, 401, 404, 429, 500, 503},
    "post turns/{turn_id}/stop": {401, 403, 404, 429, 500, 503},
    "get usage": {400, 401, 429, 500, 503},
    "get transactions": {400, 401, 429, 500, 503},
}


def test_the_schema_tells_every_call_its_parameters_and_refusals(db: None) -> None:
    schema = answered(visitor().get("/api/v1/openapi.json"))
    told = {
        f"{method} {path.removeprefix('/api/v1/')}": call
        for path, methods in schema["paths"].items()
        for method, call in methods.items()
    }
    refusals = {
        name: {
            int(status)
            for status, answer in call["responses"].items()
            if problems.PROBLEM_JSON in answer.get("content", {})
        }
        for name, call in told.items()
    }
    assert refusals == CALLS
    codes = {
        code
        for call in told.values()
        for answer in call["responses"].values()
        for about in answer.get("content", {})
        .get(problems.PROBLEM_JSON, {})
        .get("schema", {})
        .get("allOf", [])
        for code in about.get("properties", {}).get("code", {}).get("enum", [])
    }
    assert codes == set(problems.TITLES) - {"method_not_allowed"}
    for call in told.values():
        assert call["description"]
        assert all(given["description"].endswith(".") for given in call["parameters"]), call["parameters"]
    # Every reference leads somewhere.
    references = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(schema)))
    assert references <= set(schema["components"]["schemas"])


def test_the_schema_tells_every_event_of_a_stream(db: None) -> None:
    schema = answered(visitor().get("/api/v1/openapi.json"))
    schemas = schema["components"]["schemas"]
    for method, path in [("post", "/api/v1/turns"), ("get", "/api/v1/turns/{turn_id}/events")]:
        content = schema["paths"][path][method]["responses"]["200"]["content"]
        assert content == {"text/event-stream": {"schema": {"$ref": "#/components/schemas/TurnEvent"}}}
    events = {
        event["properties"]["event"]["const"]: schemas[event["properties"]["data"]["$ref"].rpartition("/")[2]]
        for event in schemas["TurnEvent"]["oneOf"]
    }
    assert list(events) == ["start", "thinking", "text", "done", "error"]
    for name, data in events.items():
        assert data["properties"]["type"] == {"const": name}
    assert set(events["error"]["properties"]["code"]["enum"]) == set(FAILURES)
    assert {"status", "usage", "charged", "balance", "estimated"} <= set(events["done"]["required"])


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "turns"), ("POST", "conversations"), ("PATCH", "conversations/{chat}")]
)
def test_a_field_that_there_is_not_is_refused_by_its_name(
    api: Caller, alice: User, method: str, path: str
) -> None:
    chat = conversation(alice)
    status, problem = api.refusal(method, path.format(chat=chat.pk), {"titel": "x", "text": "x"})
    assert (status, problem["code"]) == (400, "invalid")
    assert "no such field" in problem["fields"]["titel"][0]
