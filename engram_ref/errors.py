"""One way to refuse an input: what it was, what was expected, what was found, and what to do.

Every door of the package raises InputError, before any work and before any write. The command line
prints its text as one line and exits with 2.
"""

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """An argument, file or option that cannot be used; the message says how to mend it.

    >>> raise InputError("ids", "values in [0, 10)", "-3 at position 2", hint="is it a padding mark?")
    Traceback (most recent call last):
    engram_ref.errors.InputError: ids: expected values in [0, 10), found -3 at position 2 (is it a padding mark?)
    """

    def __init__(self, argument: str, expected: str, found: object, hint: str = ""):
        self.argument, self.expected, self.found, self.hint = argument, expected, found, hint
        text = f"{argument}: expected {expected}, found {found}"
        super().__init__(f"{text} ({hint})" if hint else text)


def unknown_name(argument: str, name: object, known: Iterable[str]) -> InputError:
    """The error for a name that is not in a list: shows the list and the nearest entry."""
    known = list(known)
    near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.45)
    hint = f"did you mean {near[0]}?" if near else ""
    return InputError(argument, f"one of {', '.join(known)}", repr(name), hint)
