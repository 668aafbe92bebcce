"""The page of performance, written from the newest committed result.

    python performance.py    ->  {"pages": {"reference/performance.md": ...}, "figures": {"performance": ...}}

Nothing on the page is typed by hand: numbers, verdicts, reasons and the machine are those of the newest file in
engram_ref/bench/results/.
"""

import json
from pathlib import Path

import matplotlib
from figures import describe
from introspect import plain, table

from engram_ref.bench.report import cells, chart, machine_text, newest, notes, sizes_text, time_text, verdicts

HERE = Path(__file__).parent

HOW = """\
How fast the Numba backend is, as ratios: beside plain versions of the same work, and beside what the machine
itself allows. Sides take turns in one process, round after round; shown are the median of the rounds and the
quartiles around it. Absolute times of a shared processor mean little, so no goal is one.

- **Rivals** are frozen in `scripts/baselines.py` and use nothing of this package: rows as the authors' demo computes
  them, a C loop, and torch as a competent user writes it. A test holds that each gives the same answer as ours.
- **Limits** are measured in the same rounds: writing or copying as many bytes, reading as many random rows, the bare
  matrix product, a 64-bit divide for each row. They are the same work with nothing around it.
- **Fresh output** means that the result array is made anew at every call; else it is passed in as `out`.

The goals assume AVX-512. Elsewhere, at small sizes, or where a rival is not installed, they are shown and not
judged."""

RUN = """\
## Run it yourself

```sh
engram-ref bench                              # some minutes; torch rows need torch, the C loop needs gcc
engram-ref bench --only P1,P5 --threads 1
engram-ref bench --out result.json --plot result.svg
```

The exit code is 1 where a judged goal is missed. Rows of a CUDA device appear where torch finds one."""


def page(result: dict, file: str) -> str:
    """The page as Markdown; `file` is the result's own name."""
    counts = verdicts(result)
    found = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    told = [f"- {plain(note)}" for note in notes(result)]
    return "\n\n".join([
        "# Performance", HOW,
        f"## Results of {result['date']}\n\nGoals: {found}. The file: [{file}](../performance/results/{file}).",
        main_table(result), "{{ figure: performance }}",
        *(["## Notes", "\n".join(told)] if told else []),
        "## The machine", f"{plain(machine_text(result))}. {threads_text(result)}",
        "## Sizes and times", times_table(result), RUN]) + "\n"


def main_table(result: dict) -> str:
    """One line a comparison: what was found beside which goal."""
    head = ["row", "work", "threads", "found", "quartiles", "goal", "verdict"]
    return table(head, [[plain(cell) for cell in line] for line in cells(result)])


def times_table(result: dict) -> str:
    """The sizes of each row and the median of each side."""
    lines = []
    for row in result["rows"]:
        shown = (time_text if row["unit"] == "s" else "{:,.0f} bytes".format)
        sides = "<br>".join(f"{plain(name)}: {shown(side['median'])}" for name, side in row["sides"].items())
        lines.append([row["id"], str(row["threads"]), plain(sizes_text(row)), sides])
    return table(["row", "threads", "sizes", "medians"], lines)


def threads_text(result: dict) -> str:
    """How many threads, of what."""
    told = result["threading"]
    return (f"Rows that do not say otherwise ran on {told['threads']} threads: {plain(told['kernels'])}, and "
            f"{told['blas']} of BLAS. Every side was measured {result['rounds']} times or more.")


def main() -> None:
    path = newest()
    if path is None:
        print(json.dumps({}))
        return
    result = json.loads(path.read_text(encoding="utf-8"))
    with matplotlib.rc_context(fname=HERE / "matplotlibrc"):
        figure = describe(chart(result))
    print(json.dumps({"pages": {"reference/performance.md": page(result, path.name)},
                      "figures": {"performance": figure}}))


if __name__ == "__main__":
    main()
