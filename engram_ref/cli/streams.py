"""Standard streams as a command finds them: closed, full, read by `head`, or in order.

This file imports only what every Python process has loaded already, so that it is ready before anything slow.
"""

import os
import sys


def reserve_closed() -> None:
    """Open a stand-in for each standard stream that is closed, so that no file opened later gets its number.

    Writing to a stand-in fails like writing to a full disk, with "Bad file descriptor".
    """
    for number, wrong_way in ((0, os.O_WRONLY), (1, os.O_RDONLY), (2, os.O_RDONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, wrong_way)              # takes the lowest free number, which is this one
    for number, name in ((1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w", encoding="utf-8"))


def say(line: str, end: str = "\n") -> None:
    """Print a line to standard error, if there is one that can be written to."""
    if sys.stderr is None:
        return
    try:
        print(line, end=end, file=sys.stderr, flush=True)
    except OSError:
        discard(sys.stderr)


def fail(message: str) -> None:
    """Say what is wrong, in one line; exit code 2."""
    say(" ".join(f"engram-ref: {message}".split()))
    raise SystemExit(2)


def discard(stream: object) -> None:
    """Redirect a stream that failed to nowhere: Python tries once more to write what it holds when it ends."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
    except (AttributeError, OSError):                   # None, or a stream that is not a file
        pass


def is_terminal(stream: object) -> bool:
    """Is someone looking at this stream?"""
    return hasattr(stream, "isatty") and stream.isatty()
