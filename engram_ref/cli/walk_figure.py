"""The figure of `walk --plot`: tokens as labels, n-grams as brackets, gates as shaded cells."""

import io
import textwrap
import warnings

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from engram_ref.cli.terminal import columns
from engram_ref.cli.walk_data import Walk, figure_span

ORDER_COLOURS = ("#1b6ca8", "#c8571b", "#4a7c2c", "#7a3b8f", "#8a6d00")   # distinct in greyscale too
INK, QUIET = "#222222", "#777777"


def figure_svg(walk: Walk, focus: int) -> bytes:
    """Return the figure as SVG, with identical bytes for identical data; rows are shown for the position `focus`."""
    c, shown = walk.config, figure_span(focus, len(walk.raw_ids))
    token = walk.token(focus)
    longest = " ".join(token["ngrams"][str(c.max_ngram)][-focus - 1 :])         # without the padding before the text
    finding = (f"At {token['text'].strip()!r}, {c.name} layer {walk.layer} reads {c.columns} rows: "
               f"{c.n_heads} heads for each n-gram that ends there, the longest {longest!r}")
    buffer = io.BytesIO()
    with (matplotlib.rc_context({"svg.hashsalt": "engram_ref", "svg.fonttype": "none", "font.size": 9}),
          warnings.catch_warnings()):
        warnings.filterwarnings("ignore", "Glyph")          # the SVG contains text, so our font only affects layout
        figure = Figure(figsize=(max(7.0, 0.85 * len(shown) + 1.2), 5.4))
        top, bottom = figure.subplots(2, 1, height_ratios=[3, 2], sharex=True)
        draw_brackets(top, walk, shown, focus)
        draw_gates(bottom, walk, shown)
        label_tokens(bottom, walk, shown)
        figure.suptitle(textwrap.fill(finding, int(13 * figure.get_figwidth())), x=0.01, ha="left", fontsize=10,
                        color=INK)
        figure.tight_layout()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Title": finding})
    return buffer.getvalue()


def draw_brackets(axes: Axes, walk: Walk, shown: range, focus: int) -> None:
    """Draw one bracket per n-gram, staggered to avoid overlaps; brackets that end at the focus also show rows."""
    level = 0.0
    for i, order in enumerate(walk.config.orders):
        colour = ORDER_COLOURS[i % len(ORDER_COLOURS)]
        for t in shown:
            first, height = max(t - order + 1, shown[0]), level + (t % order)
            axes.plot([first - 0.35, first - 0.35, t + 0.35, t + 0.35],
                      [height - 0.3, height, height, height - 0.3], color=colour,
                      linewidth=2.6 if t == focus else 1.0, alpha=1.0 if t == focus else 0.45)
            if t == focus:
                row = walk.at("rows", t)[i * walk.config.n_heads]
                axes.annotate(f"row {row:,}", ((first + t) / 2, height + 0.12), ha="center", color=colour,
                              fontsize=8, bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6})
        axes.text(shown[0] - 0.75, level + (order - 1) / 2, f"{order}-grams", ha="right", va="center", color=colour)
        level += order + 0.8
    axes.set_ylim(-0.6, level)
    axes.set_xlim(shown[0] - 0.6, shown[-1] + 0.6)
    axes.axis("off")


def draw_gates(axes: Axes, walk: Walk, shown: range) -> None:
    """Draw one row of cells per branch, darker for larger gates."""
    branches = walk.take("gate", shown).T                    # [M, shown]
    for m, gates in enumerate(branches):
        for t, gate in zip(shown, gates.tolist(), strict=True):
            shade = str(round(1.0 - 0.75 * gate, 3))         # grey level: 1 is white
            axes.add_patch(Rectangle((t - 0.46, -m - 0.46), 0.92, 0.92, facecolor=shade, edgecolor="none"))
            axes.text(t, -m, f"{gate:.2f}", ha="center", va="center", fontsize=7.5,
                      color="white" if gate > 0.55 else INK)
        axes.text(shown[0] - 0.75, -m, f"gate, branch {m}", ha="right", va="center", color=QUIET)
    axes.set_ylim(-len(branches) + 0.4, 0.6)
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


def label_tokens(axes: Axes, walk: Walk, shown: range) -> None:
    """Label the columns with the tokens, escaping unprintable characters, and state the source of gates and rows."""
    words = ["".join(c if c.isprintable() else c.encode("unicode_escape").decode()
                     for c in walk.spell(walk.raw_ids[t]).strip() or "␣").replace("$", r"\$") for t in shown]
    crowded = max(columns(word) for word in words) > 9
    axes.set_xticks(shown, words, rotation=35 if crowded else 0, ha="right" if crowded else "center", color=INK)
    axes.tick_params(axis="x", length=0)
    length = len(walk.raw_ids)
    cut = f"; tokens {shown[0]} to {shown[-1]} of {length}" if len(shown) < length else ""
    axes.set_xlabel("gates: preset tiny with seeded random weights, untrained; rows: head 0 of each order" + cut,
                    color=QUIET, fontsize=8)
