"""A result in words and as a chart: the same cells for the terminal and for the page of the docs."""

import html
import io
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from engram_ref.bench.case import KINDS, OURS

if TYPE_CHECKING:       # matplotlib is imported only where a chart is drawn
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Entry = Mapping[str, object]
INK, OURS_COLOUR, GOAL_COLOUR, QUIET = "#16191d", "#0b4f8a", "#c8500a", "#6b7280"
NEAR = 0.5              # from here on a row counts as near its limit

RESULTS = Path(__file__).parent / "results"
"""Measured results that come with the package: one JSON file per run, its name beginning with the date."""


def newest(folder: Path = RESULTS) -> Path | None:
    """The latest result by file name; None if there is none."""
    return max(folder.glob("*.json"), key=lambda path: path.name, default=None)


def compared(result: Entry) -> list[tuple[Entry, Entry]]:
    """(row, comparison) of everything that was asked, in the table's order."""
    return [(row, asked) for row in result["rows"] for asked in row["comparisons"]]


def cells(result: Entry) -> list[list[str]]:
    """One line a comparison: row, work, threads, what was found, its quartiles, goal, verdict."""
    return [[row["id"], row["what"], str(row["threads"]), *comparison_cells(asked)] for row, asked in compared(result)]


def comparison_cells(asked: Entry) -> list[str]:
    """What was found, its quartiles, goal, verdict."""
    kind = asked["kind"]
    if asked["median"] is None:
        found, quartiles = f"{phrase(asked)}: {asked['why']}", ""
    else:
        found = f"{amount(kind, asked['median'])} {phrase(asked)}"
        quartiles = " to ".join(amount(kind, asked[q]) for q in ("q1", "q3"))
    if asked["goal"] is None:
        return [found, quartiles, "", ""]
    goal = f"at {'least' if KINDS[kind].at_least else 'most'} {amount(kind, asked['goal'])}"
    return [found, quartiles, goal, asked["verdict"]]


def amount(kind: str, value: float) -> str:
    """A value as a person reads it.

    >>> amount("faster", 26.14), amount("limit", 0.834), amount("memory", 1.5), amount("later", 9.87)
    ('26.1x', '83%', '1.50x', '9.9 ms')
    """
    if kind == "limit":
        return f"{100 * value:.0f}%" if value >= 0.1 else f"{100 * value:.1f}%"
    if kind == "later":
        return f"{value:.1f} ms"
    return f"{value:.0f}x" if value >= 99.5 else f"{value:.1f}x" if value >= 9.95 else f"{value:.2f}x"


def phrase(asked: Entry) -> str:
    """What a value is relative to."""
    against = asked["against"]
    text = {"faster": f"as fast as {against}", "limit": f"of the limit: {against}", "memory": f"{against}",
            "later": f"more than {against}"}[asked["kind"]]
    return text if asked["of"] == OURS else f"{text} ({str(asked['of']).removeprefix(OURS + ', ')})"


def sizes_text(row: Entry) -> str:
    """The sizes of a row, in words."""
    return ", ".join(f"{name} {value:,}" if isinstance(value, int) else f"{name} {value}"
                     for name, value in row["sizes"].items())


def machine_text(result: Entry) -> str:
    """What it was measured on, in a sentence."""
    m, v = result["machine"], result["versions"]
    caches = ", ".join(f"{name} {size}" for name, size in m["caches"].items())
    vectors = "with AVX-512" if m["avx512"] else "without AVX-512"
    used = ", ".join(f"{name} {version}" for name, version in v.items())
    return (f"{m['cpu']}, {m['cores']} cores, {vectors}" + (f", caches: {caches}" if caches else "") +
            f", {m['memory_gib']:g} GiB of memory, {m['system']}; {used}")


def verdicts(result: Entry) -> dict[str, int]:
    """How many goals were met, missed and not judged."""
    found = [asked["verdict"] for _, asked in compared(result) if asked["goal"] is not None]
    return {verdict: found.count(verdict) for verdict in ("met", "missed", "not judged")}


def notes(result: Entry) -> list[str]:
    """Notes of rows; why goals were not judged, or missed whatever was measured; notes of the run."""
    told = [f"{row['id']}: {row['note']}" for row in result["rows"] if row["note"]]
    reasons: dict[str, list[str]] = {}
    for row, asked in compared(result):
        if asked["goal"] is not None and asked["why"]:
            reasons.setdefault(f"{asked['verdict']}: {asked['why']}", []).append(row["id"])
    told += [f"{', '.join(dict.fromkeys(ids))} {reason}" for reason, ids in reasons.items()]
    return list(dict.fromkeys([*told, *result["notes"]]))


def time_text(seconds: float) -> str:
    """A time with the unit that fits it.

    >>> time_text(9.3e-07), time_text(0.0123), time_text(2.5)
    ('930 ns', '12.3 ms', '2.5 s')
    """
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


def shares(result: Entry) -> list[tuple[str, Entry]]:
    """(label, comparison) of everything held against a limit, in the table's order."""
    return [(f"{row['id']}  {row['what']}" + (f", {row['threads']} threads" if row["threads"] > 1 else ""), asked)
            for row, asked in compared(result)
            if asked["kind"] == "limit" and asked["of"] == OURS and asked["median"] is not None]


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
    parts = [f"{label}: {amount('limit', asked['median'])} of {asked['against']}"
             for label, asked in shares(result)]
    return "Dots on a logarithmic scale of shares of a limit, with quartiles. " + "; ".join(parts) + "."


def chart(result: Entry) -> "Figure":
    """A dot a row with its quartiles, a line at the limit, a bar where a goal stands."""
    from matplotlib.figure import Figure

    found = shares(result)
    figure = Figure(figsize=(7.6, 1.5 + 0.5 * max(len(found), 1)), layout="constrained")
    axes = figure.subplots()
    for place, (_, asked) in enumerate(found):
        draw(axes, place, asked)
    axes.axvline(1.0, color=INK, linewidth=1.0, linestyle="-", zorder=0)
    axes.set_yticks(range(len(found)), [f"{label}\nagainst {asked['against']}" for label, asked in found],
                    fontsize=8)
    axes.set_ylim(len(found) - 0.5, -0.6)
    scale(axes, [asked["median"] for _, asked in found])
    axes.set_xlabel("share of the limit (dot: median, line: quartiles, bar: goal)", fontsize=9)
    axes.grid(axis="x", color=QUIET, alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(textwrap.fill(finding(result), 84), x=0.01, ha="left", fontsize=10, color=INK)
    figure.set_label(alt_text(result))
    return figure


def draw(axes: "Axes", place: int, asked: Entry) -> None:
    """One row: quartiles, median, its value, its goal; hollow where the goal was missed."""
    median = asked["median"]
    axes.plot([asked["q1"], asked["q3"]], [place, place], color=OURS_COLOUR, linewidth=1.6, linestyle="-")
    face = "white" if asked["verdict"] == "missed" else OURS_COLOUR
    axes.plot(median, place, marker="o", markersize=6.5, color=OURS_COLOUR, markerfacecolor=face, linestyle="none")
    axes.annotate(amount("limit", median), (median, place), xytext=(0, 6), textcoords="offset points", ha="center",
                  fontsize=8, color=INK)
    if asked["goal"] is not None:
        axes.plot([asked["goal"]] * 2, [place - 0.28, place + 0.28], color=GOAL_COLOUR, linewidth=2.4, linestyle="-")


def scale(axes: "Axes", values: list[float]) -> None:
    """A logarithmic scale of per cent that holds the limit and every value."""
    axes.set_xscale("log")
    low, high = min([0.1, *values]) / 1.4, max([1.0, *values]) * 1.4
    ticks = [t for t in (0.001, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 100) if low <= t <= high]
    axes.set_xlim(low, high)
    axes.set_xticks(ticks, [f"{100 * t:g}%" for t in ticks], fontsize=8)
    axes.minorticks_off()


def chart_svg(result: Entry) -> bytes:
    """The chart as an SVG file of its own, the same for the same result, with a title and a description."""
    import matplotlib

    with matplotlib.rc_context({"svg.hashsalt": "engram_ref", "svg.fonttype": "none"}):
        figure, buffer = chart(result), io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    head, root, rest = buffer.getvalue().partition("<svg")
    attributes, end, body = rest.partition(">")
    title, alt = html.escape(finding(result)), html.escape(alt_text(result))
    return f'{head}{root} role="img"{attributes}{end}\n<title>{title}</title>\n<desc>{alt}</desc>{body}'.encode()
