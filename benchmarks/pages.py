"""Whether a long life here makes the site slow: a long conversation beside a short one, many of them beside few.

Server time is the time of a request over loopback, one at a time, on a connection that stays open.
"""

import base64
import hashlib
import re
import time
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPResponse
from statistics import median
from typing import LiteralString
from urllib.parse import urlencode

from benchmarks.ledger import person_id
from benchmarks.people import OF_PAGES, bearer, open_people
from benchmarks.report import Row, Target
from benchmarks.servers import HOST, Database
from benchmarks.site import Site

TARGET = Target(most=1.5)
PASSWORD = "the password of the benchmarks"  # noqa: S105


@dataclass(frozen=True, slots=True)
class Size:
    """Each pair is asked for `requests` times in each of `rounds` rounds, one of it after the other."""

    messages: int
    conversations: int
    few: int
    rounds: int
    requests: int


FULL = Size(messages=5_000, conversations=10_000, few=50, rounds=5, requests=20)
QUICK = Size(messages=8, conversations=8, few=4, rounds=1, requests=1)

# Who has the two conversations, who has many, who has few.
TALKER, HOARDER, BEGINNER = range(OF_PAGES, OF_PAGES + 3)


def measure(site: Site, *, quick: bool) -> list[Row]:
    size = QUICK if quick else FULL
    keys = dict(zip((TALKER, HOARDER, BEGINNER), open_people(site.database, 3, first=OF_PAGES), strict=True))
    long, short = (fill_conversation(site.database, count) for count in (size.messages, size.few))
    fill_list(site.database, HOARDER, size.conversations)
    fill_list(site.database, BEGINNER, size.few)
    site.database.execute("VACUUM ANALYZE")
    connection = HTTPConnection("127.0.0.1", site.port)
    cookies = {person: sign_in(connection, site.database, person) for person in keys}

    def page(path: str, person: int) -> "Visit":
        return Visit(path, cookies[person])

    def call(path: str, person: int) -> "Visit":
        return Visit(f"/api/v1/{path}", bearer(keys[person]))

    many_messages, few_messages = f"of {size.messages:,} messages", f"of {size.few}"
    many_chats, few_chats = f"{size.conversations:,} conversations", f"of {size.few}"
    pairs = [
        (
            f"chat page {many_messages}",
            few_messages,
            page(f"/chat/{long}/", TALKER),
            page(f"/chat/{short}/", TALKER),
        ),
        (
            f"API: conversation {many_messages}",
            few_messages,
            call(f"conversations/{long}/messages", TALKER),
            call(f"conversations/{short}/messages", TALKER),
        ),
        (f"chat page beside {many_chats}", few_chats, page("/chat/", HOARDER), page("/chat/", BEGINNER)),
        (
            f"API: list of {many_chats}",
            few_chats,
            call("conversations", HOARDER),
            call("conversations", BEGINNER),
        ),
    ]
    rows = [
        Row(figure, "ms", TARGET, *compared(connection, size, large, small), name)
        for figure, name, large, small in pairs
    ]
    connection.close()
    return rows


@dataclass(frozen=True, slots=True)
class Visit:
    """A request that must be answered with 200."""

    path: str
    headers: dict[str, str]


def compared(
    connection: HTTPConnection, size: Size, large: Visit, small: Visit
) -> tuple[list[float], list[float]]:
    """Milliseconds of each, the median of every round."""
    seconds(connection, large)  # everything is loaded and in memory
    seconds(connection, small)
    of_large, of_small = [], []
    for _ in range(size.rounds):
        taken = [(seconds(connection, large), seconds(connection, small)) for _ in range(size.requests)]
        of_large.append(median(one for one, _ in taken) * 1000)
        of_small.append(median(other for _, other in taken) * 1000)
    return of_large, of_small


def seconds(connection: HTTPConnection, visit: Visit) -> float:
    began = time.perf_counter()
    response, body = ask(connection, "GET", visit.path, visit.headers)
    took = time.perf_counter() - began
    if response.status != 200:
        raise AssertionError(f"{visit.path} was answered with {response.status}: {body[:300]!r}")
    return took


def ask(
    connection: HTTPConnection, method: str, path: str, headers: dict[str, str], body: str | None = None
) -> tuple[HTTPResponse, bytes]:
    connection.request(method, path, body, {"Host": HOST, "X-Forwarded-Proto": "https", **headers})
    response = connection.getresponse()
    return response, response.read()


# --- Signing in ------------------------------------------------------------------------------------------


def sign_in(connection: HTTPConnection, database: Database, number: int) -> dict[str, str]:
    """Sign this person in as a browser does; the headers of its further requests."""
    give_password(database, number)
    response, page = ask(connection, "GET", "/accounts/login/", {})
    token = re.search(rb'name="csrfmiddlewaretoken" value="(\w+)"', page)
    assert token is not None, page[:300]
    form = urlencode({"csrfmiddlewaretoken": token[1].decode(), "login": email(number), "password": PASSWORD})
    headers = {
        "Content-Type": "application/x-www-form-urlencoded",
        "Referer": f"https://{HOST}/accounts/login/",
        "Cookie": cookies_of(response),
    }
    response, page = ask(connection, "POST", "/accounts/login/", headers, form)
    if response.status != 302:
        raise AssertionError(f"signing in was answered with {response.status}: {page[:300]!r}")
    return {"Cookie": cookies_of(response)}


def cookies_of(response: HTTPResponse) -> str:
    return "; ".join(cookie.partition(";")[0] for cookie in response.headers.get_all("Set-Cookie", []))


def email(number: int) -> str:
    return f"bench-{number}@example.org"


def give_password(database: Database, number: int) -> None:
    """One that is quick to check, and a confirmed address."""
    hashed = base64.b64encode(hashlib.pbkdf2_hmac("sha256", PASSWORD.encode(), b"salt", 1)).decode()
    database.execute(
        "UPDATE accounts_user SET password = %(password)s WHERE id = %(person)s",
        """
        INSERT INTO account_emailaddress (user_id, email, verified, "primary")
        VALUES (%(person)s, %(email)s, true, true)
        """,
        person=person_id(number),
        email=email(number),
        password=f"pbkdf2_sha256$1$salt${hashed}",
    )


# --- Long lives ------------------------------------------------------------------------------------------


def fill_conversation(database: Database, messages: int) -> str:
    """One of so many messages, questions and answers in turn, each answer with the turn it came from; its id."""
    [[made]] = database.execute(*CONVERSATION, person=person_id(TALKER), messages=messages)
    return str(made)


def fill_list(database: Database, person: int, conversations: int) -> None:
    database.execute(
        """
        INSERT INTO conversations_conversation (id, user_id, title, pinned, archived, updated_at)
        SELECT gen_random_uuid(), %(person)s, 'Conversation ' || n, n <= 2, false, now() - n * interval '1 minute'
        FROM generate_series(1, %(conversations)s) n
        """,
        person=person_id(person),
        conversations=conversations,
    )


CONVERSATION: tuple[LiteralString, ...] = (
    """
    CREATE TEMPORARY TABLE said AS
    SELECT n, gen_random_uuid() AS id, now() - interval '1 day' + n * interval '10 seconds' AS at
    FROM generate_series(1, %(messages)s) n
    """,
    """
    CREATE TEMPORARY TABLE made AS
    WITH made AS (
        INSERT INTO conversations_conversation (id, user_id, title, pinned, archived)
        VALUES (gen_random_uuid(), %(person)s, 'A conversation', false, false) RETURNING id
    ) SELECT id FROM made
    """,
    """
    INSERT INTO conversations_message (id, conversation_id, parent_id, role, text, thinking, created_at)
    SELECT said.id, made.id, above.id, CASE WHEN said.n %% 2 = 1 THEN 'user' ELSE 'assistant' END,
        repeat('What is said here. ', 10), '', said.at
    FROM made CROSS JOIN said LEFT JOIN said above ON above.n = said.n - 1
    """,
    """
    UPDATE conversations_conversation SET tip_id = (SELECT id FROM said ORDER BY n DESC LIMIT 1)
    WHERE id = (SELECT id FROM made)
    """,
    """
    INSERT INTO conversations_turn (id, user_id, conversation_id, user_message_id, assistant_message_id, fingerprint,
        model_id, price_id, state, max_tokens, limited_by_balance, held, stop_requested, ended_at, provider,
        provider_request, stop_reason, input_tokens, output_tokens, cache_read_tokens, cache_write_5m_tokens,
        cache_write_1h_tokens, estimated, charged, cost, overrun, error_code, error_message)
    SELECT gen_random_uuid(), %(person)s, made.id, above.id, said.id, '', price.model_id, price.id, 'completed', 256,
        false, 0, false, now(), '', '', 'end_turn', 100, 50, 0, 0, 0, false, 0, 0, 0, '', ''
    FROM made CROSS JOIN (SELECT id, model_id FROM billing_price ORDER BY id LIMIT 1) price
    CROSS JOIN said JOIN said above ON above.n = said.n - 1 WHERE said.n %% 2 = 0
    """,
    "SELECT id FROM made",
)
