"""Terminal output: width, colour and characters, and tables that respect all three."""

import os
import shutil
import sys
import textwrap
import time
import unicodedata
from collections.abc import Callable, Iterable, Sequence

from engram_ref.cli.streams import is_terminal, print_stderr

MIN_WIDTH, MAX_WIDTH = 80, 120
BOLD, DIM = "1", "2"
EMOJI_STYLE = "\N{VARIATION SELECTOR-16}"
JOINED = frozenset(map(chr, (*range(0x1160, 0x1200), *range(0xD7B0, 0xD800))))
"""Korean vowels and finals, which are displayed in the columns of the preceding letter."""

PROGRESS_DELAY = 2.0     # seconds before progress is shown on a terminal


def width() -> int:
    """Width of the output in columns: the terminal's, but at least 80 and at most 120."""
    return min(max(shutil.get_terminal_size((MIN_WIDTH, 24)).columns, MIN_WIDTH), MAX_WIDTH)


def supports_unicode() -> bool:
    """Whether standard output has a Unicode encoding."""
    return (getattr(sys.stdout, "encoding", None) or "ascii").lower().replace("-", "").startswith("utf")


def style(text: str, code: str) -> str:
    """Apply the style BOLD or DIM to text if the output is a terminal and NO_COLOR is not set."""
    plain = os.environ.get("NO_COLOR") or not is_terminal(sys.stdout) or os.environ.get("TERM") == "dumb"
    return text if plain or not code else f"\033[{code}m{text}\033[0m"


def shade(value: float) -> str:
    """A block character, darker for larger values in [0, 1]."""
    shades = " ░▒▓█" if supports_unicode() else " .:*#"
    return shades[min(int(value * len(shades)), len(shades) - 1)]


def columns(text: str) -> int:
    """Width of text in terminal columns: two for wide characters and emoji, zero for combining marks.

    >>> columns("horse"), columns("馬"), columns("🐎"), columns("e\u0301"), columns("❤"), columns("❤\ufe0f")
    (5, 2, 2, 1, 1, 2)
    """
    if text.isascii():
        return len(text)
    taken = last = 0
    for letter in text:
        if letter == EMOJI_STYLE:
            wider = last == 1                                # widens narrow symbols only
        elif unicodedata.category(letter) in ("Mn", "Me", "Cf") or letter in JOINED:
            wider = 0
        else:
            wider = last = 2 if unicodedata.east_asian_width(letter) in "WF" else 1
        taken += wider
    return taken


def fit(text: str, size: int, keep: str = "left") -> str:
    """Pad or truncate text to `size` columns; `keep` is the end that is kept, "left" or "right"."""
    if columns(text) <= size:
        return text + " " * (size - columns(text))
    dots = "…" if supports_unicode() else "..."
    letters = text[:size] if keep == "left" else text[-size:]        # enough: only marks are narrower than a column
    while columns(letters) > size - len(dots):
        letters = letters[:-1] if keep == "left" else letters[1:]
    while keep == "right" and columns(letters[:1]) < bool(letters):     # a leading mark would combine with the dots
        letters = letters[1:]
    cut = letters + dots if keep == "left" else dots + letters
    return cut + " " * (size - columns(cut))


def escaped(text: str) -> str:
    r"""Escape control characters, and characters outside the terminal's encoding.

    A leading combining mark is escaped too: it would combine with the character printed before it.

    >>> escaped("one\ntwo"), escaped("\u0301e")
    ('one\\ntwo', '\\u0301e')
    """
    joins = columns(text[:1]) == 0
    shown = "".join(c if c.isprintable() and not (joins and i == 0) else c.encode("unicode_escape").decode()
                    for i, c in enumerate(text))
    return shown if supports_unicode() else shown.encode("ascii", "backslashreplace").decode()


def visible(text: str) -> str:
    """Escape and quote the text of a token."""
    return f"'{escaped(text)}'"


def wrap(text: str, code: str = "") -> list[str]:
    """Wrap a sentence to the terminal's width and style each line."""
    return [style(line, code) for line in textwrap.wrap(text, width(), break_on_hyphens=False)]


def table(heading: Sequence[str], rows: Iterable[Sequence[object]], narrow: bool = False) -> list[str]:
    """Lines of a table whose columns are as wide as their widest cell.

    heading   one title per column, preceded by the column's alignment: "<name", ">size"
    narrow    separate columns by one space instead of two if the table would exceed the terminal's width
    """
    cells = [[title[1:] for title in heading], *([str(cell) for cell in row] for row in rows)]
    widths = [max(map(columns, column)) for column in zip(*cells, strict=True)]
    gap = " " if narrow and sum(widths) + 2 * (len(widths) - 1) > width() else "  "
    pad = lambda cell, size, title: fit(cell, size) if title[0] == "<" else " " * (size - columns(cell)) + cell
    head, *lines = [gap.join(map(pad, row, widths, heading)).rstrip() for row in cells]
    return [style(head, DIM), *lines]


def bytes_text(count: int) -> str:
    """Format a size in bytes with binary units and three digits."""
    size, units = float(count), ["B", "KiB", "MiB", "GiB", "TiB"]
    while size >= 1024 and len(units) > 1:
        size, units = size / 1024, units[1:]
    return f"{size:.3g} {units[0]}" if size < 1000 else f"{size:.0f} {units[0]}"


def progress_line(noun: str) -> Callable[[int, int], None]:
    """Return progress(done, total), which updates a line on a terminal, starting after PROGRESS_DELAY seconds."""
    started = time.monotonic()

    def progress(done: int, total: int) -> None:
        if is_terminal(sys.stderr) and time.monotonic() - started > PROGRESS_DELAY:
            print_stderr(f"\r{done} of {total} {noun}", end="\n" if done == total else "")

    return progress
