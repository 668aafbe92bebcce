"""The chart of `train`: the loss of every step, and the losses on held-out text by kind of token."""

import io
import textwrap
from collections.abc import Mapping

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from engram_ref.cli.train_progress import RECENT, Run, finding, kinds_of
from engram_ref.cli.walk_figure import INK, ORDER_COLOURS, QUIET

STYLES = {"engram": {"color": ORDER_COLOURS[0], "linestyle": "-", "marker": "o"},
          "control": {"color": ORDER_COLOURS[1], "linestyle": "--", "marker": "s", "markerfacecolor": "none",
                      "markersize": 8}}
APART = 0.05            # smallest distance of two labels, as a fraction of the axis


def figure_svg(runs: Mapping[str, Run]) -> bytes:
    """Return the chart as SVG, with identical bytes for identical data; the title is the finding."""
    kinds, buffer, title = kinds_of(runs.values()), io.BytesIO(), finding(runs)
    with matplotlib.rc_context({"svg.hashsalt": "engram_ref", "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(9.4 if kinds else 6.2, 4.0), layout="constrained")
        panels = figure.subplots(1, 2 if kinds else 1, squeeze=False, width_ratios=[3, 2] if kinds else None)[0]
        draw_steps(panels[0], runs)
        if kinds:
            draw_kinds(panels[1], runs, kinds)
        for axes in panels:
            axes.spines[["top", "right"]].set_visible(False)
            axes.grid(color=QUIET, alpha=0.25, linewidth=0.6)
        figure.suptitle(textwrap.fill(title, int(13 * figure.get_figwidth())), x=0.01, ha="left", fontsize=10,
                        color=INK)
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Title": title})
    return buffer.getvalue()


def draw_steps(axes: Axes, runs: Mapping[str, Run]) -> None:
    """Draw the loss of each step as a thin line, the mean around it as a thick one, and the held-out loss."""
    ends = {}
    for name, run in runs.items():
        style, tokens = STYLES[name], run.tokens / run.config.steps / 1000
        x = np.array([step.progress.step for step in run.steps]) * tokens
        y = np.array([step.progress.loss for step in run.steps])
        means = [y[max(0, i - RECENT // 2) : i + RECENT // 2 + 1].mean() for i in range(len(y))]
        axes.plot(x, y, color=style["color"], linewidth=0.6, alpha=0.4)
        axes.plot(x, means, color=style["color"], linestyle=style["linestyle"], linewidth=1.8)
        end = run.tokens / 1000, run.finished.held_out.loss
        axes.plot(*end, **style, clip_on=False)
        ends[name] = end
    low, high = axes.get_ylim()
    label_at = None
    for name, (x, y) in sorted(ends.items(), key=lambda item: item[1][1]):
        label_at = y if label_at is None else max(y, label_at + APART * (high - low))
        axes.annotate(f"{y:.3f} {runs[name].label}", (x, label_at),
                      xytext=(8, 0), textcoords="offset points", va="center", color=STYLES[name]["color"],
                      annotation_clip=False)
    axes.set_xlabel(f"thousands of tokens; thin: each step, thick: mean of {RECENT + 1}, marks: held out", color=QUIET)
    axes.set_ylabel("loss, nats per token", color=INK)


def draw_kinds(axes: Axes, runs: Mapping[str, Run], kinds: list[str]) -> None:
    """Draw the loss of each kind of token on held-out text, one row per kind."""
    losses = {name: [run.finished.held_out.by_kind.get(kind, np.nan) for kind in kinds] for name, run in runs.items()}
    rows = np.arange(len(kinds))
    if len(runs) > 1:
        axes.hlines(rows, *losses.values(), color=QUIET, linewidth=1.0)
    for name, values in losses.items():
        axes.plot(values, rows, **{**STYLES[name], "linestyle": "none"}, clip_on=False)
    axes.set_yticks(rows, kinds)
    axes.set_ylim(len(kinds) - 0.5, -0.5)
    axes.set_xlim(left=0)
    axes.set_xlabel("held-out loss by kind of token, nats per token", color=QUIET)
