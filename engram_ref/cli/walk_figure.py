"""The figure of `walk --plot`: tokens, n-grams as brackets, and a model's gates as bars after the tokens."""

import io
import textwrap
import warnings

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from engram_ref.cli.terminal import columns, fit
from engram_ref.cli.walk_data import Walk, figure_span
from engram_ref.cli.walk_text import source_of

ORDER_COLOURS = ("#1b6ca8", "#c8571b", "#4a7c2c", "#7a3b8f", "#8a6d00")   # distinct in greyscale too
INK, QUIET = "#222222", "#777777"
LINE, LEFT, BAR = 0.2, 1.25, 0.17        # inches: height of a line, which is the unit of y; left margin; width of a bar
MAX_LABEL = 20                           # columns of a token
OPEN = 0.5                               # below gates above this, the figure shows the next token


def figure_svg(walk: Walk, focus: int) -> bytes:
    """Return the figure as SVG, with identical bytes for identical data; rows are shown for the position `focus`."""
    shown = figure_span(focus, len(walk.raw_ids))
    labels, finding = [label(walk, walk.raw_ids[t]) for t in shown], finding_of(walk, focus)
    edges = np.cumsum([0.0, *(max(0.72, 0.08 * columns(text) + 0.35) for text in labels)])   # inches, of the tokens
    width = max(7.0, LEFT + edges[-1] + BAR)
    cut = f"; tokens {shown[0]} to {shown[-1]} of {len(walk.raw_ids)}" if len(shown) < len(walk.raw_ids) else ""
    title = textwrap.wrap(finding, int(13 * width))
    source = textwrap.wrap(f"{source_of(walk)}; rows: head 0 of each order{cut}", int(15 * width))
    bottom = len(source) + (1 if walk.trained is None else 5.5)
    top = len(title) + 2.7 + sum(order + 0.8 for order in walk.config.orders)
    buffer = io.BytesIO()
    with (matplotlib.rc_context({"svg.hashsalt": "engram_ref", "svg.fonttype": "none", "font.size": 9,
                                 "text.parse_math": False}), warnings.catch_warnings()):
        warnings.filterwarnings("ignore", "Glyph")          # the SVG contains text, so our font only affects layout
        figure = Figure(figsize=(width, (bottom + top) * LINE))
        axes = figure.add_axes((0, 0, 1, 1), xlim=(-LEFT, width - LEFT), ylim=(-bottom, top))
        axes.axis("off")
        for text, left, right in zip(labels, edges[:-1], edges[1:], strict=True):
            axes.text((left + right) / 2, 0.5, text, ha="center", va="center", color=INK)
        draw_brackets(axes, walk, shown, edges, focus)
        if walk.trained is not None:
            draw_gates(axes, walk, shown, edges)
        axes.text(0.1 - LEFT, 0.5 - bottom, "\n".join(source), color=QUIET, fontsize=8)
        axes.text(0.1 - LEFT, top - 0.5, "\n".join(title), va="top", fontsize=10, color=INK)
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Title": finding})
    return buffer.getvalue()


def label(walk: Walk, raw_id: int) -> str:
    """A token without spaces around it, with unprintable characters escaped."""
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode()
                   for c in walk.spell(raw_id).strip(" ") or "␣")
    return text if columns(text) <= MAX_LABEL else fit(text, MAX_LABEL)


def finding_of(walk: Walk, focus: int) -> str:
    """What the figure shows at one position: what a model predicts with its memory and without, or what is read."""
    c, token = walk.config, walk.token(focus)
    longest = " ".join(token["ngrams"][str(c.max_ngram)][-focus - 1 :])         # without the padding before the text
    if walk.trained is None:
        return (f"At {token['text'].strip()!r}, {c.name} layer {walk.layer} reads {c.columns} rows: "
                f"{c.n_heads} heads for each n-gram that ends there, the longest {longest!r}")
    best, on, off = walk.next_tokens(focus)[0]
    return (f"After {longest!r}, the gate is {walk.gate(focus):.2f}: the model predicts {label(walk, best)!r} with "
            f"probability {on:.2f}, and with {off:.2f} without its memory")


def draw_brackets(axes: Axes, walk: Walk, shown: range, edges: np.ndarray, focus: int) -> None:
    """Draw one bracket per n-gram, staggered to avoid overlaps; brackets that end at the focus also show rows."""
    level = 2.0
    for i, order in enumerate(walk.config.orders):
        colour = ORDER_COLOURS[i % len(ORDER_COLOURS)]
        for t in shown:
            height = level + t % order
            left, right = edges[max(t - order + 1 - shown[0], 0)] + BAR, edges[t - shown[0] + 1] - BAR
            axes.plot([left, left, right, right], [height - 0.3, height, height, height - 0.3], color=colour,
                      linewidth=2.6 if t == focus else 1.0, alpha=1.0 if t == focus else 0.45)
            if t == focus:
                row = walk.at("rows", t)[i * walk.config.n_heads]
                axes.annotate(f"row {row:,}", ((left + right) / 2, height + 0.1), ha="center", color=colour,
                              fontsize=8, bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6})
        axes.text(-BAR, level + (order - 1) / 2, f"{order}-grams", ha="right", va="center", color=colour)
        level += order + 0.8


def draw_gates(axes: Axes, walk: Walk, shown: range, edges: np.ndarray) -> None:
    """Draw a bar after each token, darker for larger gates, with one part per branch; below, the next tokens."""
    for line, name in enumerate(("mean gate", "next token", "with memory", "without memory"), 1):
        axes.text(-BAR, -line, name, ha="right", va="center", color=QUIET, fontsize=8)
    for t, x in zip(shown, edges[1:], strict=True):
        gates, is_open, (best, on, off) = walk.at("gate", t).tolist(), walk.gate(t) > OPEN, walk.next_tokens(t)[0]
        part = 1.6 / len(gates)
        for m, gate in enumerate(gates, 1):
            axes.add_patch(Rectangle((x - BAR / 2, 1.3 - m * part), BAR, part, linewidth=0.5, edgecolor=QUIET,
                                     facecolor=str(round(1.0 - 0.85 * gate, 3))))       # grey level: 1 is white
        texts = [f"{walk.gate(t):.2f}", label(walk, best), f"{on:.2f}", f"{off:.2f}"]
        for line, text in enumerate(texts if is_open else texts[:1], 1):
            axes.text(x, -line, text, ha="center", va="center", fontsize=8, color=INK if is_open else QUIET,
                      weight="bold" if line == 2 else "normal")
