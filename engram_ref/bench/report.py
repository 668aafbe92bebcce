"""A result as text and as a chart; the terminal and the docs page print the same cells."""

import html
import io
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from engram_ref.bench.case import METRICS, OURS

if TYPE_CHECKING:       # matplotlib is imported only to draw a chart
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Entry = Mapping[str, object]
INK, OURS_COLOUR, GOAL_COLOUR, QUIET = "#16191d", "#0b4f8a", "#c8500a", "#6b7280"
NEAR = 0.5              # from this fraction on, a row counts as near its limit

RESULTS = Path(__file__).parent / "results"
"""Results shipped with the package: one JSON file per run; the file name begins with the date."""


def newest(folder: Path = RESULTS) -> Path | None:
    """The latest result by file name; None if there are no results."""
    return max(folder.glob("*.json"), key=lambda path: path.name, default=None)


def comparisons(result: Entry) -> list[tuple[Entry, Entry]]:
    """Every (row, comparison) of a result, in the order of the table."""
    return [(row, comparison) for row in result["rows"] for comparison in row["comparisons"]]


def heading(row: Entry) -> str:
    """Title and number of threads of a row."""
    return f"{row['title']}, {row['threads']} thread{'s' * (row['threads'] > 1)}"


def cells(result: Entry) -> list[list[str]]:
    """Per comparison: work and threads, result, quartiles, goal, status."""
    return [[heading(row), *comparison_cells(comparison)] for row, comparison in comparisons(result)]


def comparison_cells(comparison: Entry) -> list[str]:
    """Result, quartiles, goal, status."""
    metric = comparison["metric"]
    if comparison["median"] is None:
        text, quartiles = f"{phrase(comparison)}: {comparison['reason']}", ""
    else:
        text = f"{amount(metric, comparison['median'])} {phrase(comparison)}"
        quartiles = " to ".join(amount(metric, comparison[q]) for q in ("q1", "q3"))
    if comparison["goal"] is None:
        return [text, quartiles, "", ""]
    goal = f"at {'least' if METRICS[metric].more_is_better else 'most'} {amount(metric, comparison['goal'])}"
    return [text, quartiles, goal, comparison["status"]]


def amount(metric: str, value: float) -> str:
    """A value with its unit.

    >>> amount("speedup", 26.14), amount("limit", 0.834), amount("memory", 1.5), amount("delay", 9.87)
    ('26.1x', '83%', '1.50x', '9.9 ms')
    """
    if metric == "limit":
        return f"{100 * value:.0f}%" if value >= 0.1 else f"{100 * value:.1f}%"
    if metric == "delay":
        return f"{value:.1f} ms"
    return f"{value:.0f}x" if value >= 99.5 else f"{value:.1f}x" if value >= 9.95 else f"{value:.2f}x"


def phrase(comparison: Entry) -> str:
    """The text after a value: the baseline or limit that it is relative to."""
    against = comparison["against"]
    text = {"speedup": f"as fast as {against}", "limit": f"of the limit: {against}", "memory": f"{against}",
            "delay": f"more than {against}"}[comparison["metric"]]
    return text if comparison["of"] == OURS else f"{text} ({str(comparison['of']).removeprefix(OURS + ', ')})"


def sizes_text(row: Entry) -> str:
    """The sizes of a row in one line."""
    return ", ".join(f"{name} {value:,}" if isinstance(value, int) else f"{name} {value}"
                     for name, value in row["sizes"].items())


def machine_text(result: Entry) -> str:
    """Machine and library versions in one sentence."""
    m, v = result["machine"], result["versions"]
    caches = ", ".join(f"{name} {size}" for name, size in m["caches"].items())
    vectors = "with AVX-512" if m["avx512"] else "without AVX-512"
    used = ", ".join(f"{name} {version}" for name, version in v.items())
    return (f"{m['cpu']}, {m['cores']} cores, {vectors}" + (f", caches: {caches}" if caches else "") +
            f", {m['memory_gib']:g} GiB of memory, {m['system']}; {used}")


def status_counts(result: Entry) -> dict[str, int]:
    """Number of goals that were met, missed and not judged."""
    statuses = [comparison["status"] for _, comparison in comparisons(result) if comparison["goal"] is not None]
    return {status: statuses.count(status) for status in ("met", "missed", "not judged")}


def notes(result: Entry) -> list[str]:
    """Notes of the rows, reasons for goals that were not judged or always count as missed, notes of the run."""
    lines = [f"{row['title']}: {row['note']}" for row in result["rows"] if row["note"]]
    reasons: dict[str, list[str]] = {}
    for row, comparison in comparisons(result):
        if comparison["goal"] is not None and comparison["reason"]:
            reasons.setdefault(f"{comparison['status']}, {comparison['reason']}", []).append(row["title"])
    lines += [f"{reason}: {'; '.join(dict.fromkeys(titles))}" for reason, titles in reasons.items()]
    return list(dict.fromkeys([*lines, *result["notes"]]))


def fractions(result: Entry) -> list[tuple[str, Entry]]:
    """(heading, comparison) of everything that was compared with a limit, in the order of the table."""
    return [(heading(row), comparison) for row, comparison in comparisons(result)
            if comparison["metric"] == "limit" and comparison["of"] == OURS and comparison["median"] is not None]


def finding(result: Entry) -> str:
    """The chart's title: one sentence computed from its data."""
    medians = [comparison["median"] for _, comparison in fractions(result)]
    if not medians:
        return "Nothing was compared with a limit"
    near = sum(value >= NEAR for value in medians)
    quick = ", at small sizes, which do not measure speed" if result["quick"] else ""
    return (f"{near} of {len(medians)} measurements reach {NEAR:.0%} or more of what the machine allows; "
            f"the lowest is {amount('limit', min(medians))}{quick}")


def alt_text(result: Entry) -> str:
    """The chart's alt text."""
    parts = [f"{label}: {amount('limit', comparison['median'])} of the limit, {comparison['against']}"
             for label, comparison in fractions(result)]
    return "Dots on a logarithmic scale: fraction of a limit, with quartiles. " + "; ".join(parts) + "."


def chart(result: Entry) -> "Figure":
    """One line per row: median and quartiles as a fraction of the limit, and the goal."""
    from matplotlib.figure import Figure

    entries = fractions(result)
    figure = Figure(figsize=(7.6, 1.9 + 0.5 * max(len(entries), 1)), layout="constrained")
    axes = figure.subplots()
    for y, (_, comparison) in enumerate(entries):
        draw(axes, y, comparison)
    axes.axvline(1.0, color=INK, linewidth=1.0, linestyle="-", zorder=0)
    axes.set_yticks(range(len(entries)), [f"{label}\nlimit: {comparison['against']}" for label, comparison in entries],
                    fontsize=8)
    axes.set_ylim(len(entries) - 0.5, -0.6)
    scale(axes, [comparison["median"] for _, comparison in entries])
    axes.set_xlabel("fraction of the limit (100% = what the machine allows)", fontsize=9)
    axes.grid(axis="x", color=QUIET, alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    legend(axes)
    figure.suptitle(textwrap.fill(finding(result), 92), x=0.01, ha="left", fontsize=10, color=INK)
    figure.set_label(alt_text(result))
    return figure


def draw(axes: "Axes", y: int, comparison: Entry) -> None:
    """One row: quartiles, median with its value, goal; the dot is hollow if the goal was missed."""
    median = comparison["median"]
    axes.plot([comparison["q1"], comparison["q3"]], [y, y], color=OURS_COLOUR, linewidth=1.6, linestyle="-")
    face = "white" if comparison["status"] == "missed" else OURS_COLOUR
    axes.plot(median, y, marker="o", markersize=6.5, color=OURS_COLOUR, markerfacecolor=face, linestyle="none")
    axes.annotate(amount("limit", median), (median, y), xytext=(0, 6), textcoords="offset points", ha="center",
                  fontsize=8, color=INK)
    if comparison["goal"] is not None:
        axes.plot([comparison["goal"]] * 2, [y, y + 0.32], color=GOAL_COLOUR, linewidth=2.4, linestyle="-")


def legend(axes: "Axes") -> None:
    """Explain dots, lines and bars below the axis."""
    dot = {"marker": "o", "linestyle": "none", "markersize": 6.5, "color": OURS_COLOUR}
    marks = [axes.plot([], [], label=label, **style)[0] for label, style in (
        ("median", dot), ("median, goal missed", dot | {"markerfacecolor": "white"}),
        ("quartiles", {"color": OURS_COLOUR, "linewidth": 1.6}), ("goal", {"color": GOAL_COLOUR, "linewidth": 2.4}))]
    axes.figure.legend(handles=marks, loc="outside lower center", ncols=4, fontsize=8, frameon=False)


def scale(axes: "Axes", values: list[float]) -> None:
    """A logarithmic percent scale that covers the limit and every value."""
    axes.set_xscale("log")
    low, high = min([0.1, *values]) / 1.4, max([1.0, *values]) * 1.4
    ticks = [t for t in (0.001, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 100) if low <= t <= high]
    axes.set_xlim(low, high)
    axes.set_xticks(ticks, [f"{100 * t:g}%" for t in ticks], fontsize=8)
    axes.minorticks_off()


def chart_svg(result: Entry) -> bytes:
    """The chart as a standalone SVG file with title and description; equal results give equal bytes."""
    import matplotlib

    with matplotlib.rc_context({"svg.hashsalt": "engram_ref", "svg.fonttype": "none"}):
        figure, buffer = chart(result), io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    head, root, rest = buffer.getvalue().partition("<svg")
    attributes, end, body = rest.partition(">")
    title, alt = html.escape(finding(result)), html.escape(alt_text(result))
    return f'{head}{root} role="img"{attributes}{end}\n<title>{title}</title>\n<desc>{alt}</desc>{body}'.encode()
