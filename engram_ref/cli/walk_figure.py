"""The figure of `walk --plot`: tokens along the bottom, n-grams as brackets, gates as shading."""

import io
import textwrap
import warnings

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from engram_ref.cli.terminal import columns
from engram_ref.cli.walk_data import Walk

ORDER_COLOURS = ("#1b6ca8", "#c8571b", "#4a7c2c", "#7a3b8f", "#8a6d00")   # told apart in grey too
INK, QUIET = "#222222", "#777777"
MOST_TOKENS = 24                     # a wider figure could not be read


def figure_span(focus: int, length: int) -> range:
    """The positions around `focus` that the figure shows."""
    first = max(0, min(focus - MOST_TOKENS // 2, length - MOST_TOKENS))
    return range(first, min(first + MOST_TOKENS, length))


def figure_svg(walk: Walk, focus: int) -> bytes:
    """The figure as SVG bytes, the same for the same walk; its rows are those of the position `focus`."""
    shown = list(figure_span(focus, walk.length))
    with matplotlib.rc_context({"svg.hashsalt": "engram_ref", "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(max(7.0, 0.85 * len(shown) + 1.2), 5.4))
        top, bottom = figure.subplots(2, 1, height_ratios=[3, 2], sharex=True)
        draw_brackets(top, walk, shown, focus)
        draw_gates(bottom, walk, shown)
        draw_tokens(bottom, walk, shown)
        title = textwrap.fill(finding(walk, focus), int(13 * figure.get_figwidth()))
        figure.suptitle(title, x=0.01, ha="left", fontsize=10, color=INK)
        return saved(figure, finding(walk, focus))


def saved(figure: Figure, title: str) -> bytes:
    """A laid-out figure as SVG, its text left as text for the reader's own fonts."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")   # only the layout measures with our font
        figure.tight_layout()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Title": title})
    return buffer.getvalue()


def finding(walk: Walk, focus: int) -> str:
    """What the figure shows, said in one line."""
    c = walk.config
    longest = " ".join(walk.ngram(focus, min(c.max_ngram, focus + 1)))
    return (f"At {walk.token(focus).strip()!r}, {c.name} layer {walk.layer} reads {c.columns} rows: "
            f"{c.n_heads} heads for each n-gram that ends there, the longest {longest!r}")


def draw_brackets(axes: Axes, walk: Walk, shown: list[int], focus: int) -> None:
    """One bracket an n-gram, staggered so that none hides another; those of the focus with their rows."""
    level = 0.0
    for i, order in enumerate(walk.config.orders):
        for t in shown:
            first = max(t - order + 1, shown[0])
            height = level + (t % order)
            colour = ORDER_COLOURS[i % len(ORDER_COLOURS)]
            bold = t == focus
            axes.plot([first - 0.35, first - 0.35, t + 0.35, t + 0.35],
                      [height - 0.3, height, height, height - 0.3], color=colour,
                      linewidth=2.6 if bold else 1.0, alpha=1.0 if bold else 0.45)
            if bold:
                row = walk.at("rows", t)[i * walk.config.n_heads]
                axes.annotate(f"row {row:,}", ((first + t) / 2, height + 0.12), ha="center", color=colour,
                              fontsize=8, bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6})
        axes.text(shown[0] - 0.75, level + (order - 1) / 2, f"{order}-grams", ha="right", va="center",
                  color=ORDER_COLOURS[i % len(ORDER_COLOURS)])
        level += order + 0.8
    axes.set_ylim(-0.6, level)
    axes.set_xlim(shown[0] - 0.6, shown[-1] + 0.6)
    axes.axis("off")


def draw_gates(axes: Axes, walk: Walk, shown: list[int]) -> None:
    """One row of cells a branch: the darker, the wider the gate is open."""
    gates = np.stack([walk.at("gate", t) for t in shown])    # [shown, M]
    for m in range(gates.shape[1]):
        for i, t in enumerate(shown):
            alpha = float(gates[i, m])
            shade = str(round(1.0 - 0.75 * alpha, 3))        # grey level: 1 is white
            axes.add_patch(Rectangle((t - 0.46, -m - 0.46), 0.92, 0.92, facecolor=shade, edgecolor="none"))
            axes.text(t, -m, f"{alpha:.2f}", ha="center", va="center", fontsize=7.5,
                      color="white" if alpha > 0.55 else INK)
        axes.text(shown[0] - 0.75, -m, f"gate, branch {m}", ha="right", va="center", color=QUIET)
    axes.set_ylim(-gates.shape[1] + 0.4, 0.6)
    axes.set_yticks([])
    for side in axes.spines.values():
        side.set_visible(False)


def draw_tokens(axes: Axes, walk: Walk, shown: list[int]) -> None:
    """The tokens under their columns, and where the gates come from."""
    words = [printable(walk.token(t)) for t in shown]
    crowded = max(columns(word) for word in words) > 9
    axes.set_xticks(shown, words, rotation=35 if crowded else 0, ha="right" if crowded else "center", color=INK)
    axes.tick_params(axis="x", length=0)
    cut = f"; tokens {shown[0]} to {shown[-1]} of {walk.length}" if len(shown) < walk.length else ""
    axes.set_xlabel("gates: preset tiny on seeded random weights, not learned; rows: real, head 0 of each order" + cut,
                    color=QUIET, fontsize=8)


def printable(text: str) -> str:
    """A token as a tick label: escapes for what cannot be seen, no mathematics mode."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text.strip() or "␣")
    return shown.replace("$", r"\$")
