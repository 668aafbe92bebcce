"""Read a percent script: a plain Python file divided into cells by `# %%` lines.

    # %% [markdown]
    # # A title
    # Prose, with $x^2$ and `code`.

    # %%
    print("code that runs")

    # %% tags=["answer"]
    assert 1 + 1 == 2          # shown folded, under "Answer"

A tutorial is also a script that runs by itself; only this file parses the marks.
Tags: `answer` folds prose, code and output under "Answer"; `fold` folds only the code and
shows its output. Consecutive cells tagged `answer` share one fold.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path

TAGS = {"answer", "fold"}
MARK = re.compile(r"^# ?%%(?P<rest>.*)$")
TAG_LIST = re.compile(r"tags=(\[.*?\])")


class PercentError(ValueError):
    """A script cannot be divided into cells; the text starts with `file:line:`."""


@dataclass(frozen=True)
class Cell:
    """One cell.

    kind    "markdown" or "code"
    line    number of the first line of `text` in the file, counted from 1
    text    the Markdown (without comment signs), or the code as written
    tags    the strings of tags=[...]
    """

    kind: str
    line: int
    text: str
    tags: tuple[str, ...] = ()


def read_cells(path: Path) -> list[Cell]:
    """The cells of a script, in order; only comments may precede the first mark."""
    lines = path.read_text(encoding="utf-8").splitlines()
    marks = [i for i, line in enumerate(lines) if MARK.match(line)]
    if not marks:
        raise PercentError(f"{path}:1: no cell found; start one with '# %%' or '# %% [markdown]'")
    for i, line in enumerate(lines[:marks[0]]):
        if line.strip() and not line.startswith("#"):
            raise PercentError(f"{path}:{i + 1}: code before the first '# %%' line; put it in a cell")
    ends = [*marks[1:], len(lines)]
    return [_cell(path, lines, start, end) for start, end in zip(marks, ends, strict=True)]


def _cell(path: Path, lines: list[str], start: int, end: int) -> Cell:
    rest = MARK.match(lines[start])["rest"]
    tags = TAG_LIST.search(rest)
    names = tuple(json.loads(tags[1])) if tags else ()
    if not TAGS.issuperset(names):
        raise PercentError(f"{path}:{start + 1}: tags: expected some of {sorted(TAGS)}, found {list(names)}")
    body = lines[start + 1:end]
    if "[markdown]" not in rest:
        return Cell("code", start + 2, "\n".join(body).rstrip(), names)
    for i, line in enumerate(body):
        if line.strip() and not line.startswith("#"):
            raise PercentError(f"{path}:{start + 2 + i}: a line of a [markdown] cell must start with '#'")
    text = "\n".join(re.sub(r"^# ?", "", line).rstrip() for line in body)
    return Cell("markdown", start + 2, text.strip("\n"), names)


def title(cells: list[Cell], path: Path) -> str:
    """The page's title: the first level-one heading."""
    for cell in cells:
        match = re.search(r"^# +(.+)$", cell.text, re.M) if cell.kind == "markdown" else None
        if match:
            return match[1].strip()
    raise PercentError(f"{path}:1: no title; start with a [markdown] cell that contains '# # The title'")
