"""What the demo says: an answer, a title and some thoughts for any question, without a model.

Subjects that demos ask for have an answer written out under `written/`; for everything else an answer is
put together from `written/composed/` that takes up the question's own words.
"""

import re
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

from . import tokens

WRITTEN = Path(__file__).parent / "written"

TITLE_WORDS = 6
SUMMARY_LINES = 12
_ASKED = re.compile(r'from="person">\s*(.*?)\s*</', re.DOTALL)


def _pattern(*alternatives: str) -> re.Pattern[str]:
    return re.compile("|".join(alternatives), re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True)
class Subject:
    """A question that has an answer written out: in `written/<name>.md`."""

    name: str
    title: str
    asked: re.Pattern[str]


# The first that matches answers.
SUBJECTS: tuple[Subject, ...] = tuple(
    Subject(name, title, _pattern(*asked))
    for name, title, *asked in (
        (
            "who-are-you",
            "Who is answering here",
            r"\bwho are you\b",
            r"\bare you (the )?(real|claude|a demo)\b",
        ),
        (
            "double-entry",
            "Double entry in one page",
            r"\bdouble[- ]entry\b",
            r"\bbookkeeping\b",
            r"\bledgers?\b",
        ),
        ("hold", "What a hold is", r"\b(a|the) hold\b", r"\bholds? (and|then) settle"),
        ("prompt-caching", "Paying less with prompt caching", r"\bprompt[- ]cach", r"\bcache_control\b"),
        ("lost-syn", "Why SYN packets get lost", r"\bSYNs?\b", r"\blisten backlog\b", r"\baccept queue\b"),
        ("rust-or-go", "Rust or Go for a relay", r"\brust\b.*\bgo(lang)?\b", r"\bgo(lang)?\b.*\brust\b"),
        ("bakery-names", "Naming a small bakery", r"\bbaker(y|ies)\b"),
        ("landlord-letter", "Letter to the landlord", r"\blandlord\b", r"\btenancy\b"),
        ("queueing-theory", "Reading list on queueing theory", r"\bqueue?ing theory\b", r"\blittle'?s law\b"),
        ("lisbon", "Plan for Lisbon in March", r"\blisbon\b", r"\bportugal\b"),
        (
            "server-sent-events",
            "Server-Sent Events by hand",
            r"\bserver[- ]sent\b",
            r"\bSSE\b",
            r"\beventsource\b",
        ),
        (
            "asyncio",
            "Waiting for many things at once",
            r"\basyncio\b",
            r"\bcoroutines?\b",
            r"\basync\b.*\bawait\b",
        ),
        (
            "binary-search",
            "Binary search without off-by-one",
            r"\bbinary search\b",
            r"\bbisect\b",
        ),
        ("debounce", "Debounce and throttle", r"\bdebounc", r"\bthrottl"),
        ("postgres-index", "The index that helps", r"\b(postgres\w*|sql|database)\b.*\b(slow|ind(ex|ices))"),
        ("quadratic", "Solving quadratic equations", r"\bquadratic\b", r"\bdiscriminant\b"),
        ("japanese", "A little Japanese for travellers", r"\bjapanese\b", "日本", "こんにちは"),
        ("bread", "Bread for people with a day job", r"\bbread\b", r"\bloaf\b", r"\bdough\b"),
        ("poem", "A poem for small hours", r"\bpoems?\b", r"\bhaiku\b", r"\bverses?\b"),
        ("git-undo", "Undoing things in git", r"\bgit\b"),
    )
)

# How an answer begins that nobody has written, and what is added when the question asks for it.
OPENINGS = ("first-steps", "three-views", "taken-apart", "in-order")
WISHES = {
    "a table": ("with-table", _pattern(r"\btables?\b", r"\bcompar", r"\bvs\b", r"\bor\b")),
    "some Python": ("with-python", _pattern(r"\bpython\b", r"\bcode\b", r"\bscript\b", r"\bfunction\b")),
    "some JavaScript": ("with-javascript", _pattern(r"\b(java|type)script\b", r"\bjs\b")),
    "a formula": ("with-formula", _pattern(r"\bformula", r"\bequation", r"\bmath", r"\bcalculat")),
}

GREETINGS = (
    "Hello! 👋 What shall we look at today?",
    "Hi there! Ask me anything: an explanation, a plan, a few lines of code.",
    "Good to see you. What is on your mind?",
)
THANKS = (
    "You're welcome! Is there anything you would like to go into more deeply?",
    "Gladly. If you try it, tell me how it went.",
)
_GREETED = _pattern(r"^\W*(hi|hello|hey|good (morning|evening|day)|moin|salut|hallo)\b.{0,24}$")
_THANKED = _pattern(r"^\W*(thanks?|thank you|great|perfect|cool|ok(ay)?)\b.{0,24}$")

# What stands before the subject of a question; taken off again and again.
_LEAD = re.compile(
    r"^("
    r"please|claude|hello|hi|hey|so|and|but|now|well|also"
    r"|(can|could|would|will) you|help me( to)?|i (want|need)( to)?( know)?|i'd like to( know)?"
    r"|tell me( about)?|explain( to me)?|describe|summari[sz]e|compare|discuss|show me|give me|list|suggest"
    r"|write( me)?|draft|create|make"
    r"|what('s| is| are| was| were)?|who (is|was)|why (is|are|do|does|did|should)?"
    r"|how (do|does|can|could|should|would|to|did)( i| you| we| one)?"
    r")\b[\s,:]*",
    re.IGNORECASE,
)
_CLAUSE_END = re.compile(r"[.?!:;]|, (with|using|in|and)\b")
_DANGLING = {"a", "an", "and", "for", "in", "my", "of", "the", "to", "with"}


def answer(question: str, variant: int = 0) -> str:
    """Markdown that answers `question`; `variant` counts how often it was asked before."""
    if _GREETED.match(question):
        return GREETINGS[variant % len(GREETINGS)]
    if _THANKED.match(question):
        return THANKS[variant % len(THANKS)]
    subject = subject_of(question)
    return _composed(question, variant) if subject is None else _written(subject.name)


def title(text: str) -> str:
    """At most six words that name what `text` is about."""
    subject = subject_of(text)
    if subject is not None:
        return subject.title
    if _GREETED.match(text):
        return "A first hello"
    words = topic(text).split()[:TITLE_WORDS]
    while len(words) > 1 and words[-1].lower() in _DANGLING:
        words.pop()
    return _capitalized(" ".join(words).rstrip(",")[:60])


def first_asked(quoted: str) -> str:
    """What the person said first in a conversation that is quoted; empty where none is."""
    found = _ASKED.search(quoted)
    return found[1] if found else ""


def summary(transcript: str) -> str:
    """What a person asked for in `transcript`, a line each, the newest last."""
    asked = _ASKED.findall(transcript)
    before = ["- what the earlier summary tells"] if "summary of what came before" in transcript else []
    return "\n".join(["So far:", *before, *(f"- {topic(said)}" for said in asked[-SUMMARY_LINES:])])


def thoughts(question: str) -> str:
    """What is thought before `question` is answered."""
    if _GREETED.match(question) or _THANKED.match(question):
        return "Nothing to work out here. A short and friendly answer is best."
    wishes = " and ".join(wish for wish, (_, asked) in WISHES.items() if asked.search(question))
    plan = f"They ask for {wishes} explicitly, so that must be there. " if wishes else ""
    return (
        f"The question is about {topic(question)}. {plan}I should open with the one sentence that matters "
        "most, then give what supports it, and keep an example close to what they already know. Anything "
        "that only shows off can go. Let me also check the numbers before I write them down."
    )


@lru_cache(maxsize=8)
def filler(wanted_tokens: int) -> str:
    """Markdown of at least `wanted_tokens` tokens: all that is written, again and again, as chapters."""
    chapters: list[str] = []
    have = number = 0
    while have < wanted_tokens:
        subject = SUBJECTS[number % len(SUBJECTS)]
        number += 1
        chapter = f"## {number}. {subject.title}\n\n{_written(subject.name)}\n\n"
        chapters.append(chapter)
        have += tokens.count(chapter)
    return "".join(chapters)


def subject_of(text: str) -> Subject | None:
    """The written subject that `text` asks about, if there is one."""
    return next((subject for subject in SUBJECTS if subject.asked.search(text)), None)


def topic(question: str) -> str:
    """What a question is about, in its own words: `What is the tide?` is about `the tide`."""
    text = " ".join(question.split())
    while (shorter := _LEAD.sub("", text)) and shorter != text:
        text = shorter
    end = _CLAUSE_END.search(text)
    if end and end.start() > 3:
        text = text[: end.start()]
    text = text.strip(" ,.;:!?\"'“”`*#[]<>|")
    if len(text) > 70:
        text = text[:70].rsplit(" ", 1)[0]
    return text or "this"


def _composed(question: str, variant: int) -> str:
    """An answer to a question nobody has written one for."""
    about = topic(question)
    opening = OPENINGS[(sum(question.encode()) + variant) % len(OPENINGS)]
    text = _written(f"composed/{opening}")
    text = text.replace("{about}", about).replace("{About}", _capitalized(about))
    additions = [_written(f"composed/{part}") for part, asked in WISHES.values() if asked.search(question)]
    return "\n\n".join([text, *additions, _written("composed/note")])


def _capitalized(text: str) -> str:
    return text[:1].upper() + text[1:]


@cache
def _written(name: str) -> str:
    return (WRITTEN / f"{name}.md").read_text(encoding="utf-8").strip()
