"""What is searched for, as regular expressions of PostgreSQL's: neither case nor accents matter.

A text is compared as it was written. To take its accents away for the comparison (`normalize` in SQL) takes PostgreSQL
some twenty times as long as to look for any of a letter's forms.
"""

import functools
import re
import unicodedata
from collections import defaultdict

# Combining diacritical marks. Those of other scripts, such as kana, make another letter.
MARKS = "\u0300-\u036f"
# Beyond it Unicode has no letter that comes apart into one and such marks.
BEYOND = "\u2200"
_MARK = re.compile(f"[{MARKS}]")

# PostgreSQL keeps 32 compiled expressions; with more it would compile each anew for each message.
MOST_TERMS = 16
QUOTES = '"“”„«»'
# In quotes, closed or still being typed; or else up to the next space.
_TERM = re.compile(rf"[{QUOTES}]([^{QUOTES}]+)(?:[{QUOTES}]|$)|(\S+)")


def patterns(query: str) -> list[str]:
    """One for each word of `query`, and for each phrase in quotes: what is found matches all of them.

    The longest come first: most texts lack those, and are not looked through for the others. Of very many words the
    shortest are left out. Quotes with nothing in them, yet, are no term.
    """
    found = ((phrase or word).strip() for phrase, word in _TERM.findall(query))
    terms = [term for term in found if term.strip(QUOTES)]
    distinct = dict.fromkeys(map(pattern, sorted(terms, key=len, reverse=True)))
    return list(distinct)[:MOST_TERMS]


def pattern(text: str) -> str:
    """Matches wherever `text` stands, with other accents or none, in capitals or not."""
    # NFC takes some letters apart that are written as one, of Hindi and Bengali for example.
    spellings = dict.fromkeys(map(_any_form_of, (unicodedata.normalize("NFC", text), text)))
    return f"(?:{'|'.join(spellings)})"


def _any_form_of(text: str) -> str:
    return "".join(map(_any_form, _MARK.sub("", text)))


@functools.lru_cache(maxsize=1024)
def _any_form(character: str) -> str:
    letter = _letter(character)
    if not letter.isalpha():
        return re.escape(character)
    cases = {form for form in (character, letter, letter.lower(), letter.upper()) if len(form) == 1}
    forms = cases | _forms().get(_folded(letter), set())
    return f"[{''.join(sorted(forms))}][{MARKS}]*"


def _letter(character: str) -> str:
    """Without its accents; itself if it has none."""
    apart = unicodedata.normalize("NFD", character)
    return apart[0] if all(map(_MARK.match, apart[1:])) else character


def _folded(letter: str) -> str:
    """The same for all cases of a letter: those of some are more than two, such as Σ, σ and ς."""
    return letter.upper().casefold()


@functools.cache
def _forms() -> dict[str, set[str]]:
    """By a letter as it is folded: all its cases, with each accent that they can be written with."""
    forms: dict[str, set[str]] = defaultdict(set)
    for character in map(chr, range(ord(BEYOND))):
        letter = _letter(character)
        if letter.isalpha():
            forms[_folded(letter)].add(character)
    return forms
