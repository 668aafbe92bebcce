"""Write the pages about the kill matrix from engram_ref/data/kill_matrix.json.

    python matrix.py    ->  {"pages": {"oracle/kill-matrix.md": ..., ...}, "figures": {"kill matrix": ...}}

scripts/kill_matrix.py computes the file, and a test compares it with a new computation.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import matplotlib
from figures import INK, PALETTE, describe
from introspect import plain, table
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path as Outline

from engram_ref.oracle.bugs import BUGS

HERE = Path(__file__).parent
FILE = HERE.parents[1] / "engram_ref" / "data" / "kill_matrix.json"
WHOLE = ("float64", "float32")
SQUARE = ((0, 0), (1, 0), (1, 1), (0, 1), (0, 0))
CODES = (Outline.MOVETO, *[Outline.LINETO] * 3, Outline.CLOSEPOLY)
LEVELS = {
    "all": ("fails in float64, float32, bfloat16 and float16", 0.9, PALETTE[0], 1.0),
    "wide": ("fails in float64 and float32 only", 0.9, PALETTE[0], 0.5),
    "some": ("fails in some of the formats", 0.9, PALETTE[0], 0.22),
    "none": ("answers change, but every case passes", 0.5, PALETTE[1], 1.0),
    "equal": ("no answer changes", 0.2, PALETTE[5], 1.0),
}
"""Level -> meaning, size of its square, colour, opacity. In grey, the levels differ in lightness and size."""

KILL_MATRIX = """\
# Kill matrix

The [bug catalogue](../reference/api/oracle/bugs.md) has small wrong implementations of the mistakes that ports make.
For each bug, the matrix states which cases of the [kit](kit.md) fail. A wrong port is emulated in six forms:

- **float64** and **float32**: computed in this format, with every stage as an answer
- **bf16 outputs** and **fp16 outputs**: computed in float32, with only the outputs as answers, stored in 16 bits: a
  fused kernel
- **bf16 stages** and **fp16 stages**: every stage of the module is stored in 16 bits and read back from there

`scripts/kill_matrix.py` computes the matrix, and the build of this project fails if a bug survives in float64 or
float32, or if the result differs from this page. A cell counts as killed only if the correct port passes the same
cases."""

GATE = """\
# What a test at 1e-2 lets through

A common test of a fused kernel draws inputs from N(0, 1) in bfloat16 and compares the result with a reference at
`rtol = atol = 1e-2`. This page applies such a test of Engram's gate to every bug of the
[catalogue](../reference/api/oracle/bugs.md) in the ops that it runs, and compares it with the [kit](kit.md). The
test computes

    h + alpha v,     alpha = sigma(copysign(sqrt(max(|s|, 1e-6)), s)),     s = <RMSNorm(h), RMSNorm(k)> / sqrt(D)

for 64 tokens, 4 branches and D = 1024, in float32 with the final rounding to bfloat16; see `scripts/gate_test.py`."""

WHY = """\
Random scores are near 1 and random vectors have unit variance. A clamp at 1e-6, the sign of a zero, or an epsilon of
1e-5 therefore changes nothing, or less than the tolerance. DEAD positions do not occur. The kit has inputs that are
solved to reach these points, and its tolerance is the rounding error of the computation instead of a constant."""


def level(cells: Mapping[str, str], column: int) -> str | None:
    """The level of one bug and group, or None if the group does not use what the bug changes."""
    found = {form: row[column] for form, row in cells.items() if "stages" not in form and row[column] != "."}
    killed = {form for form, cell in found.items() if cell == "K"}
    if not found:
        return None
    if not killed:
        return "none" if "s" in found.values() else "equal"
    return "all" if len(killed) == len(found) else "wide" if killed >= {*WHOLE} else "some"


def finding(matrix: dict) -> str:
    """The title: what survives in which format."""
    survivors = matrix["survivors"]
    wide = sorted({*survivors["float64"], *survivors["float32"]})
    said = "No bug survives" if not wide else f"{len(wide)} of {len(matrix['cells'])} bugs survive"
    return (f"{said} in float64 and float32;\n{len(survivors['bf16 outputs'])} of {len(matrix['cells'])} are hidden by "
            f"outputs in bfloat16, {len(survivors['fp16 outputs'])} in float16")


def heat_map(matrix: dict) -> Figure:
    """One row per bug, one column per group."""
    names, groups = list(matrix["cells"]), matrix["groups"]
    figure = Figure(figsize=(7.6, 1.9 + 0.108 * len(names)), layout="constrained")
    axes = figure.subplots()
    for key, (meaning, size, colour, opacity) in LEVELS.items():
        at = [(x, y) for y, name in enumerate(names) for x in range(len(groups))
              if level(matrix["cells"][name], x) == key]
        corners = [(x + size * (dx - 0.5), y + size * (dy - 0.5)) for x, y in at for dx, dy in SQUARE]
        if corners:
            axes.add_patch(PathPatch(Outline(corners, CODES * len(at)), facecolor=colour, alpha=opacity, linewidth=0))
        axes.plot([], [], marker="s", linestyle="none", markersize=7 * size, color=colour, alpha=opacity, label=meaning,
                  markeredgewidth=0)
    axes.set_xlim(-0.6, len(groups) - 0.4)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_yticks(range(len(names)), names, fontsize=5.8)
    axes.set_xticks(range(len(groups)), groups, fontsize=6.5, rotation=90)
    axes.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False)
    for side in axes.spines.values():
        side.set_visible(False)
    for edge in (x for x in range(1, len(groups)) if groups[x].split("/")[0] != groups[x - 1].split("/")[0]):
        axes.axvline(edge - 0.5, color=PALETTE[5], linewidth=0.7, linestyle="-")
    figure.legend(loc="outside upper left", ncols=2, fontsize=7.5)
    figure.suptitle(finding(matrix), x=0.01, ha="left", fontsize=10, color=INK[0])
    figure.set_label(alt_text(matrix))
    return figure


def alt_text(matrix: dict) -> str:
    killed = sum("K" in row["float64"] and "K" in row["float32"] for row in matrix["cells"].values())
    return (f"A heat map with one row for each of {len(matrix['cells'])} bugs and one column for each of "
            f"{len(matrix['groups'])} groups of cases. {killed} rows have a group that fails in float64 and in "
            "float32. The table below the figure has the same data as text.")


def counted(row: str) -> str:
    """For example "3 of 5": groups that kill, of those that use what the bug changes."""
    applicable = len(row) - row.count(".")
    return f"{row.count('K')} of {applicable}" if applicable else ""


def kill_page(matrix: dict) -> str:
    forms, names = matrix["forms"], list(matrix["cells"])
    rows = [[f"`{name}`", *(counted(matrix["cells"][name][form]) for form in forms)] for name in names]
    lines = table(["bug", *forms], rows).splitlines()
    parts = [KILL_MATRIX, "{{ figure: kill matrix }}",
             "## Groups that fail\n\nOf the groups that call what a bug changes, the number with a failing case. "
             "Empty: no such group has answers in this form; stages are stored only in the module.",
             '??? note "All bugs"\n\n' + "\n".join(f"    {line}" for line in lines),
             "## Bugs that a form hides\n\nIn these forms of answer, the kit cannot show the bug: its cases change too "
             "little, or not at all, before the answer is stored."]
    for form in forms:
        hidden = matrix["survivors"][form]
        listed = table(["bug", "why"], [[f"`{name}`", plain(why)] for name, why in hidden.items()])
        parts += [f"### {form}", listed if hidden else "None."]
    return "\n\n".join(parts) + "\n"


def gate_page(matrix: dict) -> str:
    passed, failed = (matrix["gate test"][result] for result in ("passed", "failed"))
    killers = lambda name: [matrix["groups"][i] for i, cell in enumerate(matrix["cells"][name]["float32"])
                            if cell == "K"]
    rows = [[f"`{name}`", plain(BUGS[name].cause), ", ".join(killers(name)) or "none"] for name in passed]
    return "\n\n".join([
        GATE, f"## Result\n\nOf {len(passed) + len(failed)} bugs of V4.1 in these ops, {len(passed)} pass the test and "
        f"{len(failed)} fail it. The kit kills {sum(bool(killers(name)) for name in passed)} of the {len(passed)}.",
        table(["bug that passes", "what it computes", "groups of the kit that fail"], rows),
        f"The test finds {', '.join(f'`{name}`' for name in failed)}.", f"## Why\n\n{WHY}"]) + "\n"


def main() -> None:
    matrix = json.loads(FILE.read_text(encoding="utf-8"))
    with matplotlib.rc_context(fname=HERE / "matplotlibrc"):
        figure = describe(heat_map(matrix))
    pages = {"oracle/kill-matrix.md": kill_page(matrix), "oracle/what-1e-2-lets-through.md": gate_page(matrix)}
    print(json.dumps({"pages": pages, "figures": {"kill matrix": figure}}))


if __name__ == "__main__":
    main()
