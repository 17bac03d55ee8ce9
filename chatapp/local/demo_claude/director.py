"""Who says what the next reply is made to do: the command line, a test, or the prompt itself."""

from collections.abc import Sequence
from dataclasses import dataclass

from . import directives, reply
from .directives import DirectiveError
from .errors import invalid
from .prompt import Prompt
from .script import Changes, Script


@dataclass
class Cue:
    """A script for the next `times` messages whose last user text contains `match`."""

    changes: list[Changes]
    times: int = 1
    match: str = ""


class Director:
    """Hands out scripts. What comes later weighs more: the beginning, `always`, the next cue, the prompt."""

    def __init__(self, changes: Sequence[Changes]) -> None:
        """`changes` hold for every reply, also after a reset."""
        self._from_the_beginning = list(changes)
        self.always: list[Changes] = []
        self.cues: list[Cue] = []

    def reset(self) -> None:
        """Forgets what was said since the beginning."""
        self.always.clear()
        self.cues.clear()

    def script_for(self, asked: Prompt, *, takes_cue: bool = True) -> Script:
        """The script for one reply; ApiError 400 when the prompt holds a wrong directive.

        A request for a title or a summary quotes what people wrote, so its directives are not meant for it; and it
        takes no cue that does not name it.
        """
        quoting = reply.quotes_a_conversation(asked)
        changes = [*self._from_the_beginning, *self.always]
        if takes_cue:
            changes += self._next_cue(asked.last_text, only_named=quoting)
        if not quoting:
            try:
                changes += directives.from_prompt(asked.last_text)
            except DirectiveError as error:
                raise invalid(f"demo: {error}") from error
        return Script().with_changes(*changes)

    def _next_cue(self, text: str, *, only_named: bool) -> list[Changes]:
        for cue in self.cues:
            if cue.match not in text or (only_named and not cue.match):
                continue
            cue.times -= 1
            if cue.times <= 0:
                self.cues.remove(cue)
            return cue.changes
        return []
