"""The one exception for the user's mistakes, the one for signals, and the wording for names that do not exist."""

from __future__ import annotations

import difflib
import signal
from collections.abc import Iterable

OF_ONE = "met by one process of several"
"""Note on an error that the processes of a team did not all meet: the one that did must show it."""


class UserError(ValueError):
    """A mistake of the user's: one line that says what is wrong, where, and what to do about it.

    The command line prints the line without a traceback and exits with 2.
    """


class Interrupted(SystemExit):
    """A signal ended the work. Uncaught, the process leaves with 128 + its number: 130 for Ctrl-C, 143 for SIGTERM.

    Args:
        number: the signal's.
        words: what was kept and how to go on, in one line.
    """

    def __init__(self, number: int, words: str) -> None:
        super().__init__(128 + number)
        self.words = f"stopped by {signal.Signals(number).name} {words}"

    def __str__(self) -> str:
        return self.words


def met_by_one(error: BaseException) -> bool:
    """Whether one process of several met it, or what it was made from."""
    cause: BaseException | None = error
    while cause is not None:
        if OF_ONE in getattr(cause, "__notes__", ()):
            return True
        cause = cause.__cause__
    return False


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name most like `name` (case ignored), or None if nothing is close."""
    by_folded = {candidate.casefold(): candidate for candidate in known}
    matches = difflib.get_close_matches(name.casefold(), by_folded, n=1, cutoff=0.6)
    return by_folded[matches[0]] if matches else None


def unknown_key_message(what: str, name: str, known: Iterable[str], *, where: str = "") -> str:
    """One line for a name that does not exist, naming the nearest one that does.

    Args:
        what: the sort of thing, for example `setting` or `grader`.
        name: what the user wrote.
        known: the names that exist.
        where: file, line or option, if there is one.
    """
    names = list(known)
    place = f" in {where}" if where else ""
    guess = nearest(name, names)
    # A short list is more help than a guess that may be wrong; a long one would drown it.
    if guess is not None:
        remedy = f"did you mean {guess!r}?"
    elif 0 < len(names) <= 12:
        remedy = f"known: {', '.join(sorted(names))}"
    else:
        remedy = "see the documentation for the known names"
    return f"unknown {what} {name!r}{place}: {remedy}"
