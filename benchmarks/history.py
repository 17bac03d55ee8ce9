"""What a long conversation's turn costs in input, beside what it would cost to send all of it again uncached.

Fifty turns of one conversation, through the API. The stand-in counts the prompts as Claude does, with the demo
Claude's prompt cache; the prices are those the turn was held at.
"""

import json
import uuid
from http.client import HTTPConnection

from benchmarks.people import OF_HISTORY, bearer, open_people
from benchmarks.report import Row, Target
from benchmarks.servers import HOST, Database
from benchmarks.site import MODEL, Site
from benchmarks.upstream import question

TARGET = Target(most=0.25)
TURNS, TURNS_OF_QUICK = 50, 3
# About a hundred tokens of question and two hundred of answer.
WORDS = "Please go on where we were, and say what follows from it. " * 7
EVENTS = 36


def measure(site: Site, *, quick: bool) -> list[Row]:
    turns = TURNS_OF_QUICK if quick else TURNS
    [key] = open_people(site.database, 1, first=OF_HISTORY)
    turn, conversation = ask(site, key, None)
    for _ in range(turns - 1):
        turn, conversation = ask(site, key, conversation)
    paid, uncached, tokens = input_credits(site.database, turn)
    return [
        Row(
            f"input of turn {turns}",
            "credits",
            TARGET,
            [paid],
            [uncached],
            "uncached",
            facts={"prompt_tokens": tokens, "model": MODEL},
        )
    ]


def ask(site: Site, key: str, conversation: str | None) -> tuple[str, str]:
    """One turn, read to its end; its id and its conversation's."""
    turn = str(uuid.uuid4())
    connection = HTTPConnection("127.0.0.1", site.port)
    text = f"{WORDS}{question(events=EVENTS, every=0, counted=True)}"
    body = {"id": turn, "text": text, "model": MODEL} | (
        {"conversation": conversation} if conversation else {}
    )
    headers = {"Host": HOST, "Content-Type": "application/json", **bearer(key)}
    connection.request("POST", site.web.path, json.dumps(body), headers)
    answer = connection.getresponse().read().decode()
    connection.close()
    if site.web.end not in answer:
        raise AssertionError(f"a turn did not complete: {answer[-500:]}")
    return turn, conversation_of(answer)


def conversation_of(answer: str) -> str:
    """As the first event of the stream tells it."""
    start = next(line for line in answer.splitlines() if line.startswith('data: {"type":"start"'))
    return str(json.loads(start.removeprefix("data: "))["conversation"])


def input_credits(database: Database, turn: str) -> tuple[float, float, int]:
    """What the turn's prompt cost, what the same prompt costs uncached, and how many tokens it has."""
    [[paid, uncached, tokens]] = database.execute(
        """
        SELECT
            (input_tokens * price.input_usd + cache_read_tokens * price.cache_read_usd
                + cache_write_5m_tokens * price.cache_write_5m_usd + cache_write_1h_tokens * price.cache_write_1h_usd)
                * price.markup / 10000,
            prompt.tokens * price.input_usd * price.markup / 10000,
            prompt.tokens
        FROM conversations_turn turn JOIN billing_price price ON price.id = turn.price_id
        CROSS JOIN LATERAL (
            SELECT input_tokens + cache_read_tokens + cache_write_5m_tokens + cache_write_1h_tokens AS tokens
        ) prompt
        WHERE turn.id = %(turn)s
        """,
        turn=turn,
    )
    return float(paid), float(uncached), int(tokens)
