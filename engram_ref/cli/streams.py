"""Robust use of the standard streams, which may be closed, full, or piped to a program such as `head`.

This file imports only modules that every Python process has loaded already, so importing it takes no time.
"""

import os
import sys


def replace_closed() -> None:
    """Open a placeholder for each closed standard stream, so that no file opened later gets its descriptor.

    Placeholders have the wrong direction, so using one fails with "Bad file descriptor".
    """
    for number, mode in ((0, os.O_WRONLY), (1, os.O_RDONLY), (2, os.O_RDONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, mode)                   # gets the lowest free descriptor, which is this one
    for number, name in ((1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w", encoding="utf-8"))


def print_stderr(line: str, end: str = "\n") -> None:
    """Print a line to standard error if it is writable."""
    if sys.stderr is None:
        return
    try:
        print(line, end=end, file=sys.stderr, flush=True)
    except OSError:
        discard(sys.stderr)


def fail(message: str) -> None:
    """Print an error message on one line, control characters escaped, and raise SystemExit with code 2."""
    line = " ".join(f"engram-ref: {message}".split())
    print_stderr("".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line))
    raise SystemExit(2)


def discard(stream: object) -> None:
    """Redirect a failed stream to os.devnull, since Python flushes its buffer again on exit."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
    except (AttributeError, OSError):                   # None, or a stream that is not a file
        pass


def is_terminal(stream: object) -> bool:
    """Whether the stream is a terminal."""
    return hasattr(stream, "isatty") and stream.isatty()
