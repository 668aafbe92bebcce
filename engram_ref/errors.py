"""InputError, the error for unusable input: it states the argument, the expected and found values, and a remedy.

Every public function raises it before it computes or writes anything. The command line prints the message on one line
and exits with status 2.
"""

import difflib
from collections.abc import Collection
from itertools import islice
from numbers import Number

MAX_LENGTH = 300
"""Maximum length of argument names (such as paths) and values in a message; longer ones lose their middle."""

LISTED = 150
"""Number of known names up to which a message lists them all."""


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
        """Pickle all four arguments; by default, an exception pickles only its message."""
        return type(self), (self.argument, self.expected, self.found, self.hint)


def shortened(text: str) -> str:
    """Cut the middle out of a text that is longer than MAX_LENGTH."""
    return text if len(text) <= MAX_LENGTH + 3 else f"{text[: MAX_LENGTH // 2]}...{text[-MAX_LENGTH // 2 :]}"


def check_name(argument: str, name: object, known: Collection[str]) -> None:
    """Raise InputError unless the name is known; the message lists the names, or a few of many, and suggests one."""
    if not isinstance(name, str) or name not in known:
        close = difflib.get_close_matches(name, known, n=1, cutoff=0.45) if isinstance(name, str) else []
        hint = f"did you mean {close[0]}?" if close else ""
        listed = ", ".join(known if len(known) <= LISTED else [*islice(known, 3), f"... ({len(known)} names)"])
        raise InputError(argument, f"one of {listed}", described(name), hint)


def check_sha256(argument: str, found: str, expected: str, hint: str, owner: str = "") -> None:
    """Raise InputError unless two sha256 digests are equal; the message shows the first 16 digits of each."""
    if found != expected:
        raise InputError(argument, f"{owner}sha256 {expected[:16]}...", f"sha256 {found[:16]}...", hint)


def described(value: object) -> str:
    """Format a value for a message: numbers and text as Python literals, any other value by its type."""
    if isinstance(value, int) and value.bit_length() > MAX_LENGTH:
        return f"an integer of {value.bit_length()} bits"
    return repr(value) if isinstance(value, Number | str | None) else f"a value of type {type(value).__name__}"
