"""The chart of a result: how near each row comes to what the machine allows."""

import html
import io
import textwrap
from collections.abc import Mapping

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from engram_ref.bench.judge import OURS
from engram_ref.bench.report import amount

Entry = Mapping[str, object]
INK, OURS_COLOUR, GOAL_COLOUR, QUIET = "#16191d", "#0b4f8a", "#c8500a", "#6b7280"
NEAR = 0.5              # from here on a row counts as near its limit


def shares(result: Entry) -> list[tuple[str, Entry]]:
    """(label, comparison) of everything held against a limit, in the table's order."""
    found = []
    for row in result["rows"]:
        for asked in row["comparisons"]:
            if asked["kind"] == "limit" and asked["of"] == OURS and asked["median"] is not None:
                threads = f", {row['threads']} threads" if row["threads"] > 1 else ""
                found.append((f"{row['id']}  {row['what']}{threads}\nagainst {asked['against']}", asked))
    return found


def finding(result: Entry) -> str:
    """What the chart shows, in a sentence made from its data."""
    found = [asked["median"] for _, asked in shares(result)]
    if not found:
        return "Nothing was held against a limit"
    near = sum(value >= NEAR for value in found)
    quick = ", at small sizes that say nothing about speed" if result["quick"] else ""
    return (f"{near} of {len(found)} measurements reach {NEAR:.0%} or more of what the machine allows; "
            f"the least is {amount('limit', min(found))}{quick}")


def alt_text(result: Entry) -> str:
    """The chart in words."""
    parts = [f"{label.split(chr(10))[0]}: {amount('limit', asked['median'])} of {asked['against']}"
             for label, asked in shares(result)]
    return "Dots on a logarithmic scale of shares of a limit, with quartiles. " + "; ".join(parts) + "."


def chart(result: Entry) -> Figure:
    """A dot a row with its quartiles, a line at the limit, a bar where a goal stands."""
    found = shares(result)
    figure = Figure(figsize=(7.6, 1.5 + 0.5 * max(len(found), 1)), layout="constrained")
    axes = figure.subplots()
    for place, (_, asked) in enumerate(found):
        draw(axes, place, asked)
    axes.axvline(1.0, color=INK, linewidth=1.0, linestyle="-", zorder=0)
    axes.set_yticks(range(len(found)), [label for label, _ in found], fontsize=8)
    axes.set_ylim(len(found) - 0.5, -0.6)
    scale(axes, [asked["median"] for _, asked in found])
    axes.set_xlabel("share of the limit (dot: median, line: quartiles, bar: goal)", fontsize=9)
    axes.grid(axis="x", color=QUIET, alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(textwrap.fill(finding(result), 84), x=0.01, ha="left", fontsize=10, color=INK)
    figure.set_label(alt_text(result))
    return figure


def draw(axes: Axes, place: int, asked: Entry) -> None:
    """One row: quartiles, median, its value, its goal; hollow where the goal was missed."""
    median = asked["median"]
    axes.plot([asked["q1"], asked["q3"]], [place, place], color=OURS_COLOUR, linewidth=1.6, linestyle="-")
    face = "white" if asked["verdict"] == "missed" else OURS_COLOUR
    axes.plot(median, place, marker="o", markersize=6.5, color=OURS_COLOUR, markerfacecolor=face, linestyle="none")
    axes.annotate(amount("limit", median), (median, place), xytext=(0, 6), textcoords="offset points", ha="center",
                  fontsize=8, color=INK)
    if asked["goal"] is not None:
        axes.plot([asked["goal"]] * 2, [place - 0.28, place + 0.28], color=GOAL_COLOUR, linewidth=2.4, linestyle="-")


def scale(axes: Axes, values: list[float]) -> None:
    """A logarithmic scale of per cent that holds the limit and every value."""
    axes.set_xscale("log")
    low, high = min([0.1, *values]) / 1.4, max([1.0, *values]) * 1.4
    ticks = [t for t in (0.001, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 100) if low <= t <= high]
    axes.set_xlim(low, high)
    axes.set_xticks(ticks, [f"{100 * t:g}%" for t in ticks], fontsize=8)
    axes.minorticks_off()


def chart_svg(result: Entry) -> bytes:
    """The chart as an SVG file of its own, the same for the same result, with a title and a description."""
    with matplotlib.rc_context({"svg.hashsalt": "engram_ref", "svg.fonttype": "none"}):
        figure, buffer = chart(result), io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    head, root, rest = buffer.getvalue().partition("<svg")
    attributes, end, body = rest.partition(">")
    title, alt = html.escape(finding(result)), html.escape(alt_text(result))
    return f'{head}{root} role="img"{attributes}{end}\n<title>{title}</title>\n<desc>{alt}</desc>{body}'.encode()
