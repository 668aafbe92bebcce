"""The one error for input that cannot be used: what it was, what was expected, what was found, and what to do.

Every public function raises InputError before any work and before any write. The command line prints its
text as one line and exits with 2.
"""

import difflib
from collections.abc import Collection
from numbers import Number

LONGEST = 300
"""Characters of an argument's name (a path, say) or of a found value that a message shows."""


class InputError(ValueError):
    """An argument, file or option that cannot be used; the message says how to fix it, on one line.

    >>> raise InputError("ids", "values in [0, 10)", "-3 at position 2", hint="is it a padding mark?")
    Traceback (most recent call last):
    engram_ref.errors.InputError: ids: expected values in [0, 10), found -3 at position 2 (is it a padding mark?)
    """

    def __init__(self, argument: str, expected: str, found: object, hint: str = ""):
        argument, found = shortened(argument), shortened(str(found))
        self.argument, self.expected, self.found, self.hint = argument, expected, found, hint
        text = f"{argument}: expected {expected}, found {found}"
        super().__init__(" ".join((f"{text} ({hint})" if hint else text).splitlines()))

    def __reduce__(self) -> tuple[type["InputError"], tuple[str, ...]]:
        """Pickle the four parts: the text alone, which exceptions pickle by default, does not make the error."""
        return type(self), (self.argument, self.expected, self.found, self.hint)


def shortened(text: str) -> str:
    """A text whose middle is left out if it is longer than LONGEST."""
    return text if len(text) <= LONGEST + 3 else f"{text[: LONGEST // 2]}...{text[-LONGEST // 2 :]}"


def check_name(argument: str, name: object, known: Collection[str]) -> None:
    """Raise InputError unless the name is one of those known; the message lists them and suggests the nearest."""
    if not isinstance(name, str) or name not in known:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.45) if isinstance(name, str) else []
        hint = f"did you mean {near[0]}?" if near else ""
        raise InputError(argument, f"one of {', '.join(known)}", described(name), hint)


def check_sha256(argument: str, found: str, expected: str, hint: str, whose: str = "") -> None:
    """Raise InputError unless two sha256 digests are the same; the message shows how each begins."""
    if found != expected:
        raise InputError(argument, f"{whose}sha256 {expected[:16]}...", f"sha256 {found[:16]}...", hint)


def described(value: object) -> str:
    """A value as a message shows it: a number or text as Python writes it, anything else by its type."""
    if isinstance(value, int) and value.bit_length() > LONGEST:
        return "a larger integer"
    return repr(value) if isinstance(value, Number | str | None) else f"a value of type {type(value).__name__}"
