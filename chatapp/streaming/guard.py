"""The guard against prompt injection: what a person's message says that looks like orders against our own.

PROMPT_GUARD decides what comes of it: `off` looks at nothing, `flag` lets the turn run and keeps a row, `refuse`
answers 400 and keeps a row. Only the message that is being sent is looked at; never what was said before, an answer,
or instructions.

It is a tripwire with an audit trail, no wall: what we tell the model stands in a turn of its own, and holds no secret.

Each step goes through the text once, whatever the text: phrases are found by counting on from word to word, tags by
substring search, and no pattern here can backtrack.
"""

import functools
import hashlib
import re
import unicodedata
import uuid
from dataclasses import dataclass

import structlog
from django.conf import settings
from django.db import transaction

from accounts.models import User
from chatapp.problems import invalid
from chatapp.streaming.models import GuardFinding

log = structlog.get_logger(__name__)

# --- The rules

RULES = {
    "ignore-instructions": "Tells the model to ignore its instructions",
    "reveal-instructions": "Asks for the system prompt",
    "lift-restrictions": "Tells the model that no rules hold for it",
    "forged-role": "Has the marks of another speaker's turn",
    "hidden-text": "Has text that is not seen, or is seen in another order",
    "encoded-orders": "Has orders in base64, to be decoded and followed",
}
ADVICE = {
    "forged-role": "leave out marks such as </system> or [INST], which tell a model that somebody else speaks.",
    "hidden-text": "type it instead of pasting it: it holds characters that cannot be seen.",
    "encoded-orders": "write plainly what is to be done.",
}
OTHER_ADVICE = "ask for what you want without telling the model what to do with its instructions."


@dataclass(frozen=True, slots=True)
class Phrase:
    """A word of each list, in this order, with at most `gap` others between two of them."""

    rule: str
    lists: tuple[str, ...]
    gap: int = 4


ORDERS = (
    "instruction instructions prompt prompts rule rules guideline guidelines directive directives programming"
)
PHRASES = [
    Phrase(
        "ignore-instructions",
        (
            "ignore ignoring disregard disregarding forget forgetting neglect",
            "previous prior above earlier preceding foregoing all any your system",
            ORDERS,
        ),
    ),
    Phrase(
        "ignore-instructions",
        (
            "override overriding bypass bypassing circumvent",
            "your safety",
            f"{ORDERS} filters restrictions safeguards",
        ),
    ),
    Phrase(
        "reveal-instructions",
        (
            "reveal show print repeat output display tell leak dump share recite expose divulge paste",
            "your hidden initial original secret confidential",
            "instruction instructions prompt prompts guidelines directives",
        ),
    ),
    Phrase(
        "reveal-instructions",
        ("reveal leak dump recite expose divulge", "system developer", "prompt prompts message instructions"),
    ),
    Phrase("lift-restrictions", ("do", "anything", "now"), gap=0),
    Phrase("lift-restrictions", ("developer debug god jailbreak dan", "mode", "enabled activated on"), gap=1),
    Phrase(
        "lift-restrictions",
        (
            "pretend act behave respond",
            "no without",
            "restrictions limits limitations filters guidelines rules",
        ),
    ),
]
# As they stand in a text without its spaces, in small letters.
FORGED_TAGS = [
    *("<|im_start|>", "<|im_end|>", "<|system|>", "<|assistant|>", "<|user|>", "<|endoftext|>"),
    *("<|start_header_id|>", "<|eot_id|>", "<start_of_turn>", "<end_of_turn>", "<<sys>>", "<</sys>>"),
    # Not <system> and [system], which code and settings have.
    *("[inst]", "[/inst]", "</system>", "</assistant>", "###system:"),
]
# A line of base64 is longer, a word or a checksum is not.
LONG_BLOB = 70
BLOB = re.compile(r"[A-Za-z0-9+/]+")
DECODE = frozenset(("base64", "decode", "decoded", "decoding", "decrypt", "decipher"))
OBEY = frozenset(("follow", "execute", "obey", "perform", "run", "comply", "carry"))

# Tag characters spell what nobody sees, except in the flags of England, Scotland and Wales; the other two turn the
# order of reading round, which no language needs.
FLAG = re.compile("\U0001f3f4[\U000e0061-\U000e007a]{5}\U000e007f")
HIDDEN = re.compile("[\U000e0001-\U000e007f\u202d\u202e]")

# --- How a text is read

# Marks upon letters, and what takes no room.
UNSEEN = re.compile(
    "[\u00ad\u034f\u061c\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff\U000e0000-\U000e01ef"
    "\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]+"
)
# Small letters of Cyrillic and Greek that pass for Latin ones, at least as capitals.
LOOKALIKES = str.maketrans("авеіјкмнорсѕтухһԁԛαβεικνορτυχ", "abeijkmhopcstyxhdqabeikvoptyx")
WORD = re.compile(r"[^\W_]+")
# Signs of Katakana and Arabic that stand for up to eighteen letters: without them a text grows by four times at most.
WHOLE_WORDS = re.compile("[\u3300-\u33ff\ufb50-\ufdff]+")
# Putting the marks on a letter in order takes the square of their number, so no more than this is normalized at once.
PIECE = 256

Steps = dict[str, list[tuple[int, int]]]


def _steps(phrases: list[Phrase]) -> Steps:
    """For each word, the phrases it is in and where; later places first, so that no word follows on itself."""
    steps: Steps = {}
    for number, phrase in enumerate(phrases):
        for place in reversed(range(len(phrase.lists))):
            for word in phrase.lists[place].split():
                steps.setdefault(word, []).append((number, place))
    return steps


STEPS = _steps(PHRASES)


def broken_rules(text: str) -> list[str]:
    """The names of the rules that `text` breaks, in the order of RULES."""
    plain = fold(text)
    # One by one, here and in `fold`: a long call into C would keep the streams of this process waiting.
    words = [word.group() for word in WORD.finditer(plain)]
    found = _said(words)
    closed_up = "".join(plain.split())
    if any(tag in closed_up for tag in FORGED_TAGS):
        found.add("forged-role")
    if not text.isascii() and HIDDEN.search(FLAG.sub("", text)):
        found.add("hidden-text")
    if not DECODE.isdisjoint(words) and not OBEY.isdisjoint(words) and _has_long_blob(text):
        found.add("encoded-orders")
    return [rule for rule in RULES if rule in found]


def fold(text: str) -> str:
    """`text` as it reads: in small plain letters, whatever they are drawn with and whatever is hidden between them."""
    if text.isascii():
        return text.casefold()
    return "".join(_fold(text[begin : begin + PIECE]) for begin in range(0, len(text), PIECE))


def _fold(piece: str) -> str:
    plain = unicodedata.normalize("NFKD", WHOLE_WORDS.sub(" ", piece))
    return UNSEEN.sub("", plain).casefold().translate(LOOKALIKES)


def _said(words: list[str]) -> set[str]:
    """The rules of the phrases in `words`. One step for each place of a word in a phrase, of which there are few."""
    found: set[str] = set()
    reached: dict[tuple[int, int], int] = {}
    for at, word in enumerate(words):
        for number, place in STEPS.get(word, ()):
            phrase = PHRASES[number]
            if place:
                before = reached.get((number, place - 1))
                if before is None or at - before > phrase.gap + 1:
                    continue
            reached[number, place] = at
            if place == len(phrase.lists) - 1:
                found.add(phrase.rule)
    return found


def _has_long_blob(text: str) -> bool:
    return any(len(blob.group()) >= LONG_BLOB for blob in BLOB.finditer(text))


# --- What comes of it


@dataclass(frozen=True, slots=True)
class Finding:
    """The rules that a message breaks, and what is kept of the message: never itself."""

    rules: list[str]
    text_length: int
    text_sha256: str


def refuses() -> bool:
    """Whether what looks like an attempt is not sent."""
    return bool(settings.PROMPT_GUARD == "refuse")


def examine(user: User, turn_id: uuid.UUID, text: str) -> Finding | None:
    """What is to be kept of a message if the turn that it asks for is opened; None if it is like any other.

    Where the policy refuses it: Problem 400, and a row is all that is stored. Call it outside of a transaction.
    """
    if settings.PROMPT_GUARD == "off":
        return None
    rules = broken_rules(text)
    if not rules:
        return None
    finding = Finding(rules, len(text), hashlib.sha256(text.encode()).hexdigest())
    if refuses():
        keep(finding, user=user, turn_id=turn_id)
        raise invalid(
            text="This message looks like an attempt to change the instructions that the model works by, and was not "
            f"sent. To send it, {ADVICE.get(rules[0], OTHER_ADVICE)}"
        )
    return finding


def keep(finding: Finding | None, *, user: User, turn_id: uuid.UUID) -> None:
    """Store what was found, if anything was."""
    if finding is None:
        return
    GuardFinding.objects.create(
        user=user,
        turn_id=turn_id,
        rules=finding.rules,
        policy=settings.PROMPT_GUARD,
        text_length=finding.text_length,
        text_sha256=finding.text_sha256,
    )
    told = {"turn": str(turn_id), "policy": settings.PROMPT_GUARD, "rules": ",".join(finding.rules)}
    transaction.on_commit(functools.partial(log.warning, "prompt guard", **told))
