"""The pages that `walk` prints: one function a stage, each giving lines of text."""

import inspect
from collections.abc import Callable
from pathlib import Path

import numpy as np

import engram_ref
from engram_ref import ops
from engram_ref.cli.terminal import (
    MOST_WIDTH,
    columns,
    escaped,
    fit,
    shade,
    speaks_unicode,
    style,
    table,
    visible,
    width,
    wrap,
)
from engram_ref.cli.walk_data import Walk
from engram_ref.stages import BY_NAME, Stage

MOST_MATES = 40          # tokens of a class that are listed before they are counted
MOST_TOKEN = 24          # columns of a token in a table; some are 128 letters long
SHOWN_VALUES = 6         # first channels of a vector that are printed


def heading(number: int, name: str, walk: Walk) -> list[str]:
    """A stage's title line: number, name, shape, and what it is."""
    trace = walk.addressing if name in walk.addressing else walk.values
    return [style(f"{number}. {trace.describe(name)}", "1"), f"   {BY_NAME[name].about}"]


def source_lines(stage: Stage) -> list[str]:
    """The formula, and where in the source the op stands."""
    op = getattr(ops, stage.op)
    file = Path(inspect.getsourcefile(op)).relative_to(Path(engram_ref.__file__).parent.parent)
    return [f"   {stage.formula}", style(f"   {file}:{inspect.getsourcelines(op)[1]}  {stage.op}()", "2")]


def tokens_page(walk: Walk, positions: list[int]) -> list[str]:
    """Every token with its raw and canonical id, and what it shares its canonical id with."""
    rows: list[list[object]] = [["pos", "token", "raw", "canonical", "shares its id with"]]
    for t in positions:
        rows.append([t, token_cell(walk, t), walk.raw_ids[t], walk.at("canonical_ids", t), ""])
    lines = table(rows, "><>><")
    start = max(columns(line) for line in lines[1:]) + 2
    for line, t in enumerate(positions, start=1):
        lines[line] = fit(lines[line], start) + mates_text(walk, t, width() - start)
    return lines


def token_cell(walk: Walk, position: int) -> str:
    """A token between quotes, cut if it would take too much of a line."""
    shown = visible(walk.token(position))
    return shown if columns(shown) <= MOST_TOKEN else fit(shown, MOST_TOKEN)


def position_width(positions: list[int]) -> int:
    """Columns of the first column of a page."""
    return max(len("pos"), len(str(positions[-1])))


def mates_text(walk: Walk, position: int, room: int) -> str:
    """As many tokens of the class as fit, then how many more there are."""
    mates = walk.mates(position)
    if not mates:
        return "-"
    shown = [visible(mate) for mate in mates[:MOST_MATES]]
    for kept in range(len(shown), -1, -1):
        more = len(mates) - kept
        text = " ".join(shown[:kept]) + (f" +{more}" if more else "")
        if columns(text) <= room:
            return text.strip()
    return f"+{len(mates)}"


def ngrams_page(walk: Walk, positions: list[int]) -> list[str]:
    """The n-grams that end at each position, one column an order; the end of a long one is kept."""
    orders, digits = walk.config.orders, position_width(positions)
    room = (width() - digits) // len(orders) - 2
    lines = [style(f"{'pos':>{digits}}  " + "  ".join(fit(f"{n}-gram", room) for n in orders).rstrip(), "2")]
    for t in positions:              # as texts, oldest first, which is how they are read
        cells = [fit(" | ".join(map(escaped, walk.ngram(t, n))), room, keep="right") for n in orders]
        lines.append(f"{t:>{digits}}  {'  '.join(cells)}".rstrip())
    return lines


def mix_page(walk: Walk, positions: list[int]) -> list[str]:
    """The mix of every order in hexadecimal, where an exclusive or can be seen."""
    rows: list[list[object]] = [["pos", *(f"{n}-gram" for n in walk.config.orders)]]
    rows += [[t, *(f"{int(m):016x}" for m in walk.at("mix", t))] for t in positions]
    return table(rows, ">" * len(rows[0]))


def rows_page(walk: Walk, positions: list[int]) -> list[str]:
    """The row that each head reads, one line an order."""
    H = walk.config.n_heads
    rows: list[list[object]] = [["pos", "n", *(f"head {h}" for h in range(H))]]
    for t in positions:
        heads = walk.at("rows", t).reshape(-1, H)
        rows += [[t if i == 0 else "", n, *heads[i]] for i, n in enumerate(walk.config.orders)]
    lines = table(rows, ">" * (H + 2))
    return lines if columns(lines[1]) <= width() else table(rows, ">" * (H + 2), gap=1)


def gates_page(walk: Walk, positions: list[int]) -> list[str]:
    """One gate a branch: the factor, and a bar that is the darker, the wider the gate is open."""
    M = walk.values["gate"].shape[1]
    rows: list[list[object]] = [["pos", "token", *(f"branch {m}" for m in range(M))]]
    for t in positions:
        rows.append([t, token_cell(walk, t), *(f"{shade(a) * 2} {a:.3f}" for a in walk.at("gate", t))])
    return table(rows, "><" + ">" * M)


def vector_page(name: str) -> Callable[[Walk, list[int]], list[str]]:
    """A page for any stage of floats: root mean square and first values at each position."""

    def page(walk: Walk, positions: list[int]) -> list[str]:
        array = walk.values[name]                            # [span, D] or [span, M, D]
        where = "" if array.ndim == 2 else " of branch 0"
        count = min(SHOWN_VALUES, array.shape[-1])
        rows: list[list[object]] = [["pos", "rms", f"first {count} values{where}"]]
        for t in positions:
            vector = walk.at(name, t).ravel()
            values = " ".join(f"{x:>8.4f}" for x in vector[:count])
            rows.append([t, f"{np.sqrt(np.mean(vector ** 2)):.4f}", values])
        return table(rows, ">><")

    return page


PAGES: dict[str, Callable[[Walk, list[int]], list[str]]] = {
    "canonical_ids": tokens_page,
    "windows": ngrams_page,
    "mix": mix_page,
    "rows": rows_page,
    **{name: vector_page(name) for name in ("memory", "key", "value", "query_norm", "key_norm", "score")},
    "gate": gates_page,
    **{name: vector_page(name) for name in ("gated", "conv_norm", "conv", "output", "residual")},
}
"""Every stage's page, in the order of the stages."""


def title(walk: Walk) -> list[str]:
    """What is being followed, and through which tables."""
    c = walk.config
    named = f"preset {c.name}, layer {walk.layer} (blocks count from {c.layer_base}), vocabulary {c.vocabulary}"
    counted = f"{walk.length} tokens, each reading {c.columns} rows: {len(c.orders)} orders x {c.n_heads} heads"
    text = visible(walk.text[:MOST_WIDTH])                  # so much of it at most is shown
    return [*(style(line, "1") for line in wrap(named)), fit(text, width()).rstrip(), *wrap(counted)]


def values_notice(walk: Walk) -> list[str]:
    """Said before the first value: which numbers are real and which are not."""
    dash = "─" if speaks_unicode() else "-"
    what = "the module of the preset tiny" if walk.model is None else f"the whole model {walk.model.name}"
    state = "and a random state" if walk.model is None else "from the embedding of the text on"
    notice = (f"Rows above are those of {walk.config.name}. From here on {what} ({walk.tiny.n_branches} branches of "
              f"{walk.tiny.hidden_size}, with its own small tables and a convolution) computes on seeded random "
              f"weights {state}: every step is real, gate values are not learned.")
    return [dash * width(), *wrap(notice)]
