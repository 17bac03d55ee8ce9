"""What is searched for, as a regular expression of PostgreSQL's: neither case nor accents matter.

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


def pattern(text: str) -> str:
    """Matches wherever `text` stands, with other accents or none, in capitals or not."""
    return "".join(map(_any_form, _MARK.sub("", unicodedata.normalize("NFC", text))))


@functools.lru_cache(maxsize=1024)
def _any_form(character: str) -> str:
    letter = _letter(character)
    if not letter.isalpha():
        return re.escape(character)
    cases = {form for form in (letter, letter.lower(), letter.upper()) if len(form) == 1}
    forms = cases.union(*(_accented().get(case, ()) for case in cases))
    return f"[{''.join(sorted(forms))}][{MARKS}]*"


def _letter(character: str) -> str:
    """Without its accents; itself if it has none."""
    apart = unicodedata.normalize("NFD", character)
    return apart[0] if all(map(_MARK.match, apart[1:])) else character


@functools.cache
def _accented() -> dict[str, set[str]]:
    """Every letter that can be written with an accent, and what it is then."""
    forms: dict[str, set[str]] = defaultdict(set)
    for character in map(chr, range(ord(BEYOND))):
        letter = _letter(character)
        if letter != character and letter.isalpha():
            forms[letter].add(character)
    return forms
